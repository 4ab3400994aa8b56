"""Standard MIDI Files ↔ notes."""

from __future__ import annotations

import io
import logging
import warnings
from pathlib import Path

import mido
import numpy as np
import pretty_midi

from musicnet_tf.errors import ScoreError
from musicnet_tf.events import UNKNOWN, Beats, Notes, Score
from musicnet_tf.scores.note_values import note_value
from musicnet_tf.scores.tempo import TempoMap

DEFAULT_VELOCITY = 80
"""Written where the velocity is unknown, for MIDI cannot leave it out."""

MAX_TICKS = int(pretty_midi.pretty_midi.MAX_TICK)
"""From the beginning to the last event: pretty_midi holds the time of each."""

_TICKS_PER_SECOND = 1000
_TEMPO = 120.0
_SUSTAIN = 64
_DRUMS = 9
_MICROSECONDS = 500_000
"""A quarter note at 120 a minute, which MIDI takes where it is told none."""
_MIN_MEASURE = 1 / 16
_log = logging.getLogger(__name__)


def read_midi(path: str | Path, sustain: bool = False) -> Notes:
    """Reads the pitched notes of a Standard MIDI File; drums are left out.

    A note ends as written or, with `sustain`, when the pedal (controller 64 at 64 or more) that holds
    it is lifted, but no later than the next onset of the same pitch. Notes without a duration, or
    that are never ended, do not sound: they are dropped, and counted in a warning of the log.

    Raises:
        ScoreError: where the file is missing or is no MIDI file.
    """
    return _notes(path, *_interpret(path, _parse(path)), sustain)


def read_midi_score(path: str | Path, *, constant_tempo: bool = False) -> Score:
    """Reads a Standard MIDI File as a score, whose beats are quarter notes: ticks by the division of the file.

    Drums are left out, and so are notes without duration. Measures follow the time signatures, 4/4 before
    the first of them. `constant_tempo` counts 120 quarter notes a minute whatever the file says.

    Raises:
        ScoreError: where the file is no MIDI file, has no division into quarter notes, has more ticks
            than any music, or a tempo that cannot be.
    """
    raw = _parse(path)
    resolution = raw.ticks_per_beat
    if resolution <= 0:
        what = "0 ticks" if resolution == 0 else "SMPTE frames"
        raise ScoreError(f"{path}: its division is {what} and not ticks a quarter note; export the score again")
    events = [(tick / resolution, message) for tick, message in _meta(raw)]
    tempi = [(beat, 6e7 / m.tempo if m.tempo else np.inf) for beat, m in events if m.type == "set_tempo"]
    tempo_map = TempoMap([] if constant_tempo else tempi, path)
    last = max((sum(message.time for message in track) for track in raw.tracks), default=0)
    if last >= MAX_TICKS:
        hours = float(tempo_map.seconds(np.array(last / resolution))) / 3600
        raise ScoreError(
            f"{path}: ends after {last} ticks ({hours:.1f} hours); no more than {MAX_TICKS} can be read: cut the"
            " score, or export it with fewer ticks a quarter note"
        )
    for track in raw.tracks:  # at one tempo, pretty_midi's seconds are ticks
        track[:] = [m.copy(tempo=_MICROSECONDS) if m.type == "set_tempo" else m for m in track]
    notes = _notes(path, *_interpret(path, raw), sustain=False)
    start, end = (np.round(column * resolution * 2) / resolution for column in (notes.onset, notes.offset))
    signatures = [(beat, 4 * m.numerator / m.denominator) for beat, m in events if m.type == "time_signature"]
    measures = tempo_map.seconds(_measures(signatures, end.max(initial=0.0)))
    beats = {"start_beat": start, "end_beat": end - start, "note_value": note_value(end - start)}
    return Score(with_columns(notes, onset=tempo_map.seconds(start), offset=tempo_map.seconds(end), **beats), measures)


def read_midi_beats(path: str | Path) -> Beats:
    """The beats of a Standard MIDI File by its tempi and time signatures, 4/4 before the first of them.

    They begin at time 0 and end with the file. A compound bar of 6, 9 or 12 has 2, 3 or 4 beats.

    Raises:
        ScoreError: where the file is missing or is no MIDI file.
    """
    midi, _ = _interpret(path, _parse(path))
    try:
        time, downbeats = midi.get_beats(), midi.get_downbeats()
    except Exception as error:  # on a time signature or tempo that cannot be it raises whatever it stumbles over
        raise _unreadable(path, error) from error
    time = time[np.diff(time, prepend=-np.inf) > 0]
    index = np.arange(len(time))
    begins = np.isin(time, downbeats)
    return Beats(time, index - np.maximum.accumulate(np.where(begins, index, 0)) + 1)


def _meta(raw: mido.MidiFile) -> list[tuple[int, mido.MetaMessage]]:
    """Tempi and time signatures of all tracks with their ticks from the beginning, in order."""
    found = []
    for track in raw.tracks:
        tick = 0
        for message in track:
            tick += message.time
            if message.type in ("set_tempo", "time_signature"):
                found.append((tick, message))
    return sorted(found, key=lambda event: event[0])


def _measures(signatures: list[tuple[float, float]], end: float) -> np.ndarray:
    """Where measures begin, in quarter notes: each signature (place, length of a measure) begins one."""
    lengths = {0.0: 4.0} | {beat: length for beat, length in signatures if length >= _MIN_MEASURE and beat < end}
    stops = [*list(lengths)[1:], end]
    parts = [
        np.arange(np.ceil((stop - beat) / length - 1e-9)) * length + beat
        for (beat, length), stop in zip(lengths.items(), stops, strict=True)
    ]
    return np.concatenate(parts)


def _notes(path: str | Path, midi: pretty_midi.PrettyMIDI, struck: int, sustain: bool) -> Notes:
    parts = []
    for instrument in midi.instruments:
        rows = [(n.start, n.end, n.pitch, n.velocity) for n in instrument.notes if n.end > n.start]
        struck -= len(rows) if not instrument.is_drum else 0
        if instrument.is_drum or not rows:
            continue
        onset, offset, pitch, velocity = (np.array(column) for column in zip(*rows, strict=True))
        if sustain:
            offset = _sustained(onset, offset, pitch, _pedal(instrument, midi.get_end_time()))
        parts.append(Notes(onset, offset, pitch, velocity, np.full(len(onset), instrument.program)))
    if struck:
        _log.warning("%s: %d notes without duration were dropped", path, struck)
    return Notes.concatenate(parts)


def to_midi(notes: Notes) -> pretty_midi.PrettyMIDI:
    """Notes as MIDI: one track a program, ticks of 1 ms at 120 beats a minute.

    An unknown instrument becomes program 0, an unknown velocity `DEFAULT_VELOCITY`. What lies before
    time 0 is cut. Overlaps that MIDI cannot express are resolved by `without_overlaps`.
    """
    notes = without_overlaps(_on_ticks(notes))
    midi = pretty_midi.PrettyMIDI(resolution=round(_TICKS_PER_SECOND * 60 / _TEMPO), initial_tempo=_TEMPO)
    for program in np.unique(notes.instrument).tolist():
        instrument = pretty_midi.Instrument(program, name=pretty_midi.program_to_instrument_name(program))
        instrument.notes = [
            pretty_midi.Note(DEFAULT_VELOCITY if n.velocity == UNKNOWN else n.velocity, n.pitch, n.onset, n.offset)
            for n in notes[notes.instrument == program]
        ]
        midi.instruments.append(instrument)
    return midi


def without_overlaps(notes: Notes) -> Notes:
    """The notes as one MIDI channel an instrument can play them.

    A note ends no later than the next onset of its pitch and instrument; of several with the same
    onset only the longest stays.
    """
    order = np.lexsort((-notes.offset, notes.onset, notes.pitch, notes.instrument))
    notes_key = np.stack([notes.instrument, notes.pitch])[:, order]
    onset, offset = notes.onset[order], notes.offset[order].copy()
    same = (np.diff(notes_key, axis=1) == 0).all(axis=0)
    first = np.concatenate([[True], ~(same & (np.diff(onset) == 0))])[: len(notes)]
    order, onset, offset, notes_key = order[first], onset[first], offset[first], notes_key[:, first]
    same = (np.diff(notes_key, axis=1) == 0).all(axis=0)
    following = np.concatenate([np.where(same, onset[1:], np.inf), [np.inf]])[: len(onset)]
    cut = notes.offset.copy()
    cut[order] = np.minimum(offset, following)
    return with_columns(notes, offset=cut)[np.sort(order)]


def with_columns(notes: Notes, **columns: np.ndarray) -> Notes:
    """The same notes with some columns replaced."""
    names = ("onset", "offset", "pitch", "velocity", "instrument", "start_beat", "end_beat", "note_value")
    return Notes(**{name: columns.get(name, getattr(notes, name)) for name in names})


def _on_ticks(notes: Notes) -> Notes:
    notes = notes[notes.offset > 0]
    start = np.maximum(np.round(notes.onset * _TICKS_PER_SECOND), 0)
    end = np.maximum(np.round(notes.offset * _TICKS_PER_SECOND), start + 1)
    instrument = np.where(notes.instrument == UNKNOWN, 0, notes.instrument)
    return with_columns(notes, onset=start / _TICKS_PER_SECOND, offset=end / _TICKS_PER_SECOND, instrument=instrument)


def _parse(path: str | Path) -> mido.MidiFile:
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ScoreError(f"{path}: cannot be read ({error.strerror})") from error
    if not data:
        raise ScoreError(f"{path}: the file is empty")
    try:
        return mido.MidiFile(file=io.BytesIO(data))
    except Exception as error:  # on damaged bytes the parser raises whatever it stumbles over
        raise _unreadable(path, error) from error


def _interpret(path: str | Path, raw: mido.MidiFile) -> tuple[pretty_midi.PrettyMIDI, int]:
    """Notes in seconds, and how many are struck outside the drum channel. Turns `raw`'s times into absolute ones."""
    try:
        struck = sum(m.type == "note_on" and m.velocity > 0 and m.channel != _DRUMS for t in raw.tracks for m in t)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pretty_midi warns of tempo changes off the first track, and reads them
            return pretty_midi.PrettyMIDI(mido_object=raw), struck
    except Exception as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str | Path, error: Exception) -> ScoreError:
    return ScoreError(f"{path}: not a readable Standard MIDI File ({error or type(error).__name__})")


def _pedal(instrument: pretty_midi.Instrument, end: float) -> np.ndarray:
    """`(k, 2)` seconds during which the sustain pedal is down."""
    spans, down = [], None
    for change in sorted((c for c in instrument.control_changes if c.number == _SUSTAIN), key=lambda c: c.time):
        if change.value >= 64 and down is None:
            down = change.time
        elif change.value < 64 and down is not None:
            spans.append((down, change.time))
            down = None
    if down is not None:
        spans.append((down, max(end, down)))
    return np.array(spans, np.float64).reshape(-1, 2)


def _sustained(onset: np.ndarray, offset: np.ndarray, pitch: np.ndarray, pedal: np.ndarray) -> np.ndarray:
    """Offsets that lie within a span of the pedal, moved to its end or to the next onset of the pitch."""
    if not len(pedal):
        return offset
    span = np.searchsorted(pedal[:, 0], offset, side="right") - 1
    held = np.where(span >= 0, pedal[np.maximum(span, 0), 1], -np.inf)
    limit = np.full(len(onset), np.inf)
    for value in np.unique(pitch):
        index = np.flatnonzero(pitch == value)
        starts = np.unique(onset[index])
        limit[index] = np.append(starts, np.inf)[np.searchsorted(starts, onset[index], side="right")]
    return np.maximum(offset, np.minimum(held, limit))
