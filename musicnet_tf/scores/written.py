"""Scores as written: notes in beats and nominal seconds, measures, repeats. For alignment."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np

from musicnet_tf.errors import ScoreError
from musicnet_tf.events import Notes, Score
from musicnet_tf.scores import midi, musicxml, tables
from musicnet_tf.scores.tempo import DEFAULT_TEMPO

MAX_HOURS = 6
"""Nominal length beyond which a score is taken for damaged."""


def read_score(path: str | Path, *, constant_tempo: bool = False) -> Score:
    """Reads a score of any known form, told by its suffix (`SCORE_READERS`).

    Of a MusicNet CSV it is the score inside the labels: their beats, at 120 a minute.

    Args:
        path: the file.
        constant_tempo: ignore the score's tempo marks and count 120 quarter notes a minute throughout.

    Raises:
        ScoreError: where the suffix is unknown, the file is not what its suffix says, there is no note
            but of drums, a tempo is absurd, or the score would last more than `MAX_HOURS`.
    """
    reader = SCORE_READERS.get(Path(path).suffix.lower())
    if reader is None:
        raise ScoreError(f"{path}: unknown kind of score; use one of {', '.join(sorted(SCORE_READERS))}")
    score = reader(path, constant_tempo=constant_tempo)
    if not len(score.notes):
        raise ScoreError(f"{path}: the score has no notes; use a file that has some besides percussion")
    if score.notes.end > MAX_HOURS * 3600:
        raise ScoreError(
            f"{path}: the score would last {score.notes.end / 3600:.1f} hours, more than {MAX_HOURS}; it may be"
            " damaged, or its tempi wrong: cut it, or ignore the tempi by tempo: constant"
        )
    return score


def _read_labels(path: str | Path, *, constant_tempo: bool = False) -> Score:
    """The score inside labels with beats; their tempo is constant in any case."""
    labels = tables.read_musicnet_csv(path)
    unknown = np.isnan(labels.start_beat) | np.isnan(labels.end_beat)
    if unknown.any():
        raise ScoreError(
            f"{path}: {int(unknown.sum())} of {len(labels)} rows have no start_beat and end_beat, so that there is no"
            " score in them; use a score file (MIDI or MusicXML)"
        )
    bad = (labels.end_beat <= 0) | (labels.start_beat < 0)
    if bad.any():
        row = int(np.argmax(bad))
        raise ScoreError(
            f"{path}: the note at {labels.onset[row]:.3f} s has start_beat {labels.start_beat[row]:g} and end_beat"
            f" {labels.end_beat[row]:g}; a place must not be negative, and a length must be above 0"
        )
    onset, length = (beats * 60 / DEFAULT_TEMPO for beats in (labels.start_beat, labels.end_beat))
    columns = (labels.pitch, labels.velocity, labels.instrument, labels.start_beat, labels.end_beat, labels.note_value)
    return Score(Notes(onset, onset + length, *columns))


class _Reader(Protocol):
    def __call__(self, path: str | Path, *, constant_tempo: bool = False) -> Score: ...


SCORE_READERS: dict[str, _Reader] = {
    ".csv": _read_labels,
    ".mid": midi.read_midi_score,
    ".midi": midi.read_midi_score,
    ".musicxml": musicxml.read_musicxml_score,
    ".mxl": musicxml.read_musicxml_score,
    ".xml": musicxml.read_musicxml_score,
}
