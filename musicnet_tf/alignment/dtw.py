"""Dynamic time warping: exact, or from coarse to fine in a tube, in memory of a byte a cell.

Own code, and compiled by numba: librosa's keeps 16 bytes a cell and takes no tube, so that 18 minutes would
need 120 GiB; it is the oracle of the tests.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numba
import numpy as np

from musicnet_tf.errors import AlignmentError

NORMS = {"l1": 0, "l2": 1, "linf": 2, "cosine": 3}

_RECORDING, _SCORE, _BOTH, _START = 0, 1, 2, 3  # steps
_FACTOR = 4
_FULL_CELLS = 20_000_000
_RADIUS = 64
_GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Costs:
    """What a pair of frames costs, and how a path may go.

    Attributes:
        recording, score: tonal features of the rows and of the columns, float32 `(n, d)` and `(m, d)`.
        recording_onsets, score_onsets: onset features `(n, e)` and `(m, e)`, compared by l2; `e` may be 0.
        norm: of the tonal part, a key of `NORMS`; `cosine` takes frames of unit length.
        onset_weight: of the onset part.
        step_weights: of the cost of a cell that is entered along the recording, along the score, along both.
        step_penalty: added to each step along one side alone.
    """

    recording: np.ndarray
    score: np.ndarray
    recording_onsets: np.ndarray
    score_onsets: np.ndarray
    norm: str = "cosine"
    onset_weight: float = 1.0
    step_weights: tuple[float, float, float] = (1.0, 1.0, 2.0)
    step_penalty: float = 0.0

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.recording), len(self.score)

    def sides(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int, np.float32]:
        """What the compiled functions take."""
        features = (self.recording, self.score, self.recording_onsets, self.score_onsets)
        return (*features, NORMS[self.norm], np.float32(self.onset_weight))

    def coarser(self) -> Costs:
        """Of means of `_FACTOR` frames."""
        return dataclasses.replace(
            self,
            recording=_means(self.recording),
            score=_means(self.score),
            recording_onsets=_means(self.recording_onsets),
            score_onsets=_means(self.score_onsets),
        )


class Tube(NamedTuple):
    """For each row, the columns `[start, stop)` that a path may enter; neither ever falls."""

    start: np.ndarray
    stop: np.ndarray


def exact(costs: Costs, max_memory_gib: float) -> tuple[np.ndarray, np.ndarray]:
    """The cheapest path of all from corner to corner.

    Returns:
        Path of (row, column), int64 `(p, 2)`, and the unweighted cost of each of its cells, `(p,)`.

    Raises:
        AlignmentError: beforehand, where it would take more memory than allowed.
    """
    rows, columns = costs.shape
    check_memory(rows, columns, max_memory_gib)
    return within(costs, Tube(np.zeros(rows, np.int64), np.full(rows, columns, np.int64)))


def check_memory(rows: int, columns: int, max_memory_gib: float) -> None:
    """Raises AlignmentError where exact alignment of so many frames would take more memory than allowed."""
    needed = rows * columns / _GIB
    if needed > max_memory_gib:
        raise AlignmentError(
            f"exact alignment of {rows} by {columns} frames needs {needed:.1f} GiB, more than max_memory_gib ="
            f" {max_memory_gib:g}; use method: multiscale, a longer features.hop_length, or allow more"
        )


def multiscale(costs: Costs) -> tuple[np.ndarray, np.ndarray]:
    """As `exact` on coarse frames, then ever finer within a tube around the path before (FastDTW: Salvador, Chan 2007).

    Takes some 300 bytes a frame of the recording, whatever its length.
    """
    rows, columns = costs.shape
    if rows * columns <= _FULL_CELLS:
        return exact(costs, np.inf)
    path, _ = multiscale(costs.coarser())
    finer = np.minimum(path * _FACTOR + _FACTOR // 2, [rows - 1, columns - 1])
    ends = np.concatenate([[[0, 0]], finer, [[rows - 1, columns - 1]]])
    return within(costs, around(ends, rows, columns, _RADIUS))


def within(costs: Costs, tube: Tube) -> tuple[np.ndarray, np.ndarray]:
    """As `exact`, of the paths within a tube."""
    offsets = np.concatenate([[0], np.cumsum(tube.stop - tube.start)])
    steps = np.empty(offsets[-1], np.uint8)
    _accumulate(*costs.sides(), tube.start, tube.stop, offsets, steps, np.array(costs.step_weights), costs.step_penalty)
    path = _trace(steps, tube.start, offsets)
    return path, _along(*costs.sides(), path)


def random_cost(costs: Costs, seed: int = 0) -> float:
    """What a cell costs in the mean, of 4096 drawn at random: the price of frames that have nothing in common."""
    cells = np.random.default_rng(seed).integers(costs.shape, size=(4096, 2))
    return float(_along(*costs.sides(), cells).mean())


def around(path: np.ndarray, rows: int, columns: int, radius: int) -> Tube:
    """The cells within `radius` rows and columns of a path that leads from corner to corner, gaps interpolated."""
    every = np.arange(rows)
    first, last = np.searchsorted(path[:, 0], every, "left"), np.searchsorted(path[:, 0], every, "right") - 1
    between = np.interp(every, path[:, 0], path[:, 1])
    there = last >= first
    low = np.floor(np.where(there, path[np.minimum(first, len(path) - 1), 1], between)).astype(np.int64)
    high = np.ceil(np.where(there, path[last, 1], between)).astype(np.int64)
    before, after = np.maximum(every - radius, 0), np.minimum(every + radius, rows - 1)
    return Tube(np.maximum(low[before] - radius, 0), np.minimum(high[after] + radius + 1, columns))


def _means(values: np.ndarray) -> np.ndarray:
    """Means of `_FACTOR` rows each, the last of those that are left."""
    starts = np.arange(0, len(values), _FACTOR)
    if not values.shape[1]:
        return values[starts]
    sizes = np.diff(np.append(starts, len(values)))[:, np.newaxis]
    return (np.add.reduceat(values, starts, axis=0) / sizes).astype(np.float32)


@numba.njit(cache=True, fastmath=True, nogil=True)
def _costs_of_row(x, y, x_onsets, y_onsets, norm, onset_weight, i, start, stop, costs):  # type: ignore[no-untyped-def]
    """Fills `costs` with those of row `i` and the columns `[start, stop)`: a call a cell takes ten times as long."""
    for j in range(start, stop):
        total = np.float32(0.0)
        if norm == 3:
            for k in range(x.shape[1]):
                total += x[i, k] * y[j, k]
            total = np.float32(1.0) - total
        elif norm == 1:
            for k in range(x.shape[1]):
                total += (x[i, k] - y[j, k]) ** 2
            total = np.sqrt(total)
        elif norm == 0:
            for k in range(x.shape[1]):
                total += abs(x[i, k] - y[j, k])
        else:
            for k in range(x.shape[1]):
                total = max(total, abs(x[i, k] - y[j, k]))
        if x_onsets.shape[1] and onset_weight > 0:
            onsets = np.float32(0.0)
            for k in range(x_onsets.shape[1]):
                onsets += (x_onsets[i, k] - y_onsets[j, k]) ** 2
            total += onset_weight * np.sqrt(onsets)
        costs[j - start] = total


@numba.njit(cache=True, nogil=True)
def _accumulate(x, y, x_onsets, y_onsets, norm, onset_weight, start, stop, offsets, steps, weights, penalty):  # type: ignore[no-untyped-def]
    """Fills `steps`, a byte a cell: by which step the cheapest path enters it."""
    width = 0
    for i in range(start.shape[0]):
        width = max(width, stop[i] - start[i])
    before = np.full(width, np.inf)
    here = np.full(width, np.inf)
    costs = np.empty(width, np.float32)
    for i in range(start.shape[0]):
        _costs_of_row(x, y, x_onsets, y_onsets, norm, onset_weight, i, start[i], stop[i], costs)
        for j in range(start[i], stop[i]):
            cost = costs[j - start[i]]
            if i == 0 and j == start[0]:
                here[0] = cost
                steps[0] = _START
                continue
            best = np.inf
            step = _BOTH
            if i > 0 and start[i - 1] < j <= stop[i - 1]:
                best = before[j - 1 - start[i - 1]] + weights[2] * cost
            if i > 0 and start[i - 1] <= j < stop[i - 1]:
                value = before[j - start[i - 1]] + weights[0] * cost + penalty
                if value < best:
                    best = value
                    step = _RECORDING
            if j > start[i]:
                value = here[j - 1 - start[i]] + weights[1] * cost + penalty
                if value < best:
                    best = value
                    step = _SCORE
            here[j - start[i]] = best
            steps[offsets[i] + j - start[i]] = step
        before, here = here, before


@numba.njit(cache=True)
def _trace(steps, start, offsets):  # type: ignore[no-untyped-def]
    i = start.shape[0] - 1
    j = start[i] + offsets[i + 1] - offsets[i] - 1
    path = np.empty((i + j + 1, 2), np.int64)
    size = 0
    while True:
        path[size, 0] = i
        path[size, 1] = j
        size += 1
        step = steps[offsets[i] + j - start[i]]
        if step == _START:
            break
        if step != _SCORE:
            i -= 1
        if step != _RECORDING:
            j -= 1
    return path[:size][::-1].copy()


@numba.njit(cache=True)
def _along(x, y, x_onsets, y_onsets, norm, onset_weight, path):  # type: ignore[no-untyped-def]
    costs = np.empty(path.shape[0])
    for p in range(path.shape[0]):
        i, j = path[p, 0], path[p, 1]
        _costs_of_row(x, y, x_onsets, y_onsets, norm, onset_weight, i, j, j + 1, costs[p : p + 1])
    return costs
