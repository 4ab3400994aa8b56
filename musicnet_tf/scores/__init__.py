"""Score and label files ↔ notes and beats: MusicNet's CSV, MAPS' tables, MIDI, MusicXML. Needs no TensorFlow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from musicnet_tf.errors import ScoreError
from musicnet_tf.events import Notes
from musicnet_tf.scores.beats import beats_of_labels, beats_of_score, pulse, read_beats
from musicnet_tf.scores.midi import (
    DEFAULT_VELOCITY,
    read_midi,
    read_midi_beats,
    to_midi,
    with_columns,
    without_overlaps,
)
from musicnet_tf.scores.tables import (
    MUSICNET_COLUMNS,
    format_musicnet_csv,
    is_musicnet_csv,
    read_maps_tsv,
    read_musicnet_csv,
)
from musicnet_tf.scores.written import SCORE_READERS, read_score

READERS: dict[str, Callable[..., Notes]] = {
    ".csv": read_musicnet_csv,
    ".tsv": read_maps_tsv,
    ".txt": read_maps_tsv,
    ".mid": read_midi,
    ".midi": read_midi,
}

__all__ = [
    "DEFAULT_VELOCITY",
    "MUSICNET_COLUMNS",
    "READERS",
    "SCORE_READERS",
    "beats_of_labels",
    "beats_of_score",
    "format_musicnet_csv",
    "is_musicnet_csv",
    "pulse",
    "read",
    "read_beats",
    "read_maps_tsv",
    "read_midi",
    "read_midi_beats",
    "read_musicnet_csv",
    "read_score",
    "to_midi",
    "with_columns",
    "without_overlaps",
]


def read(path: str | Path) -> Notes:
    """Reads the notes of a label file of any known form, told by its suffix: what sounded, in seconds.

    Raises:
        ScoreError: where the suffix is unknown or the file is not what its suffix says.
    """
    reader = READERS.get(Path(path).suffix.lower())
    if reader is None:
        raise ScoreError(f"{path}: unknown kind of score; use one of {', '.join(sorted(READERS))}")
    return reader(path)
