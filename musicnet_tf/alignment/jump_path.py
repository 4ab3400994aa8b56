"""The cheapest way through a score that may jump: Viterbi over coarse frames, with a place for what is not music.

After Fremerey, Müller and Clausen, *Handling repeats and jumps in score-performance synchronization* (ISMIR 2010).
"""

from __future__ import annotations

import dataclasses

import numba
import numpy as np

_ENTER, _JUMP = 254, 255  # back pointers beside layer and step
_BLOCK = 512  # rows of the cost matrix held at a time


@dataclasses.dataclass(frozen=True)
class Rules:
    """What a path may do, and the price. Prices are in frames of wholly unrelated music.

    Attributes:
        step: in each layer of tempo, of moving on by 0, 1, 2, … frames of the score for one of the
            recording, float64 `(layers, steps)`, at most 250 of them.
        switch: of going from one layer of tempo to another.
        enter: of beginning at each frame of the score, float64 `(n,)`.
        leave: of ending there, float64 `(n,)`.
        background: of a frame of the recording before the first or after the last note of the score.
        source: of jumping away after each frame, float64 `(n,)`.
        targets: frames that may be jumped to, ascending int64 `(t,)`.
        target: of arriving there from anywhere, float64 `(t,)`.
        reach: the last frame below each target, and the first above it, from which it may be jumped to, int64
            `(t, 2)`; -1 and `n` where from none.
        marked: single jumps allowed besides, int64 `(k, 2)`: last frame before, first frame after, which is one
            of `targets`.
        marked_price: of each, float64 `(k,)`.
    """

    step: np.ndarray
    switch: float
    enter: np.ndarray
    leave: np.ndarray
    background: float
    source: np.ndarray
    targets: np.ndarray
    target: np.ndarray
    reach: np.ndarray
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

    Memory: `m * n * layers` bytes of back pointers, and `4 * m * t` of where jumps came from.
    """
    m, n, layers = len(recording), len(score), len(rules.step)
    back = np.empty((m, layers, n), np.uint8)
    came_from = np.empty((m, len(rules.targets)), np.int32)
    left_from = np.empty(m, np.int32)
    state = np.full((layers, n), np.inf)
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
            rules.switch,
            rules.enter,
            rules.leave,
            rules.background,
            rules.source,
            rules.targets,
            rules.target,
            rules.reach,
            rules.marked,
            rules.marked_price,
            back[block],
            came_from[block],
            left_from[block],
        )
    ending = state + rules.leave
    layer, last = np.unravel_index(int(np.argmin(ending)), ending.shape)
    total = min(float(ending[layer, last]), float(edge[1]))
    place = -2 if edge[1] < ending[layer, last] else int(last * layers + layer)
    frames, jumped = _trace(back, came_from, left_from, place, rules.targets, rules.step.shape[1])
    return _summarise(recording, score, frames, np.flatnonzero(jumped), rules, scale, total)


def _summarise(
    recording: np.ndarray,
    score: np.ndarray,
    frames: np.ndarray,
    jumps: np.ndarray,
    rules: Rules,
    scale: float,
    total: float,
) -> Path:
    played = frames >= 0
    costs = np.full(len(frames), rules.background)
    near = np.einsum("md,md->m", recording[played], score[frames[played]], dtype=np.float64)
    costs[played] = np.maximum(1.0 - near, 0.0) / scale
    return Path(frames, costs, total, jumps)


@numba.njit(cache=True)
def _forward(
    costs,
    state,
    edge,
    step,
    switch,
    enter,
    leave,
    background,
    source,
    targets,
    target,
    reach,
    marked,
    marked_price,
    back,
    came_from,
    left_from,
):  # type: ignore[no-untyped-def]
    """Carries `state` and `edge` over a block of rows, in place, and fills the block's back pointers.

    A place is a frame of the score in a layer: `frame * layers + layer`.
    """
    rows, n = costs.shape
    layers, steps = step.shape
    old = np.empty((layers, n))
    origin = np.empty((layers, n), np.int64)  # layer from which a layer is reached most cheaply
    best = np.empty(n)  # of all layers
    layer = np.empty(n, np.int64)  # which that is
    below = np.empty(n, np.int64)  # cheapest frame to jump from, at or below each frame
    above = np.empty(n, np.int64)  # … at or above
    for i in range(rows):
        last = 0
        for s in range(n):
            layer[s] = 0
            for v in range(1, layers):
                if state[v, s] < state[layer[s], s]:
                    layer[s] = v
            best[s] = state[layer[s], s]
            for v in range(layers):
                old[v, s], origin[v, s] = state[v, s], v
                if best[s] + switch < old[v, s]:
                    old[v, s], origin[v, s] = best[s] + switch, layer[s]
            if best[s] + leave[s] < best[last] + leave[last]:
                last = s
        if edge[1] <= best[last] + leave[last]:
            left_from[i] = -2
        else:
            left_from[i] = last * layers + layer[last]
            edge[1] = best[last] + leave[last]
        for v in range(layers):
            for s in range(n):
                cheapest, move = edge[0] + enter[s], -1
                for k in range(min(steps, s + 1)):
                    price = old[v, s - k] + step[v, k]
                    if price < cheapest:
                        cheapest, move = price, k
                state[v, s] = cheapest
                back[i, v, s] = _ENTER if move < 0 else origin[v, s - move] * steps + move
        if len(targets):
            below[0], above[n - 1] = 0, n - 1
            for s in range(1, n):
                below[s] = s if best[s] + source[s] < best[below[s - 1]] + source[below[s - 1]] else below[s - 1]
            for s in range(n - 2, -1, -1):
                above[s] = s if best[s] + source[s] < best[above[s + 1]] + source[above[s + 1]] else above[s + 1]
            for t in range(len(targets)):
                s = targets[t]
                if target[t] < np.inf and reach[t, 0] >= 0:
                    f = below[reach[t, 0]]
                    _arrive(state, back[i], came_from[i], best[f] + source[f] + target[t], f * layers + layer[f], t, s)
                if target[t] < np.inf and reach[t, 1] < n:
                    f = above[reach[t, 1]]
                    _arrive(state, back[i], came_from[i], best[f] + source[f] + target[t], f * layers + layer[f], t, s)
            for k in range(len(marked)):
                f, s = marked[k, 0], marked[k, 1]
                t = np.searchsorted(targets, s)
                _arrive(state, back[i], came_from[i], best[f] + marked_price[k], f * layers + layer[f], t, s)
        for v in range(layers):
            for s in range(n):
                state[v, s] += costs[i, s]
        edge += background


@numba.njit(cache=True)
def _arrive(state, back, came_from, price, place, t, s):  # type: ignore[no-untyped-def]
    """Offers every layer of frame `s`, which is target `t`, to be reached from a place by a jump."""
    reached = False
    for v in range(len(state)):
        if price < state[v, s]:
            state[v, s] = price
            back[v, s] = _JUMP
            reached = True
    if reached:
        came_from[t] = place


@numba.njit(cache=True)
def _trace(back, came_from, left_from, place, targets, steps):  # type: ignore[no-untyped-def]
    """The path back from its end: frames of the score, and whether each was jumped to."""
    m, layers, _ = back.shape
    frames = np.empty(m, np.int64)
    jumped = np.zeros(m, np.bool_)
    for i in range(m - 1, -1, -1):
        if place < 0:
            frames[i] = place
            if place == -2:
                place = left_from[i]
            continue
        s, v = place // layers, place % layers
        frames[i] = s
        move = back[i, v, s]
        if move == _ENTER:
            place = -1
        elif move == _JUMP:
            place = came_from[i, np.searchsorted(targets, s)]
            jumped[i] = True
        else:
            place = (s - move % steps) * layers + move // steps
    return frames, jumped
