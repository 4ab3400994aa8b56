"""Note-level scores by mir_eval: is every note there, at its time, for its length, as loud?"""

from __future__ import annotations

import warnings

import numpy as np
from mir_eval import transcription, transcription_velocity
from mir_eval.util import midi_to_hz

from musicnet_tf.events import UNKNOWN, Notes

ONSET_TOLERANCE = 0.05
"""Seconds by which an onset may be off."""
PITCH_TOLERANCE = 50.0
"""Cents by which a pitch may be off."""
OFFSET_RATIO = 0.2
"""Share of the reference duration by which an offset may be off …"""
OFFSET_MIN_TOLERANCE = 0.05
"""… but never less than this, in seconds."""

CRITERIA = ("onset", "onset_offset", "onset_offset_velocity")


def score(reference: Notes, estimate: Notes, criteria: tuple[str, ...] = CRITERIA) -> dict[str, float]:
    """Precision, recall, F1 and mean overlap ratio of an estimate, for each criterion.

    `onset` asks for pitch and onset; `onset_offset` for the offset too; `onset_offset_velocity` for
    the velocity too, within 0.1 after the estimate's velocities were fitted to the reference's. The
    last is left out unless every note on both sides has a velocity. Each note is matched at most once,
    by maximum bipartite matching; two reference notes of one pitch and onset (a unison) need two
    estimates.

    mir_eval's values hold for empty sides: every score is 0, even where both sides are empty. The
    matching needs memory in proportion to `len(reference) * len(estimate)`, about 0.4 GB for two times
    5,000 notes.

    Args:
        reference: the notes that are there.
        estimate: the notes that were found.
        criteria: those of `CRITERIA` to compute.

    Returns:
        Flat names such as `onset/f1`, each with `precision`, `recall`, `f1` and `overlap`.

    Source: `mir_eval.transcription` and `mir_eval.transcription_velocity` with their defaults
    (MIREX note tracking).
    """
    reference_intervals, estimate_intervals = _intervals(reference, estimate)
    sides = (reference_intervals, midi_to_hz(reference.pitch), estimate_intervals, midi_to_hz(estimate.pitch))
    scores: dict[str, float] = {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*notes are empty", category=UserWarning)
        if "onset" in criteria:
            scores |= _named("onset", transcription.precision_recall_f1_overlap(*sides, **_tolerances(None)))
        if "onset_offset" in criteria:
            scores |= _named(
                "onset_offset", transcription.precision_recall_f1_overlap(*sides, **_tolerances(OFFSET_RATIO))
            )
        if "onset_offset_velocity" in criteria and _has_velocity(reference) and _has_velocity(estimate):
            scores |= _named("onset_offset_velocity", _velocity_scores(sides, reference.velocity, estimate.velocity))
    return scores


def _intervals(reference: Notes, estimate: Notes) -> tuple[np.ndarray, np.ndarray]:
    """Both intervals, later by one amount if needed: mir_eval refuses the negative times of an excerpt."""
    first = min(reference.onset.min(initial=0.0), estimate.onset.min(initial=0.0))
    return reference.intervals() - first, estimate.intervals() - first


def _tolerances(offset_ratio: float | None) -> dict[str, float | None]:
    return {
        "onset_tolerance": ONSET_TOLERANCE,
        "pitch_tolerance": PITCH_TOLERANCE,
        "offset_ratio": offset_ratio,
        "offset_min_tolerance": OFFSET_MIN_TOLERANCE,
    }


def _velocity_scores(
    sides: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray], reference: np.ndarray, estimate: np.ndarray
) -> tuple[float, ...]:
    reference_notes, estimate_notes = sides[:2], sides[2:]
    return transcription_velocity.precision_recall_f1_overlap(
        *reference_notes, reference, *estimate_notes, estimate, **_tolerances(OFFSET_RATIO)
    )


def _has_velocity(notes: Notes) -> bool:
    return len(notes) > 0 and bool((notes.velocity != UNKNOWN).all())


def _named(criterion: str, values: tuple[float, ...]) -> dict[str, float]:
    names = ("precision", "recall", "f1", "overlap")
    return {f"{criterion}/{name}": float(value) for name, value in zip(names, values, strict=True)}
