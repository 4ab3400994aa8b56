"""The most probable path of all through the states, told beat by beat as soon as it is sure.

Paths branch at beats alone, and between them nothing is to be chosen. So what is kept is not the best way to each
state (5,617 a frame) but the best way to each beginning of a beat (82 a frame); what a beat is worth is known from
sums of the evidence up to each frame. The path is the same as that of Viterbi (1967) over all states.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from musicnet_tf.decode.tracking.state_space import StateSpace
from musicnet_tf.errors import ConfigError

_NONE = np.iinfo(np.uint16).max
_CHECK_FRAMES = 100
"""After so many frames, and a share of those that are undecided, it is looked whether more is sure."""
_CHECK_SHARE = 0.2


class Segment(NamedTuple):
    """A beat of a path.

    Attributes:
        start: frame with which it begins; negative where that was before the recording.
        interval: frames to the next beat.
        width: frames in which the beat is heard, the first ones of it.
        position: in the bar, or `UNKNOWN`.
    """

    start: int
    interval: int
    width: int
    position: int


class Viterbi:
    """The most probable path; frames come in pieces, and however they are cut, the path is the same.

    What all paths that may still win have in common is given at once (Bloit & Rodet, ICASSP 2008), and forgotten. So
    memory grows with what is undecided alone.

    Raises:
        ConfigError: where there are too many kinds of beats and tempi.
    """

    def __init__(self, space: StateSpace) -> None:
        self._space = space
        self._longest = int(space.intervals.max())
        tempi = len(space.intervals)
        self._nodes = space.num_kinds * tempi
        if self._nodes >= _NONE:
            raise ConfigError(
                f"beats_per_bar and tempi make {self._nodes} kinds of beats, of which {_NONE - 1} can be told apart;"
                " choose fewer lengths of bars, or a smaller range from min_bpm to max_bpm"
            )
        # Time is counted from before all beats that may already go on in frame 0, which is at `_longest`.
        self._now = self._longest + 1
        self._scores = np.full((self._longest, space.num_kinds, tempi), -np.inf)
        self._begin()
        self._back = np.full((self._now, self._nodes), _NONE, np.uint16)
        self._back_from = 0
        self._sums = np.zeros((2, self._now))  # of evidence before each time, from `_sums_from` on
        self._sums_from = 0
        self._root: tuple[int, int] | None = None
        self._check = self._now + _CHECK_FRAMES
        links = sorted((to, at, log) for at, to, log in space.next_kinds)
        self._links = tuple(np.array(column) for column in zip(*links, strict=True))

    def _begin(self) -> None:
        """All states are as probable in frame 0."""
        for i, interval in enumerate(self._space.intervals):
            starts = self._longest - np.arange(interval)
            self._scores[starts % self._longest, :, i] = -np.log(self._space.num_states)

    def push(self, evidence: np.ndarray) -> list[Segment]:
        """Takes the next frames of `evidence.evidence`, `(frames, 2)`, and gives the beats that are now sure."""
        sure: list[Segment] = []
        while len(evidence):
            # Where it is looked must not depend on how the frames come, or live rows would.
            count = min(len(evidence), self._check - self._end)
            self._advance(evidence[:count])
            evidence = evidence[count:]
            if self._end == self._check:
                sure += self._sure()
                self._check = self._end + _CHECK_FRAMES + int(_CHECK_SHARE * (self._end - self._back_from))
        return sure

    def finish(self) -> list[Segment]:
        """The beats that were not given yet, up to the end."""
        if self._end == self._longest:
            return []
        last = _best(self._scores, self._sums, self._sums_from, self._end, *self._beats())
        return self._path(last // self._nodes, last % self._nodes)

    @property
    def _end(self) -> int:
        """One past the last frame that came."""
        return self._sums_from + self._sums.shape[1] - 1

    def _beats(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self._space.intervals, self._space.widths, self._space.channel

    def _advance(self, evidence: np.ndarray) -> None:
        keep = max(0, self._sums.shape[1] - 1 - self._longest)
        sums = np.cumsum(np.concatenate([self._sums[:, -1:], evidence.T], axis=1), axis=1)
        self._sums = np.concatenate([self._sums[:, keep:-1], sums], axis=1)
        self._sums_from += keep
        back = np.empty((self._end - self._now, self._nodes), np.uint16)
        _advance(
            self._scores,
            back,
            self._sums,
            self._sums_from,
            self._now,
            *self._beats(),
            self._space.tempo_change,
            *self._links,
        )
        self._back = np.concatenate([self._back, back])
        self._now = self._end

    def _sure(self) -> list[Segment]:
        found = _ancestor(self._scores, self._back, self._back_from, self._now, self._space.intervals)
        if found < 0:
            return []
        time, node = found // self._nodes, found % self._nodes
        if (time, node) == self._root:
            return []
        path = self._path(time, node)
        self._root = (time, node)
        self._back = self._back[time - self._back_from :].copy()
        self._back_from = time
        self._back[0] = _NONE
        return path

    def _path(self, time: int, node: int) -> list[Segment]:
        """From after the last beat that was given to this one."""
        space, path = self._space, []
        while (time, node) != self._root:
            kind, tempo = divmod(node, len(space.intervals))
            width, interval = int(space.widths[tempo]), int(space.intervals[tempo])
            path.append(Segment(time - self._longest, interval, width, int(space.position[kind])))
            before = int(self._back[time - self._back_from, node])
            if before == _NONE:
                break
            time, node = time - int(space.intervals[before % len(space.intervals)]), before
        return path[::-1]


@numba.njit(cache=True, nogil=True)
def _advance(scores, back, sums, sums_from, now, intervals, widths, channel, change, to_kind, from_kind, kind_change):
    """Scores and origins of the beats that begin at each of the next times.

    `scores` holds the last times in a ring `(times, kinds, tempi)`; of each beat, that of the way to its beginning.
    """
    longest, kinds, tempi = scores.shape
    best = np.empty((kinds, tempi))
    origin = np.empty((kinds, tempi), np.int64)
    for row in range(len(back)):
        time = now + row
        for kind in range(kinds):
            best[kind] = -np.inf
            origin[kind] = 0
            own_sums = sums[channel[kind]]
            for i in range(tempi):
                begun = time - intervals[i]
                at = begun - sums_from
                ended = scores[begun % longest, kind, i] + own_sums[at + widths[i]] - own_sums[at]
                for j in range(tempi):
                    reached = ended + change[i, j]
                    better = reached > best[kind, j]
                    best[kind, j] = reached if better else best[kind, j]
                    origin[kind, j] = i if better else origin[kind, j]
        here = scores[time % longest]
        here[:] = -np.inf
        for link in range(len(to_kind)):
            to, at = to_kind[link], from_kind[link]
            for j in range(tempi):
                reached = best[at, j] + kind_change[link]
                if reached > here[to, j]:
                    here[to, j] = reached
                    back[row, to * tempi + j] = at * tempi + origin[at, j]
    return


@numba.njit(cache=True, nogil=True)
def _best(scores, sums, sums_from, end, intervals, widths, channel):
    """Where the best path at the end has begun its last beat: `time * nodes + node`."""
    longest, kinds, tempi = scores.shape
    greatest, found = -np.inf, 0
    for kind in range(kinds):
        own_sums = sums[channel[kind]]
        for i in range(tempi):
            for time in range(end - intervals[i], end):
                at = time - sums_from
                heard = min(time + widths[i], end) - sums_from
                score = scores[time % longest, kind, i] + own_sums[heard] - own_sums[at]
                if score > greatest:
                    greatest, found = score, (time * kinds + kind) * tempi + i
    return found


@numba.njit(cache=True, nogil=True)
def _ancestor(scores, back, back_from, now, intervals):
    """The last beat that all paths share which may still win: `time * nodes + node`; -1 where there is none."""
    longest, kinds, tempi = scores.shape
    nodes = kinds * tempi
    alive = np.zeros((now - back_from, nodes), np.bool_)
    count = 0
    for kind in range(kinds):
        for i in range(tempi):
            for time in range(now - intervals[i], now):
                if scores[time % longest, kind, i] > -np.inf:
                    alive[time - back_from, kind * tempi + i] = True
                    count += 1
    for row in range(now - back_from - 1, -1, -1):
        for node in range(nodes):
            if not alive[row, node]:
                continue
            before = back[row, node]
            if before == _NONE:
                return -1
            earlier = row - intervals[before % tempi]
            if alive[earlier, before]:
                count -= 1
                if count == 1:
                    return (earlier + back_from) * nodes + before
            else:
                alive[earlier, before] = True
    return -1
