"""The cheapest way through a score that may jump: Viterbi over coarse frames, with a place for what is not music.

After Fremerey, Müller and Clausen, *Handling repeats and jumps in score-performance synchronization* (ISMIR 2010).
"""

from __future__ import annotations

import dataclasses

import numba
import numpy as np

_STEPS = 4  # a frame of the recording moves the score by 0, 1, 2 or 3 frames
_ENTER, _JUMP = 4, 5  # back pointers beside the four steps
_BLOCK = 512  # rows of the cost matrix held at a time


@dataclasses.dataclass(frozen=True)
class Rules:
    """What a path may do, and the price. Prices are in frames of wholly unrelated music.

    Attributes:
        step: of moving on by 0, 1, 2, 3 frames of the score for one of the recording, float64 `(4,)`.
        enter: of beginning at each frame of the score, float64 `(n,)`.
        leave: of ending there, float64 `(n,)`.
        background: of a frame of the recording before the first or after the last note of the score.
        source: of jumping away after each frame, float64 `(n,)`.
        targets: frames that may be jumped to, ascending int64 `(t,)`.
        target: of arriving there from anywhere, float64 `(t,)`.
        shortest: frames; a jump from frame to frame over less is none.
        marked: single jumps allowed besides, int64 `(k, 2)`: last frame before, first frame after, which is one
            of `targets`.
        marked_price: of each, float64 `(k,)`.
    """

    step: np.ndarray
    enter: np.ndarray
    leave: np.ndarray
    background: float
    source: np.ndarray
    targets: np.ndarray
    target: np.ndarray
    shortest: int
    marked: np.ndarray
    marked_price: np.ndarray


@dataclasses.dataclass(frozen=True)
class Path:
    """The cheapest path.

    Attributes:
        frames: of the score at each frame of the recording, int64 `(m,)`; -1 before the music, -2 after.
        costs: of each frame of the recording, prices left out, float64 `(m,)`, background at its price.
        total: costs and prices of the path.
        jumps: frames of the recording at which the path has just jumped, int64 `(j,)`.
    """

    frames: np.ndarray
    costs: np.ndarray
    total: float
    jumps: np.ndarray

    @property
    def played(self) -> np.ndarray:
        """Which frames of the recording are music of the score."""
        return self.frames >= 0


def mean_cost(recording: np.ndarray, score: np.ndarray) -> float:
    """Cosine distance of two frames taken at random, from each side one: the mean of the whole matrix."""
    return max(1e-9, 1.0 - float(recording.mean(axis=0, dtype=np.float64) @ score.mean(axis=0, dtype=np.float64)))


def find_path(recording: np.ndarray, score: np.ndarray, rules: Rules, scale: float) -> Path:
    """The cheapest path under the rules.

    Args:
        recording: features of unit norm, float32 `(m, d)`.
        score: the same, `(n, d)`.
        rules: what is allowed.
        scale: cosine distance that counts as 1.

    Memory: `m * n` bytes of back pointers, and `8 * m * t` of where jumps came from.
    """
    m, n = len(recording), len(score)
    back = np.empty((m, n), np.uint8)
    came_from = np.empty((m, len(rules.targets)), np.int32)
    left_from = np.empty(m, np.int32)
    state = np.full(n, np.inf)
    edge = np.array([0.0, np.inf])  # before the music, after it
    transposed = np.ascontiguousarray(score.T)
    for start in range(0, m, _BLOCK):
        block = slice(start, min(start + _BLOCK, m))
        costs = np.maximum(1.0 - recording[block] @ transposed, 0.0) / np.float32(scale)
        _forward(
            costs,
            state,
            edge,
            rules.step,
            rules.enter,
            rules.leave,
            rules.background,
            rules.source,
            rules.targets,
            rules.target,
            rules.shortest,
            rules.marked,
            rules.marked_price,
            back[block],
            came_from[block],
            left_from[block],
        )
    ending = state + rules.leave
    last = int(np.argmin(ending))
    total = min(float(ending[last]), float(edge[1]))
    frames = _trace(back, came_from, left_from, -2 if edge[1] < ending[last] else last, rules.targets)
    return _summarise(recording, score, frames, rules, scale, total)


def _summarise(
    recording: np.ndarray, score: np.ndarray, frames: np.ndarray, rules: Rules, scale: float, total: float
) -> Path:
    played = frames >= 0
    costs = np.full(len(frames), rules.background)
    near = np.einsum("md,md->m", recording[played], score[frames[played]], dtype=np.float64)
    costs[played] = np.maximum(1.0 - near, 0.0) / scale
    step = np.diff(frames)
    jumped = played[1:] & played[:-1] & ((step < 0) | (step >= _STEPS))
    return Path(frames, costs, total, np.flatnonzero(jumped) + 1)


@numba.njit(cache=True)
def _forward(
    costs,
    state,
    edge,
    step,
    enter,
    leave,
    background,
    source,
    targets,
    target,
    shortest,
    marked,
    marked_price,
    back,
    came_from,
    left_from,
):  # type: ignore[no-untyped-def]
    """Carries `state` and `edge` over a block of rows, in place, and fills the block's back pointers."""
    rows, n = costs.shape
    old = np.empty(n)
    below = np.empty(n, np.int32)  # cheapest frame to jump from, at or below each frame
    above = np.empty(n, np.int32)  # … at or above
    for i in range(rows):
        old[:] = state
        last = 0
        for s in range(1, n):
            if old[s] + leave[s] < old[last] + leave[last]:
                last = s
        if edge[1] <= old[last] + leave[last]:
            left_from[i] = -2
        else:
            left_from[i] = last
            edge[1] = old[last] + leave[last]
        for s in range(n):
            best = old[s] + step[0]
            move = 0
            for k in range(1, _STEPS):
                if s >= k and old[s - k] + step[k] < best:
                    best = old[s - k] + step[k]
                    move = k
            if edge[0] + enter[s] < best:
                best = edge[0] + enter[s]
                move = _ENTER
            state[s] = best
            back[i, s] = move
        if len(targets):
            below[0] = 0
            for s in range(1, n):
                below[s] = s if old[s] + source[s] < old[below[s - 1]] + source[below[s - 1]] else below[s - 1]
            above[n - 1] = n - 1
            for s in range(n - 2, -1, -1):
                above[s] = s if old[s] + source[s] < old[above[s + 1]] + source[above[s + 1]] else above[s + 1]
            for t in range(len(targets)):
                s = targets[t]
                if target[t] == np.inf:
                    continue
                for side in range(2):
                    if side == 0 and s - 1 - shortest >= 0:
                        f = below[s - 1 - shortest]
                    elif side == 1 and s - 1 + shortest < n:
                        f = above[s - 1 + shortest]
                    else:
                        continue
                    price = old[f] + source[f] + target[t]
                    if price < state[s]:
                        state[s] = price
                        back[i, s] = _JUMP
                        came_from[i, t] = f
        for k in range(len(marked)):
            f, s = marked[k, 0], marked[k, 1]
            if old[f] + marked_price[k] < state[s]:
                state[s] = old[f] + marked_price[k]
                back[i, s] = _JUMP
                came_from[i, np.searchsorted(targets, s)] = f
        for s in range(n):
            state[s] += costs[i, s]
        edge[0] += background
        edge[1] += background


@numba.njit(cache=True)
def _trace(back, came_from, left_from, last, targets):  # type: ignore[no-untyped-def]
    """The path back from its end."""
    m = len(back)
    frames = np.empty(m, np.int64)
    s = last
    for i in range(m - 1, -1, -1):
        frames[i] = s
        if s == -2:
            s = left_from[i]
        elif s >= 0:
            move = back[i, s]
            if move < _STEPS:
                s -= move
            elif move == _ENTER:
                s = -1
            else:
                s = came_from[i, np.searchsorted(targets, s)]
    return frames
