"""The evaluation of the MusicNet paper, so that a figure can be laid beside its Table 3.

Points lie every 512 samples between the 1st and the 91st second of each recording; a point is labelled
with the notes that sound in the middle of its segment. Precision, recall and average precision are
pooled over points and notes. The threshold `c` is searched for the best F1 on a sample of *training*
points: the paper says "a sampled subset of MusicNet", and choosing it on test points would flatter.

Source: J. Thickstun, Z. Harchaoui, S. Kakade, "Learning Features of Music from Scratch", ICLR 2017,
sections 4 and 5, figure 4 and tables 3 to 6.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from musicnet_tf.errors import ConfigError
from musicnet_tf.events import Notes
from musicnet_tf.metrics import frames
from musicnet_tf.timebase import FrameClock

SAMPLE_RATE = 44_100
STRIDE = 512
FIRST_SECOND, LAST_SECOND = 1, 91
SUBSET_RECORDINGS, SUBSET_POINTS = 50, 1_000
"""Of the training subset that `c` is searched on: at most so many recordings, and points of each."""

Convention = Literal["midpoint", "thickstun2018"]
Interpolation = Literal["nearest", "linear"]
SUBSETS: dict[str, int | None] = {"all": None, "one": 1, "three": 3}
"""The curves of Figure 4: all points, and those with exactly so many labels."""


@dataclasses.dataclass(frozen=True)
class Protocol:
    """Where the points lie.

    Attributes:
        convention: `midpoint`, as the paper says: segments are *centred* on the points, which fill the
            90 seconds, 7,752 of them. `thickstun2018`, as the authors' later public code does: 7,500
            segments *start* at sample 44,100 + 512 j, so that their labels lie half a window later.
        window_length: samples of a segment; matters to `thickstun2018` alone.
    """

    convention: Convention = "midpoint"
    window_length: int = 16_384

    def __post_init__(self) -> None:
        if self.convention not in ("midpoint", "thickstun2018"):
            raise ConfigError(f"protocol: unknown convention {self.convention!r}; choose midpoint or thickstun2018")

    @property
    def clock(self) -> FrameClock:
        """The points as frames: frame `j` is the instant at which point `j` is labelled."""
        late = self.window_length // 2 if self.convention == "thickstun2018" else 0
        return FrameClock(SAMPLE_RATE, STRIDE, origin=FIRST_SECOND * SAMPLE_RATE + late)

    def num_points(self, duration: float = np.inf) -> int:
        """Points of a recording of `duration` seconds; a short one has only those within it."""
        fixed = self.convention == "thickstun2018"
        most = 7_500 if fixed else self.clock.num_frames(LAST_SECOND * SAMPLE_RATE)
        if np.isinf(duration):
            return most
        return min(most, self.clock.num_frames(int(duration * SAMPLE_RATE)))

    def labels(self, notes: Notes, num_points: int) -> np.ndarray:
        """The labels `y_n = 1 iff onset <= t < offset` of the first points, bool `(num_points, 128)`."""
        return frames.piano_roll(notes, self.clock, num_points)

    def predictions(
        self,
        posteriorgram: np.ndarray,
        clock: FrameClock,
        num_points: int,
        first_pitch: int = 0,
        interpolation: Interpolation = "nearest",
    ) -> np.ndarray:
        """A posteriorgram on any clock, read off at the first `num_points` points as by `read`."""
        return read(posteriorgram, clock, self.clock.times(num_points), first_pitch, interpolation)


def read(
    posteriorgram: np.ndarray,
    clock: FrameClock,
    times: np.ndarray,
    first_pitch: int = 0,
    interpolation: Interpolation = "nearest",
) -> np.ndarray:
    """A posteriorgram on any clock, read off at any times.

    Args:
        posteriorgram: `(frames, classes)`.
        clock: of those frames, at any sample rate; sample 0 is the start of the recording.
        times: `(points,)` in seconds.
        first_pitch: MIDI number of class 0.
        interpolation: `nearest` takes the frame whose centre is nearest, the later one of two equally
            near; `linear` weighs the two around the point. A point before the first or after the last
            frame takes that frame.

    Returns:
        `(points, 128)`, 0 for pitches that the model does not know.
    """
    if not len(posteriorgram):
        raise ConfigError("protocol: the posteriorgram has no frames")
    position = np.clip(clock.time_to_frame(times), 0, len(posteriorgram) - 1)
    if interpolation == "nearest":
        values = posteriorgram[np.floor(position + 0.5).astype(int)]
    else:
        values = _interpolated(posteriorgram, position)
    return frames.widen(values, first_pitch)


def _interpolated(posteriorgram: np.ndarray, position: np.ndarray) -> np.ndarray:
    before = np.minimum(position.astype(int), max(0, len(posteriorgram) - 2))
    after = np.minimum(before + 1, len(posteriorgram) - 1)
    weight = (position - before)[:, None].astype(posteriorgram.dtype)
    return (1 - weight) * posteriorgram[before] + weight * posteriorgram[after]


@dataclasses.dataclass(frozen=True)
class Threshold:
    """`c`: a label is predicted iff its value is greater; and in words where it comes from, for the report."""

    value: float
    source: str


def sample(num_points: int, size: int, seed: int | Sequence[int]) -> np.ndarray:
    """Indices of `size` points, or recordings, out of `num_points` (or all), without repeats, sorted."""
    chosen = np.random.default_rng(seed).choice(num_points, min(size, num_points), replace=False)
    return np.sort(chosen)


def choose_threshold(labels: np.ndarray, predictions: np.ndarray, grid: npt.ArrayLike | None = None) -> float:
    """The threshold of best F1 on a *training* subset; the lowest of several equally good.

    Args:
        labels: bool `(points, 128)`.
        predictions: float `(points, 128)`; a label is predicted iff its value is `> c`.
        grid: thresholds to try; by default 0.01 … 0.99 by 0.01, or where predictions leave [0, 1], as those of a
            linear regression do, 500 at which the number of labels predicted grows by equal factors: steps of
            equal width would depend on how far the most extreme prediction lies from the others.
    """
    if labels.shape != predictions.shape or not labels.size:
        raise ConfigError(f"protocol: labels {labels.shape} and predictions {predictions.shape} cannot be compared")
    if grid is not None:
        candidates = np.sort(np.asarray(grid, dtype=np.float64).ravel())
    elif predictions.min() >= 0 and predictions.max() <= 1:
        candidates = np.arange(1, 100) / 100
    else:
        ranks = np.unique(np.geomspace(1, predictions.size, 500).astype(int))
        candidates = np.unique(np.sort(predictions, axis=None)[-ranks].astype(np.float64))
    return float(candidates[np.argmax(frames.f1_by_threshold(labels, predictions, candidates))])


def score(labels: np.ndarray, predictions: np.ndarray, threshold: float) -> dict[str, float]:
    """The paper's scores of the points of one or more recordings, and those of Figure 4's subsets.

    Args:
        labels: bool `(points, 128)`.
        predictions: float `(points, 128)`.
        threshold: `c`, chosen on training points by `choose_threshold`.

    Returns:
        `all/precision`, `all/recall`, `all/f1`, `all/average_precision`, `all/points`; the same under
        `one/` and `three/` for the points with exactly so many labels, where there are any.
    """
    scores: dict[str, float] = {}
    for name, subset in subsets(labels).items():
        if not subset.any():
            continue
        values = frames.score(labels[subset], predictions[subset], threshold)
        scores |= {f"{name}/{key}": value for key, value in values.items()}
        scores[f"{name}/points"] = int(np.count_nonzero(subset))
    return scores


def subsets(labels: np.ndarray) -> dict[str, np.ndarray]:
    """Masks `(points,)` of all points and of those with exactly one and exactly three labels."""
    polyphony = labels.sum(axis=1)
    return {name: np.ones(len(labels), bool) if n is None else polyphony == n for name, n in SUBSETS.items()}


def by_polyphony(labels: np.ndarray, predictions: np.ndarray, threshold: float) -> dict[str, dict[str, float]]:
    """Scores of the points with exactly so many labels, for every number that occurs.

    Where nothing sounds, nothing can be found, so that precision, recall and average precision have no
    meaning; what can go wrong there is told instead.

    Args:
        labels: bool `(points, 128)`.
        predictions: float `(points, 128)`.
        threshold: `c`, chosen on training points.

    Returns:
        Number of labels as text, rising, → `precision`, `recall`, `f1`, `average_precision`, `points`; under
        `"0"` `false_alarms`, the share of points with any prediction above the threshold, and `points`.
    """
    polyphony = labels.sum(axis=1)
    split: dict[str, dict[str, float]] = {}
    for number in np.unique(polyphony).tolist():
        chosen = polyphony == number
        if number:
            scores = frames.score(labels[chosen], predictions[chosen], threshold)
        else:
            scores = {"false_alarms": float(np.mean((predictions[chosen] > threshold).any(axis=1)))}
        split[str(number)] = {**scores, "points": int(np.count_nonzero(chosen))}
    return split
