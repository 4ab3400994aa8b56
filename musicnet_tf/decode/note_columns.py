"""What decoders of notes have in common: columns in frames → notes in seconds, and rows for a listener."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from musicnet_tf.events import UNKNOWN, Notes

if TYPE_CHECKING:
    from musicnet_tf.decode.notes import NoteDecoding
    from musicnet_tf.timebase import FrameClock

Columns = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Onset and offset in fractional frames, class and MIDI velocity, each `(notes,)`."""
OFFSET_REACH = 2.0
"""Frames by which a peak of the offset head may lie off the frame head's end of a note, and still refine it."""


def velocity_of(activation: np.ndarray) -> np.ndarray:
    """MIDI velocity 1–127 of the velocity head's activations, whose target is `velocity / 127`."""
    return np.clip(np.rint(np.asarray(activation, np.float64) * 127), 1, 127).astype(np.int64)


def join(parts: Sequence[Columns]) -> Columns:
    """One set of columns out of several, or of none."""
    if not parts:
        return np.zeros(0), np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64)
    onset, offset, pitch, velocity = (np.concatenate(column) for column in zip(*parts, strict=True))
    return onset, offset, pitch, velocity


def to_notes(columns: Columns, clock: FrameClock, params: NoteDecoding, first_pitch: int) -> Notes:
    """Notes in seconds, without those that are too short or too soft."""
    onset, offset, pitch, velocity = columns
    onset, offset = np.maximum(clock.frame_to_time(onset), 0.0), clock.frame_to_time(offset)
    keep = (offset > onset) & (offset - onset >= params.min_duration)
    keep &= (velocity == UNKNOWN) | (velocity >= params.min_velocity)
    return Notes(onset[keep], offset[keep], pitch[keep] + first_pitch, velocity[keep])


def note_rows(notes: Notes) -> list[dict[str, Any]]:
    """A row `note` for each, of JSON values."""
    return [
        {"event": "note", "onset": note.onset, "offset": note.offset, **as_json(note.pitch, note.velocity)}
        for note in notes
    ]


def as_json(pitch: int, velocity: int) -> dict[str, int]:
    """Keys `pitch` and, where it is known, `velocity`."""
    return {"pitch": int(pitch)} | ({} if velocity == UNKNOWN else {"velocity": int(velocity)})
