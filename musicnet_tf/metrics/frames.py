"""Frame-level scores: which pitches sound at each instant, without regard to notes."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from mir_eval import multipitch as mir_eval_multipitch
from sklearn import metrics as sklearn_metrics

from musicnet_tf.errors import ConfigError
from musicnet_tf.events import NUM_PITCHES, Notes
from musicnet_tf.timebase import FrameClock

MULTIPITCH_CLOCK = FrameClock(sample_rate=100, hop_length=1)
"""The 10 ms grid on which MIREX scores multiple fundamental frequencies."""


class Counts(NamedTuple):
    """What precision and recall are made of; add two to pool them."""

    correct: int = 0
    estimated: int = 0
    reference: int = 0

    def __add__(self, other: Counts) -> Counts:  # type: ignore[override]
        return Counts(*(a + b for a, b in zip(self, other, strict=True)))

    def scores(self) -> dict[str, float]:
        """Precision, recall and F1; 0 where there is nothing to divide by."""
        precision = self.correct / self.estimated if self.estimated else 0.0
        recall = self.correct / self.reference if self.reference else 0.0
        f1 = 2 * self.correct / (self.estimated + self.reference) if self.correct else 0.0
        return {"precision": precision, "recall": recall, "f1": f1}


def piano_roll(
    notes: Notes, clock: FrameClock, num_frames: int, first_pitch: int = 0, num_pitches: int = NUM_PITCHES
) -> np.ndarray:
    """What sounds at the centre of each frame: true iff `onset <= t < offset`.

    Args:
        notes: in seconds; pitches outside the range are left out.
        clock: says when each frame is.
        num_frames: rows of the result.
        first_pitch: MIDI number of column 0.
        num_pitches: columns of the result.

    Returns:
        Bool `(num_frames, num_pitches)`.
    """
    roll = np.zeros((num_frames, num_pitches), bool)
    times = clock.times(num_frames)
    starts = np.searchsorted(times, notes.onset)
    stops = np.searchsorted(times, notes.offset)
    columns = notes.pitch - first_pitch
    inside = (columns >= 0) & (columns < num_pitches)
    for start, stop, column in zip(starts[inside], stops[inside], columns[inside], strict=True):
        roll[start:stop, column] = True
    return roll


def widen(posteriorgram: np.ndarray, first_pitch: int) -> np.ndarray:
    """`(frames, classes)` from `first_pitch` on → `(frames, 128)`, 0 where the model has no class.

    Scored over all 128 pitches, a note that a model cannot name counts as missed.
    """
    frames, classes = posteriorgram.shape
    if first_pitch == 0 and classes == NUM_PITCHES:
        return posteriorgram
    wide = np.zeros((frames, NUM_PITCHES), posteriorgram.dtype)
    wide[:, first_pitch : first_pitch + classes] = posteriorgram
    return wide


def count(reference: np.ndarray, estimate: np.ndarray) -> Counts:
    """Counts over all entries of two bool arrays of one shape."""
    if reference.shape != estimate.shape:
        raise ConfigError(f"frames: reference has shape {reference.shape}, estimate {estimate.shape}; use one clock")
    correct = np.count_nonzero(reference & estimate)
    return Counts(int(correct), int(np.count_nonzero(estimate)), int(np.count_nonzero(reference)))


def score(reference: np.ndarray, estimate: np.ndarray, threshold: float | None = None) -> dict[str, float]:
    """Precision, recall and F1 pooled over frames and pitches (micro).

    Args:
        reference: bool `(frames, pitches)`.
        estimate: a bool roll; or a posteriorgram of the same shape, of which `> threshold` is predicted.
        threshold: only with a posteriorgram.

    Returns:
        `precision`, `recall`, `f1`; with a posteriorgram `average_precision` too.
    """
    if estimate.dtype == bool:
        return count(reference, estimate).scores()
    if threshold is None:
        raise ConfigError("frames: a posteriorgram needs a threshold to be scored")
    scores = count(reference, estimate > threshold).scores()
    return {**scores, "average_precision": average_precision(reference, estimate)}


def average_precision(reference: np.ndarray, posteriorgram: np.ndarray) -> float:
    """Area under the precision-recall curve, pooled over frames and pitches.

    scikit-learn's step-wise sum on the flattened arrays, as in the MusicNet authors' code; 0 where the
    reference is empty. It sorts all entries: 12 million of them (18 minutes at 86 frames a second, 128
    pitches) take some seconds and about half a gigabyte.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="No positive class", category=UserWarning)
        return float(sklearn_metrics.average_precision_score(reference.ravel(), posteriorgram.ravel()))


def f1_by_threshold(reference: np.ndarray, posteriorgram: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """F1 pooled over frames and pitches at each threshold, float64 `(thresholds,)`; one sort answers them all."""
    estimated = _above(posteriorgram.ravel(), thresholds)
    correct = _above(posteriorgram[reference], thresholds)
    return 2 * correct / np.maximum(estimated + np.count_nonzero(reference), 1)


def _above(values: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """How many values are greater than each threshold, compared in their own precision as `>` would do."""
    return len(values) - np.searchsorted(np.sort(values), thresholds.astype(values.dtype), side="right")


def precision_recall_curve(
    reference: np.ndarray, posteriorgram: np.ndarray, max_points: int = 500
) -> dict[str, npt.NDArray[np.float64]]:
    """The curve that `average_precision` measures, thinned to at most about `max_points` for a figure.

    Returns:
        `precision`, `recall` and `threshold`, each `(points,)`, recall falling.
    """
    precision, recall, threshold = sklearn_metrics.precision_recall_curve(
        reference.ravel(), posteriorgram.ravel(), drop_intermediate=True
    )
    # Equal steps of recall, not of rank: most thresholds lie where nothing is left to find.
    wanted = np.searchsorted(-recall[:-1], -np.linspace(1, 0, max_points))
    picked = np.unique(np.clip(wanted, 0, len(threshold) - 1))
    return {"precision": precision[picked], "recall": recall[picked], "threshold": threshold[picked]}


def rolls(reference: Notes, estimate: Notes, clock: FrameClock = MULTIPITCH_CLOCK) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of notes on one grid (10 ms by default) that ends with the last offset of either."""
    end = max(reference.end, estimate.end)
    num_frames = clock.num_frames(int(np.ceil(end * clock.sample_rate)))
    return piano_roll(reference, clock, num_frames), piano_roll(estimate, clock, num_frames)


def multipitch(reference: Notes, estimate: Notes, clock: FrameClock = MULTIPITCH_CLOCK) -> dict[str, float]:
    """MIREX multiple-F0 scores of two sets of notes, as `multipitch_rolls` on `rolls`."""
    return multipitch_rolls(*rolls(reference, estimate, clock))


def multipitch_rolls(reference: np.ndarray, estimate: np.ndarray) -> dict[str, float]:
    """MIREX multiple-F0 scores of two bool rolls `(frames, 128)`.

    mir_eval matches the pitches of each frame within half a semitone by a graph search in Python. On a
    semitone grid that match is the intersection (for chroma: the smaller of the two counts of each
    pitch class), so only these counts are taken here; mir_eval's own formulas do the rest.

    Source and names: `mir_eval.multipitch`.

    Returns:
        `precision`, `recall`, `accuracy`, `e_sub`, `e_miss`, `e_fa`, `e_tot`, and each with `chroma_`.
    """
    num_reference, num_estimated = reference.sum(axis=1), estimate.sum(axis=1)
    correct = (reference & estimate).sum(axis=1)
    correct_chroma = np.minimum(_chroma(reference), _chroma(estimate)).sum(axis=1)
    scores: dict[str, float] = {}
    for prefix, hits in (("", correct), ("chroma_", correct_chroma)):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*frequencies are all empty", category=UserWarning)
            accuracies = mir_eval_multipitch.compute_accuracy(hits, num_reference, num_estimated)
            errors = mir_eval_multipitch.compute_err_score(hits, num_reference, num_estimated)
        names = ("precision", "recall", "accuracy", "e_sub", "e_miss", "e_fa", "e_tot")
        scores |= {prefix + name: float(value) for name, value in zip(names, (*accuracies, *errors), strict=True)}
    return scores


def _chroma(roll: np.ndarray) -> np.ndarray:
    """How many octaves of each pitch class sound, `(frames, 12)`."""
    padded = np.pad(roll, ((0, 0), (0, -roll.shape[1] % 12)))
    return padded.reshape(len(roll), -1, 12).sum(axis=1)
