"""Score and label files ↔ notes: MusicNet's CSV, MAPS' tables and MIDI. Needs no TensorFlow."""

from __future__ import annotations

import csv
import io
import logging
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import mido
import numpy as np
import pretty_midi

from musicnet_tf.errors import ScoreError
from musicnet_tf.events import UNKNOWN, Notes

MUSICNET_COLUMNS = ("start_time", "end_time", "instrument", "note", "start_beat", "end_beat", "note_value")
DEFAULT_VELOCITY = 80
"""Written where the velocity is unknown, for MIDI cannot leave it out."""

_TICKS_PER_SECOND = 1000
_TEMPO = 120.0
_SUSTAIN = 64
_log = logging.getLogger(__name__)


def read(path: str | Path) -> Notes:
    """Reads a label or score file of any known form, told by its suffix.

    Raises:
        ScoreError: where the suffix is unknown or the file is not what its suffix says.
    """
    reader = READERS.get(Path(path).suffix.lower())
    if reader is None:
        raise ScoreError(f"{path}: unknown kind of score; use one of {', '.join(sorted(READERS))}")
    return reader(path)


def read_musicnet_csv(path: str | Path, sample_rate: int = 44100) -> Notes:
    """Reads a label file in MusicNet's columns, found by name; beats and note value may be absent.

    Times are sample indices at `sample_rate`. Instruments count General MIDI from 1 in the file and
    from 0 in the result; 0 in the file means unknown. A row that ends at or before its start is an
    error: none of the 1,073,980 rows of the published training labels does.

    Raises:
        ScoreError: naming file and line.
    """
    table = _Table(path, delimiter=",")
    start, end = table.integers("start_time"), table.integers("end_time")
    instrument, pitch = table.integers("instrument"), table.integers("note")
    table.refuse((instrument < 0) | (instrument > 128), "instrument must be 1–128, or 0 for unknown")
    optional = {name: table.floats(name, missing=np.nan) for name in MUSICNET_COLUMNS[4:6] if name in table.header}
    if "note_value" in table.header:
        optional["note_value"] = np.array(table.cells("note_value"), dtype=np.str_)
    table.check_notes(start, end, pitch)
    return Notes(start / sample_rate, end / sample_rate, pitch, None, instrument - 1, **optional)  # type: ignore[arg-type]


def is_musicnet_csv(path: str | Path) -> bool:
    """Whether a file's first line names MusicNet's columns."""
    try:
        with Path(path).open("rb") as file:
            first = file.readline(400).decode("utf-8-sig", "replace")
    except OSError:
        return False
    return set(MUSICNET_COLUMNS[:4]) <= {name.strip() for name in first.split(",")}


def format_musicnet_csv(notes: Notes, sample_rate: int = 44100) -> str:
    """The text that `read_musicnet_csv` reads back to the same notes, times rounded to samples.

    Unknown beats and note values are left empty. An unknown instrument is written as 0, which is no
    General MIDI number: to call it 1 would claim a piano. MusicNet has no velocity, so it is lost.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(MUSICNET_COLUMNS)
    start = np.round(notes.onset * sample_rate).astype(np.int64)
    end = np.maximum(np.round(notes.offset * sample_rate).astype(np.int64), start + 1)
    beats = [["" if np.isnan(x) else x for x in column.tolist()] for column in (notes.start_beat, notes.end_beat)]
    instrument = np.where(notes.instrument == UNKNOWN, 0, notes.instrument + 1)
    columns = (start.tolist(), end.tolist(), instrument.tolist(), notes.pitch.tolist(), *beats, notes.note_value)
    writer.writerows(zip(*columns, strict=True))
    return out.getvalue()


def read_maps_tsv(path: str | Path) -> Notes:
    """Reads MAPS labels: `# onset,offset,note,velocity` with tabs, or MAPS' own `OnsetTime OffsetTime MidiPitch`.

    Times are in seconds. The instrument is piano, program 0.

    Raises:
        ScoreError: naming file and line.
    """
    table = _Table(path, delimiter="\t")
    onset, offset, pitch = table.floats("onset"), table.floats("offset"), table.integers("note")
    table.check_notes(onset, offset, pitch)
    velocity = None
    if "velocity" in table.header:
        velocity = table.integers("velocity")
        table.refuse((velocity < 1) | (velocity > 127), "velocity must be 1–127")
    return Notes(onset, offset, pitch, velocity, np.zeros(len(onset), np.int64))  # type: ignore[arg-type]


def read_midi(path: str | Path, sustain: bool = False) -> Notes:
    """Reads the pitched notes of a Standard MIDI File; drums are left out.

    A note ends as written or, with `sustain`, when the pedal (controller 64 at 64 or more) that holds
    it is lifted, but no later than the next onset of the same pitch. Notes without a duration, or
    that are never ended, do not sound: they are dropped, and counted in a warning of the log.

    Raises:
        ScoreError: where the file is missing or is no MIDI file.
    """
    midi, struck = _load_midi(path)
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


def _load_midi(path: str | Path) -> tuple[pretty_midi.PrettyMIDI, int]:
    """The file, and how many notes it strikes outside the drum channel."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ScoreError(f"{path}: cannot be read ({error.strerror})") from error
    if not data:
        raise ScoreError(f"{path}: the file is empty")
    try:
        raw = mido.MidiFile(file=io.BytesIO(data))
        struck = sum(m.type == "note_on" and m.velocity > 0 and m.channel != 9 for t in raw.tracks for m in t)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pretty_midi warns of tempo changes off the first track, and reads them
            return pretty_midi.PrettyMIDI(io.BytesIO(data)), struck
    except Exception as error:  # on damaged bytes the parsers raise whatever they stumble over
        raise ScoreError(f"{path}: not a readable Standard MIDI File ({error or type(error).__name__})") from error


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


_ALIASES = {"OnsetTime": "onset", "OffsetTime": "offset", "MidiPitch": "note"}


class _Table:
    """A delimited text file with a header, whose errors name file and line."""

    def __init__(self, path: str | Path, delimiter: str) -> None:
        self.path = path
        reader = csv.reader(io.StringIO(self._text(), newline=""), delimiter=delimiter, strict=True)
        try:
            rows = [(reader.line_num, row) for row in reader if row]
        except csv.Error as error:
            raise ScoreError(f"{path}, line {reader.line_num}: {error}") from error
        if not rows:
            raise ScoreError(f"{path}: the file is empty")
        names = re.split(r"[,\t]", ",".join(rows[0][1]).lstrip("# "))
        self.header = [_ALIASES.get(name.strip(), name.strip()) for name in names]
        self.lines = [line for line, _ in rows[1:]]
        for line, row in rows[1:]:
            if len(row) != len(self.header):
                raise ScoreError(f"{path}, line {line}: {len(row)} fields where the header names {len(self.header)}")
        self._columns: list[Sequence[str]] = list(zip(*(row for _, row in rows[1:]), strict=True))

    def _text(self) -> str:
        try:
            return Path(self.path).read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise ScoreError(f"{self.path}: not a text file (byte {error.start} is not UTF-8)") from error
        except OSError as error:
            raise ScoreError(f"{self.path}: cannot be read ({error.strerror})") from error

    def cells(self, name: str) -> Sequence[str]:
        if name not in self.header:
            raise ScoreError(f"{self.path}: no column {name!r}; its header is {', '.join(self.header)[:200]!r}")
        return self._columns[self.header.index(name)] if self._columns else ()

    def floats(self, name: str, missing: float | None = None) -> np.ndarray:
        cells = self.cells(name)
        if missing is not None and "" in cells:
            cells = [cell or str(missing) for cell in cells]
        try:
            values = np.array(cells, dtype=np.float64)
        except ValueError:
            row = next(i for i, cell in enumerate(cells) if not _is_number(cell))
            raise ScoreError(f"{self.path}, line {self.lines[row]}: {name} is {cells[row]!r}, not a number") from None
        if missing is None:
            self.refuse(~np.isfinite(values), f"{name} must be finite")
        return values

    def integers(self, name: str) -> np.ndarray:
        values = self.floats(name)
        self.refuse((values != np.floor(values)) | (np.abs(values) > 2**53), f"{name} must be a whole number")
        return values.astype(np.int64)

    def refuse(self, bad: np.ndarray, why: str) -> None:
        if bad.any():
            row = int(np.argmax(bad))
            seen = ", ".join(column[row] for column in self._columns)
            raise ScoreError(f"{self.path}, line {self.lines[row]}: {why} ({seen})")

    def check_notes(self, start: np.ndarray, end: np.ndarray, pitch: np.ndarray) -> None:
        self.refuse(start < 0, "start must not be negative")
        self.refuse(end <= start, "end must be after start")
        self.refuse((pitch < 0) | (pitch > 127), "pitch must be a MIDI number 0–127")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


READERS: dict[str, Callable[..., Notes]] = {
    ".csv": read_musicnet_csv,
    ".tsv": read_maps_tsv,
    ".txt": read_maps_tsv,
    ".mid": read_midi,
    ".midi": read_midi,
}
