"""Scores of beats by mir_eval: are they there, at their times, at the level of the metre that a listener taps?"""

from __future__ import annotations

import warnings

import numpy as np
from mir_eval import beat as mir_eval_beat

from musicnet_tf.events import UNKNOWN, Beats

TRIM_SECONDS = 5.0
"""Beats before it count on neither side, as in mir_eval and MIREX: a listener, too, needs some beats to find them."""

_NAMES = {
    "F-measure": "beat/f1",
    "Cemgil": "beat/cemgil",
    "Cemgil Best Metric Level": "beat/cemgil_best",
    "Goto": "beat/goto",
    "P-score": "beat/p_score",
    "Correct Metric Level Continuous": "beat/cmlc",
    "Correct Metric Level Total": "beat/cmlt",
    "Any Metric Level Continuous": "beat/amlc",
    "Any Metric Level Total": "beat/amlt",
    "Information gain": "beat/information_gain",
}


def score(reference: Beats, estimate: Beats, trim_seconds: float = TRIM_SECONDS) -> dict[str, float]:
    """All of `mir_eval.beat.evaluate`, and the F-measure of the downbeats.

    `beat/f1` asks for a beat within 70 ms, each matched at most once; `beat/cmlc` and `beat/cmlt` for its interval,
    too, in one stretch or in all (Hainsworth 2004), `beat/amlc` and `beat/amlt` also at double or half the tempo or
    off the beat. `downbeat/f1` is that of the downbeats alone; it is left out where the reference tells none.

    Args:
        reference: the beats that are there, in seconds from the recording's first sample.
        estimate: the beats that were found.
        trim_seconds: beats before it are left out on both sides; 0 for all.

    Returns:
        Flat names such as `beat/f1`; nothing where the reference has no beat after `trim_seconds`, as there is
        nothing to find then. An estimate without beats scores 0.

    Source: `mir_eval.beat` with its defaults; Davies, Degara & Plumbley, technical report C4DM-TR-09-06.
    """
    reference, estimate = _trimmed(reference, trim_seconds), _trimmed(estimate, trim_seconds)
    if not len(reference):
        return {}
    return {**_beats(reference, estimate), **_downbeats(reference, estimate)}


def f1(reference: Beats, estimate: Beats, trim_seconds: float = TRIM_SECONDS) -> dict[str, float]:
    """`beat/f1` and `downbeat/f1` of `score` alone, which takes a fraction of the time."""
    reference, estimate = _trimmed(reference, trim_seconds), _trimmed(estimate, trim_seconds)
    if not len(reference):
        return {}
    return {"beat/f1": _f_measure(reference.time, estimate.time), **_downbeats(reference, estimate)}


def _trimmed(beats: Beats, seconds: float) -> Beats:
    return beats[beats.time >= seconds]


def _beats(reference: Beats, estimate: Beats) -> dict[str, float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sides with few beats, for which mir_eval's score is 0
        with np.errstate(all="ignore"):
            found = mir_eval_beat.evaluate(reference.time, estimate.time, min_beat_time=-np.inf)
    return {ours: float(found[theirs]) for theirs, ours in _NAMES.items()}


def _downbeats(reference: Beats, estimate: Beats) -> dict[str, float]:
    """Of what lies at beats whose places in the bar are told; of the others nobody knows whether they are downbeats."""
    if not len(reference.downbeats):
        return {}
    told = reference.position != UNKNOWN
    found = estimate.downbeats
    return {"downbeat/f1": _f_measure(reference.downbeats, found[told[_nearest(found, reference.time)]])}


def _nearest(times: np.ndarray, beats: np.ndarray) -> np.ndarray:
    """Index of the beat that is nearest to each time, int64 `(times,)`."""
    middle = (beats[1:] + beats[:-1]) / 2
    return np.searchsorted(middle, times)


def _f_measure(reference: np.ndarray, estimate: np.ndarray) -> float:
    if not len(estimate):
        return 0.0
    return float(mir_eval_beat.f_measure(reference, estimate))
