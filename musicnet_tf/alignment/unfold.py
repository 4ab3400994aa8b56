"""Spans of a score in the order played → the notes that were played, in played seconds of the score."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from musicnet_tf.alignment.result import Segment
from musicnet_tf.events import Notes
from musicnet_tf.scores import with_columns

_SHORTEST = 0.01


@dataclasses.dataclass(frozen=True)
class Played:
    """A score as it was played.

    Attributes:
        notes: onsets and offsets in played seconds: the segments one after the other. A note that begins
            in no segment is absent, one that begins in two is there twice.
        index: which of the written notes each is, int64 `(len(notes),)`.
    """

    notes: Notes
    index: np.ndarray


def unfold(notes: Notes, segments: Sequence[Segment]) -> Played:
    """Plays the segments of a score; a note ends at the latest where its segment does, unless that is the last."""
    begun, parts, index = 0.0, [], []
    for k, segment in enumerate(segments):
        chosen = np.flatnonzero((notes.onset >= segment.start - 1e-9) & (notes.onset < segment.stop - 1e-9))
        if k == len(segments) - 1:
            chosen = np.flatnonzero((notes.onset >= segment.start - 1e-9) & (notes.onset <= segment.stop + 1e-9))
        part = notes[chosen]
        stop = np.inf if k == len(segments) - 1 else segment.stop
        offset = np.maximum(np.minimum(part.offset, stop), part.onset + _SHORTEST)
        parts.append(
            with_columns(part, onset=part.onset - segment.start + begun, offset=offset - segment.start + begun)
        )
        index.append(chosen)
        begun += segment.stop - segment.start
    played = Notes.concatenate(parts)
    which = np.concatenate(index) if index else np.zeros(0, np.int64)
    columns = [np.concatenate([getattr(p, name) for p in parts]) for name in ("instrument", "pitch", "onset")]
    return Played(played, which[np.lexsort(columns)])
