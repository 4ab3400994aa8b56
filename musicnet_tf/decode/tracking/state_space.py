"""Tempo, phase and place in the bar as states of a hidden Markov model, whose paths branch at beats alone."""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np

from musicnet_tf.errors import ConfigError
from musicnet_tf.events import UNKNOWN


@dataclasses.dataclass(frozen=True)
class StateSpace:
    """The states of Krebs, Böck & Widmer (ISMIR 2015), and with bars those of Böck, Krebs & Widmer (ISMIR 2016).

    A beat that lasts `n` frames has `n` states, which follow one another; so a tempo is an interval of whole frames.
    At its end the tempo may change by a ratio `r`, with a probability in proportion to `exp(-transition_lambda |r-1|)`.
    A bar is one beat after another; at its end its number of beats may change.

    >>> space = StateSpace.of(frame_rate=100, min_bpm=55, max_bpm=215)  # as the 2015 paper's tracker is set
    >>> space.intervals.min(), space.intervals.max(), len(space.intervals), space.num_states
    (28, 109, 82, 5617)

    Attributes:
        intervals: frames a beat lasts, int64 `(tempi,)`, ascending.
        widths: the first frames of a beat, those in which it is heard, a share of `1 / observation_lambda`, `(tempi,)`.
        tempo_change: log-probability of the tempo of the next beat, from tempo to tempo, float64 `(tempi, tempi)`.
        position: in the bar, from 1 on, of each kind of beat, int64 `(kinds,)`; `UNKNOWN` of the one kind without bars.
        next_kinds: `(from, to, log-probability)` of the kinds of beats that may follow one another.
    """

    intervals: np.ndarray
    widths: np.ndarray
    tempo_change: np.ndarray
    position: np.ndarray
    next_kinds: tuple[tuple[int, int, float], ...]

    @classmethod
    def of(
        cls,
        frame_rate: float,
        min_bpm: float = 55.0,
        max_bpm: float = 215.0,
        transition_lambda: float = 100.0,
        observation_lambda: float = 16.0,
        beat_cost: float = 0.0,
        beats_per_bar: tuple[int, ...] = (),
        meter_change: float = 0.0,
    ) -> StateSpace:
        """The states for a range of tempi.

        Args:
            frame_rate: frames a second.
            min_bpm, max_bpm: beats a minute.
            transition_lambda: the greater, the steadier is the tempo.
            observation_lambda: the greater, the shorter is what counts as on the beat.
            beat_cost: taken from the log-probability of each beat; 0 in the paper. As as many frames count as on the
                beat whatever the tempo, twice as many beats explain activations that are narrow as well, and this
                decides for fewer.
            beats_per_bar: the lengths of bars that there may be; none for beats alone.
            meter_change: probability that a bar has another length than the one before.

        Raises:
            ConfigError: where frames are too far apart to hold beats of these tempi.
        """
        intervals = intervals_of(frame_rate, min_bpm, max_bpm)
        ratio = intervals[np.newaxis, :] / intervals[:, np.newaxis]
        change = -transition_lambda * np.abs(ratio - 1)
        change -= np.log(np.exp(change).sum(axis=1, keepdims=True)) + beat_cost
        bars = [(beats, k) for beats in beats_per_bar for k in range(1, beats + 1)]
        position = np.array([k for _, k in bars] or [UNKNOWN], np.int64)
        widths = np.ceil(intervals / observation_lambda - 1e-9).astype(np.int64)
        return cls(intervals, widths, change, position, _next_kinds(bars, meter_change))

    @functools.cached_property
    def channel(self) -> np.ndarray:
        """1 for the kinds of beats that begin a bar and 0 for the others, int64 `(kinds,)`."""
        return (self.position == 1).astype(np.int64)

    @property
    def num_kinds(self) -> int:
        """Of beats: one, or as many as there are in one bar of each length."""
        return len(self.position)

    @property
    def num_states(self) -> int:
        return self.num_kinds * int(self.intervals.sum())


def intervals_of(frame_rate: float, min_bpm: float, max_bpm: float) -> np.ndarray:
    """All intervals in whole frames from that of `max_bpm` to that of `min_bpm`, int64 `(tempi,)`.

    Raises:
        ConfigError: where frames are too far apart to hold beats of these tempi.
    """
    if not 0 < min_bpm <= max_bpm:
        raise ConfigError(f"min_bpm={min_bpm:g}: must be above 0 and at most max_bpm={max_bpm:g}")
    shortest, longest = (round(60 * frame_rate / bpm) for bpm in (max_bpm, min_bpm))
    if shortest < 2:
        raise ConfigError(
            f"max_bpm={max_bpm:g}: such beats are less than two frames apart at {frame_rate:g} frames a second; choose"
            f" at most {20 * frame_rate:g}"
        )
    return np.arange(shortest, longest + 1)


def _next_kinds(bars: list[tuple[int, int]], meter_change: float) -> tuple[tuple[int, int, float], ...]:
    if not bars:
        return ((0, 0, 0.0),)
    follow = [(i, i + 1, 0.0) for i, (beats, k) in enumerate(bars) if k < beats]
    firsts, lasts = ([i for i, (beats, k) in enumerate(bars) if k == wanted(beats)] for wanted in (lambda _: 1, int))
    others = len(firsts) - 1
    stay = 1.0 - meter_change if others else 1.0
    for i, last in enumerate(lasts):
        for j, first in enumerate(firsts):
            probability = stay if i == j else meter_change / others
            if probability > 0:
                follow.append((last, first, math.log(probability)))
    return tuple(follow)
