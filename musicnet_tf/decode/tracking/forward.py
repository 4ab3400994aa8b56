"""The most probable state by what was heard so far, and the beats that it passes: for listeners who cannot wait."""

from __future__ import annotations

import numba
import numpy as np

from musicnet_tf.decode.tracking.state_space import StateSpace
from musicnet_tf.decode.tracking.viterbi import Segment

_TOO_FAR_FROM_1 = 1e100


class Forward:
    """Beats by the forward algorithm (Rabiner 1989), each as soon as the most probable state is on it.

    Frames come in pieces, and however they are cut, the beats are the same. A beat is told at its first frame in which
    the most probable state is on the beat; the next is not before the shortest interval has passed (Böck, Krebs &
    Widmer, ISMIR 2014, whose program does so on line).
    """

    def __init__(self, space: StateSpace) -> None:
        self._space = space
        self._offsets = np.concatenate([[0], np.cumsum(space.intervals)])
        self._mass = np.full((space.num_kinds, self._offsets[-1]), 1.0 / space.num_states)
        self._next_tempo = np.exp(space.tempo_change)
        to, at, log = (np.array(column) for column in zip(*((b, a, c) for a, b, c in space.next_kinds), strict=True))
        self._links = (to, at, np.exp(log))
        self._frame = 0
        self._not_before = 0

    def states(self, evidence: np.ndarray) -> np.ndarray:
        """Of each of the next frames the most probable state: kind, tempo, frame of the beat; int64 `(frames, 3)`."""
        space, found = self._space, np.empty((len(evidence), 3), np.int64)
        _forward(
            self._mass,
            found,
            np.exp(evidence),
            self._frame,
            self._offsets,
            *(space.intervals, space.widths, space.channel),
            self._next_tempo,
            *self._links,
        )
        self._frame += len(evidence)
        return found

    def push(self, evidence: np.ndarray) -> list[Segment]:
        """Takes the next frames of `evidence.evidence`, and gives the beats in them; they begin where they are told."""
        first, space = self._frame, self._space
        states = self.states(evidence)
        beats = []
        for row in np.flatnonzero(states[:, 2] < space.widths[states[:, 1]]):
            if first + row >= self._not_before:
                kind, tempo, _ = states[row]
                shape = int(space.intervals[tempo]), int(space.widths[tempo])
                beats.append(Segment(int(first + row), *shape, int(space.position[kind])))
                self._not_before = int(first + row + space.intervals[0])
        return beats


@numba.njit(cache=True, nogil=True)
def _forward(mass, found, ratios, now, offsets, intervals, widths, channel, next_tempo, to_kind, from_kind, next_kind):
    """Moves `mass`, `(kinds, states)`, on by frames, and puts the greatest of each into `found`.

    A state's slot tells when its beat began, by its remainder: so nothing moves while a beat goes on. Between beats
    mass stays as it is, and on the beat it is multiplied by the ratio of the two likelihoods.
    """
    kinds, tempi = len(mass), len(intervals)
    entering = np.empty((kinds, tempi))
    for row in range(len(found)):
        time = now + row
        if time:
            entering[:] = 0.0
            for kind in range(kinds):
                for i in range(tempi):
                    ended = mass[kind, offsets[i] + time % intervals[i]]
                    for j in range(tempi):
                        entering[kind, j] += ended * next_tempo[i, j]
            for j in range(tempi):
                mass[:, offsets[j] + time % intervals[j]] = 0.0
                for link in range(len(to_kind)):
                    slot = offsets[j] + time % intervals[j]
                    mass[to_kind[link], slot] += entering[from_kind[link], j] * next_kind[link]
        for kind in range(kinds):
            ratio = ratios[row, channel[kind]]
            for i in range(tempi):
                for age in range(widths[i]):
                    mass[kind, offsets[i] + (time - age) % intervals[i]] *= ratio
        greatest = 0.0
        for kind in range(kinds):
            own = mass[kind].max()
            if own > greatest:
                greatest = own
                found[row, 0] = kind
        kind = found[row, 0]
        slot = mass[kind].argmax()
        i = np.searchsorted(offsets, slot, side="right") - 1
        found[row, 1] = i
        found[row, 2] = (time - (slot - offsets[i])) % intervals[i]
        if not 1 / _TOO_FAR_FROM_1 < greatest < _TOO_FAR_FROM_1:
            mass /= greatest
