"""Annotations of beats → beats: text files of several corpora, and the score inside MusicNet's labels."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np

from musicnet_tf.errors import ScoreError
from musicnet_tf.events import UNKNOWN, Beats, Notes
from musicnet_tf.scores import midi, tables, written
from musicnet_tf.scores.meter import beats_a_bar

ANNOTATION_SUFFIXES = (".beats", "_annotations.txt")
"""What the name of a file of beats adds to the stem of its recording or score: beat_this's, and ASAP's."""

_ASAP_LABEL = re.compile(r"(?P<kind>b|db|bR)(?:,(?:(?P<beats>\d+)/(?P<unit>\d+))?(?:,-?\d+)?)?")
_BEYOND = 0.25
_GRID = 12
_ON_GRID = 0.9
_COMPOUND = 1.15
_COMPOUND_EIGHTHS = 0.95
_TICKS = 24  # a quarter note
_LONGEST = 2.0  # quarter notes that a note counts for at most, in `pulse`
_TOLD = 24  # quarter notes that a score must last to tell its pulse


def read_beats(path: str | Path) -> Beats:
    """Reads a file of beats, one a line, its columns apart by white space. What form it has, its lines tell.

    - beat_this, madmom: seconds, and the place in the bar from 1 on, which may be absent or -1 for unknown;
    - Harmonix: seconds, place in the bar, number of the bar;
    - ASAP: seconds twice and a label: `b`, `db` for a downbeat, or `bR` where the score leaves the place of the
      beat open, each with a new time signature and key after commas. Places count from the downbeat; those of
      `bR` and after it, up to the next downbeat, are unknown. Those of a pickup count back from the first downbeat,
      by its time signature.

    Empty lines and what follows `#` are passed over. A file without any other line says that there are no beats.

    Raises:
        ScoreError: naming file and line.
    """
    lines = enumerate(tables.read_text(path).splitlines(), start=1)
    rows = [(number, fields) for number, line in lines if (fields := line.partition("#")[0].split())]
    if not rows:
        return Beats.empty()
    time = [_seconds(path, number, fields[0]) for number, fields in rows]
    for (number, _), before, now in zip(rows[1:], time, time[1:], strict=False):
        if now <= before:
            raise ScoreError(f"{path}, line {number}: {now:g} s is not after the beat before it ({before:g} s)")
    asap = len(rows[0][1]) == 3 and _ASAP_LABEL.fullmatch(rows[0][1][2])
    return Beats(time, _asap_positions(path, rows) if asap else [_position(path, *row) for row in rows])  # type: ignore[arg-type]


def beats_of_labels(notes: Notes, units: float | None = None) -> Beats | None:
    """Where the beats fall that MusicNet's labels count in `start_beat`; None where the labels count none.

    A beat at which no note begins lies on the line between the notes before and after it; at either end it may lie
    outside of the notes by a quarter of a beat, as where a player begins late. Places in the bar are unknown.

    Args:
        units: of `start_beat` from one beat to the next, one of which is at 0; where it is None, `pulse` finds them.
    """
    known = np.isfinite(notes.start_beat)
    first = 0.0
    if units is None:
        units, first = pulse(notes)
    places, group = np.unique((notes.start_beat[known] - first) / units, return_inverse=True)
    if len(places) < 2:
        return None
    order = np.argsort(group, kind="stable")
    chords = np.split(notes.onset[known][order], np.flatnonzero(np.diff(group[order])) + 1)
    time = np.maximum.accumulate([np.median(chord) for chord in chords])
    whole = np.arange(math.ceil(places[0] - _BEYOND), math.floor(places[-1] + _BEYOND) + 1)
    heard = _extended(whole, places, time)
    return Beats(heard[np.diff(heard, prepend=-np.inf) > 0])  # alignment may lay several beats onto one instant


def pulse(notes: Notes) -> tuple[float, float]:
    """Units of `start_beat` from beat to beat, and the place of a beat, by where the notes of a score begin.

    MusicNet counts in the lower number of the time signature, whatever it is; how long a note lasts that is named
    `Quarter` tells it. Halves are beats themselves. Of quarters and shorter notes, a quarter or a dotted one is a beat:
    dotted ones are if what begins on them, each place counted as the lengths of its notes, is on the mean more than
    `_COMPOUND` times what begins on quarters, or `_COMPOUND_EIGHTHS` times where the score counts in eighths. Of the
    scores of ASAP that have one time signature, told in quarters, 31 of 36 whose beats are dotted quarters are found,
    and 7 of 133 whose beats are quarters are taken for such.
    """
    quarter = _quarter(notes)
    if quarter < 1.0:
        return 1.0, 0.0
    known = np.isfinite(notes.start_beat)
    places, group = np.unique(np.rint(notes.start_beat[known] / quarter * _TICKS), return_inverse=True)
    if not len(places) or np.ptp(places) < _TOLD * _TICKS:
        return (1.0, 0.0) if quarter == 1.0 else (1.5 * quarter, 0.0)
    length = np.nan_to_num(notes.end_beat[known], nan=quarter) / quarter
    weight = np.minimum(np.bincount(group, np.clip(length, 0, _LONGEST)), 2 * _LONGEST)

    def mean_on(step: float, first: float) -> float:
        inside = np.floor((places[-1] / _TICKS - first) / step) - np.ceil((places[0] / _TICKS - first) / step) + 1
        return weight[(places - first * _TICKS) % (step * _TICKS) == 0].sum() / inside

    dotted, first = max((mean_on(1.5, first), -first) for first in (0.0, 0.5, 1.0))
    wanted = (_COMPOUND if quarter == 1.0 else _COMPOUND_EIGHTHS) * mean_on(1.0, 0.0)
    return (1.5 * quarter, -first * quarter) if dotted > wanted else (quarter, 0.0)


def _quarter(notes: Notes) -> float:
    """Units of `start_beat` in a quarter note, a power of two; 1 where no note is named so."""
    length = notes.end_beat[(notes.note_value == "Quarter") & (notes.end_beat > 0)]
    return float(2.0 ** np.rint(np.log2(np.median(length)))) if len(length) else 1.0


def beats_of_score(path: str | Path) -> Beats | None:
    """The beats in the time of the notes that a file of any form holds, from the file or an annotation beside it.

    An annotation is named as the score with one of `ANNOTATION_SUFFIXES`. Without one, a MIDI file's own beats count
    if its notes lie on their grid: of a recorded performance the tempo is just told as 120. MusicXML tells beats by
    its time signatures, and MusicNet's labels in `start_beat`. None where nothing tells of beats.

    Raises:
        ScoreError: where a file is not what its suffix says, or an annotation is empty.
    """
    path = Path(path)
    beside = [path.with_name(path.stem + suffix) for suffix in ANNOTATION_SUFFIXES]
    annotation = next((file for file in beside if file.is_file()), None)
    if annotation is not None:
        beats = read_beats(annotation)
        if not len(beats):
            raise ScoreError(
                f"{annotation}: holds no beats; each line gives the seconds of one, and its place in the bar"
            )
        return beats
    if path.suffix.lower() == ".csv":
        return beats_of_labels(tables.read_musicnet_csv(path))
    if path.suffix.lower() in (".mxl", ".musicxml", ".xml"):
        return written.read_score(path).beats
    if path.suffix.lower() in (".mid", ".midi") and _on_grid(midi.read_midi_score(path).notes):
        return midi.read_midi_beats(path)
    return None


def _on_grid(notes: Notes) -> bool:
    """Whether nearly all notes begin at twelfths of a quarter note, which holds sixteenths and triplets of eighths."""
    away = np.abs(notes.start_beat * _GRID - np.rint(notes.start_beat * _GRID)) / _GRID
    return len(notes) > 0 and float(np.mean(away < 1 / (8 * _GRID))) >= _ON_GRID


def _extended(wanted: np.ndarray, places: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Linear between the knots, and beyond them at the pace of the first or last beat."""
    heard = np.interp(wanted, places, time)
    for end, inner, outside in ((0, 1, wanted < places[0]), (-1, -1, wanted > places[-1])):
        near = np.interp(places[end] + inner, places, time)
        span = min(1.0, places[-1] - places[0])
        heard[outside] = time[end] + (wanted[outside] - places[end]) * inner * (near - time[end]) / span
    return heard


def _seconds(path: str | Path, number: int, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds):
        raise ScoreError(f"{path}, line {number}: {text[:40]!r} is no number of seconds; a line begins with a beat's")
    return seconds


def _position(path: str | Path, number: int, fields: list[str]) -> int:
    """Of a line of numbers, whose third is that of the bar."""
    text = fields[1] if len(fields) > 1 else str(UNKNOWN)
    whole = re.fullmatch(r"(-?\d{1,9})(?:\.0*)?", text)
    position = int(whole[1]) if whole else 0
    if (position < 1 and position != UNKNOWN) or len(fields) > 3:
        raise ScoreError(
            f"{path}, line {number}: {' '.join(fields)[:60]!r} is not seconds and the place in the bar (1, 2 …, or -1"
            " for unknown)"
        )
    return position


def _asap_positions(path: str | Path, rows: list[tuple[int, list[str]]]) -> list[int]:
    positions: list[int] = []
    count = UNKNOWN
    signature: tuple[int, int] | None = None  # of the first bar
    for number, fields in rows:
        label = _ASAP_LABEL.fullmatch(fields[2]) if len(fields) == 3 else None
        if label is None:
            raise ScoreError(f"{path}, line {number}: {' '.join(fields)[:60]!r} is not seconds twice and b, db or bR")
        if label["beats"] and 1 not in positions:
            signature = int(label["beats"]), int(label["unit"])
        if label["kind"] == "db":
            if signature and 1 not in positions:
                positions = _pickup(positions, beats_a_bar(*signature))
            count = 1
        elif label["kind"] == "bR" or count == UNKNOWN:
            count = UNKNOWN
        else:
            count += 1
        positions.append(count)
    return positions


def _pickup(positions: list[int], bar: int) -> list[int]:
    """Positions of what comes before the first downbeat, if it is less than a bar."""
    return [bar - len(positions) + 1 + k for k in range(len(positions))] if len(positions) < bar else positions
