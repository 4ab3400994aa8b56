"""What an alignment found: labels on the recording, how far to trust them, and why not."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, NamedTuple

import numpy as np

from musicnet_tf.events import Notes

FindingKind = Literal[
    "leading_silence",
    "trailing_silence",
    "repeat_left_out",
    "repeat_added",
    "passage_left_out",
    "passage_unmatched",
    "wrong_piece",
    "wrong_movement",
    "low_confidence",
]


class Segment(NamedTuple):
    """A span of the score, in its own seconds, that was played without a jump."""

    start: float
    stop: float


class Finding(NamedTuple):
    """One thing that a person should know of a pair.

    Attributes:
        kind: what it is; reports and filters go by it.
        message: one line for a person, with times.
        rejects: whether labels of this pair should not be used.
        start, stop: seconds of the recording that it concerns; NaN where it concerns the whole.
    """

    kind: FindingKind
    message: str
    rejects: bool
    start: float = float("nan")
    stop: float = float("nan")


@dataclasses.dataclass(frozen=True)
class Alignment:
    """A score laid onto a recording.

    Attributes:
        notes: the labels: the score's notes in seconds of the recording. A note that was played twice is
            there twice, one that was left out is absent. Beats and note values are the score's.
        note_confidence: 0–1 a note, float64 `(len(notes),)`, in the order of `notes`.
        path: the warp, float64 `(p, 2)`, non-decreasing in both columns: seconds of the recording,
            seconds of the score as played (`segments` one after the other).
        segments: spans of the score in the order in which they were played. A single one from the score's
            beginning to its end where nothing was repeated or left out.
        confidence: of the whole pair, 0–1.
        findings: what a person should know, most serious first.
        duration: of the recording in seconds.
        details: plain values for the report: settings, soundfont and its licence, costs, versions.
    """

    notes: Notes
    note_confidence: np.ndarray
    path: np.ndarray
    segments: tuple[Segment, ...]
    confidence: float
    findings: tuple[Finding, ...]
    duration: float
    details: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def accepted(self) -> bool:
        """Whether no finding speaks against using the labels."""
        return not any(finding.rejects for finding in self.findings)

    def summary(self) -> dict[str, Any]:
        """Plain values of everything but the notes and the path, as written to JSON."""
        return {
            "accepted": self.accepted,
            "confidence": round(self.confidence, 4),
            "num_notes": len(self.notes),
            "duration": round(self.duration, 3),
            "segments": [[round(s.start, 3), round(s.stop, 3)] for s in self.segments],
            "findings": [{key: value for key, value in f._asdict().items() if value == value} for f in self.findings],
            **self.details,
        }
