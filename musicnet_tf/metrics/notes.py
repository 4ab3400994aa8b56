"""Note-level scores by mir_eval: is every note there, at its time, for its length, as loud?"""

from __future__ import annotations

import numpy as np
from mir_eval import transcription
from mir_eval.util import f_measure, midi_to_hz

from musicnet_tf.events import UNKNOWN, Notes

ONSET_TOLERANCE = 0.05
"""Seconds by which an onset may be off."""
PITCH_TOLERANCE = 50.0
"""Cents by which a pitch may be off."""
OFFSET_RATIO = 0.2
"""Share of the reference duration by which an offset may be off …"""
OFFSET_MIN_TOLERANCE = 0.05
"""… but never less than this, in seconds."""
VELOCITY_TOLERANCE = 0.1
"""Share of the reference's range of velocities by which a fitted velocity may be off."""

CRITERIA = ("onset", "onset_offset", "onset_offset_velocity")


def score(reference: Notes, estimate: Notes, criteria: tuple[str, ...] = CRITERIA) -> dict[str, float]:
    """Precision, recall, F1 and mean overlap ratio of an estimate, for each criterion.

    `onset` asks for pitch and onset; `onset_offset` for the offset too; `onset_offset_velocity` for
    the velocity too, within 0.1 after the estimate's velocities were fitted to the reference's. The
    last is left out unless every note on both sides has a velocity. Each note is matched at most once,
    by maximum bipartite matching; two reference notes of one pitch and onset (a unison) need two
    estimates.

    mir_eval's values hold for empty sides: every score is 0, even where both sides are empty.

    Args:
        reference: the notes that are there.
        estimate: the notes that were found.
        criteria: those of `CRITERIA` to compute.

    Returns:
        Flat names such as `onset/f1`, each with `precision`, `recall`, `f1` and `overlap`.

    Source: `mir_eval.transcription` and `mir_eval.transcription_velocity` with their defaults
    (MIREX note tracking).
    """
    scores: dict[str, float] = {}
    if "onset" in criteria:
        scores |= _scores("onset", reference, estimate, _match(reference, estimate, None))
    if {"onset_offset", "onset_offset_velocity"} & {*criteria}:
        matching = _match(reference, estimate, OFFSET_RATIO)
        if "onset_offset" in criteria:
            scores |= _scores("onset_offset", reference, estimate, matching)
        if "onset_offset_velocity" in criteria and _has_velocity(reference) and _has_velocity(estimate):
            matching = _as_loud(reference.velocity, estimate.velocity, matching)
            scores |= _scores("onset_offset_velocity", reference, estimate, matching)
    return scores


def _match(reference: Notes, estimate: Notes, offset_ratio: float | None) -> np.ndarray:
    """`(matched, 2)` indices of notes that match, as many as can be.

    On a semitone grid 50 cents allow no other pitch than the same, so mir_eval is asked pitch by pitch:
    the number of matches is the same, and its tables of all pairs stay small. (Which of several
    equally large matchings is taken, and so the mean overlap, may differ where a pitch is repeated
    within 0.1 s.)
    """
    # Later by one amount if needed: mir_eval refuses the negative times of an excerpt.
    first = min(reference.onset.min(initial=0.0), estimate.onset.min(initial=0.0))
    matches = [np.zeros((0, 2), np.int64)]
    for pitch in np.intersect1d(reference.pitch, estimate.pitch):
        ours, theirs = np.flatnonzero(reference.pitch == pitch), np.flatnonzero(estimate.pitch == pitch)
        frequency = midi_to_hz(np.array([pitch], np.float64))
        pairs = transcription.match_notes(
            reference.intervals()[ours] - first,
            np.repeat(frequency, len(ours)),
            estimate.intervals()[theirs] - first,
            np.repeat(frequency, len(theirs)),
            onset_tolerance=ONSET_TOLERANCE,
            pitch_tolerance=PITCH_TOLERANCE,
            offset_ratio=offset_ratio,
            offset_min_tolerance=OFFSET_MIN_TOLERANCE,
        )
        matches += [np.array([(ours[i], theirs[j]) for i, j in pairs], np.int64).reshape(-1, 2)]
    return np.concatenate(matches)


def _as_loud(reference: np.ndarray, estimate: np.ndarray, matching: np.ndarray) -> np.ndarray:
    """The matches whose velocities agree after a linear fit, as in `transcription_velocity.match_notes`.

    mir_eval's own function would match anew over all pairs of notes.
    """
    if not len(matching):
        return matching
    span = max(1, reference.max() - reference.min())
    wanted = (reference[matching[:, 0]] - reference.min()) / span
    found = np.stack([estimate[matching[:, 1]], np.ones(len(matching))], axis=1)
    line = np.linalg.lstsq(found, wanted, rcond=None)[0]
    return matching[np.abs(found @ line - wanted) < VELOCITY_TOLERANCE]


def _has_velocity(notes: Notes) -> bool:
    return len(notes) > 0 and bool((notes.velocity != UNKNOWN).all())


def _scores(criterion: str, reference: Notes, estimate: Notes, matching: np.ndarray) -> dict[str, float]:
    precision = len(matching) / len(estimate) if len(estimate) else 0.0
    recall = len(matching) / len(reference) if len(reference) else 0.0
    overlap = transcription.average_overlap_ratio(reference.intervals(), estimate.intervals(), matching.tolist())
    return {
        f"{criterion}/precision": precision,
        f"{criterion}/recall": recall,
        f"{criterion}/f1": float(f_measure(precision, recall)),
        f"{criterion}/overlap": float(overlap),
    }
