"""What activations say for states: log-likelihood ratios, at a frame rate at which tempi are told apart."""

from __future__ import annotations

import numpy as np

STATE_RATE = 100.0
"""Frames a second for which the papers' numbers were found."""
_LEAST_ACTIVATION = 1e-3
"""Activations are held this far from 0 and 1, of which nobody is sure."""


def upsampling_of(frame_rate: float) -> int:
    """How many states' frames there are to one of the model's, so that there are about `STATE_RATE` a second.

    At 50 frames a second, beats of 195 BPM are 15.4 frames apart: whole frames tell no steady tempo near it.

    >>> upsampling_of(50), upsampling_of(86.1), upsampling_of(100)
    (2, 1, 1)
    """
    return max(1, round(STATE_RATE / frame_rate))


class Upsampler:
    """Puts `factor - 1` frames between any two, on the line that joins them. Pieces are `(frames, channels)`."""

    def __init__(self, factor: int) -> None:
        self._factor = factor
        self._last: np.ndarray | None = None

    def push(self, values: np.ndarray) -> np.ndarray:
        """The frames after the last that was given, up to the last that came."""
        if self._factor == 1 or not len(values):
            return values
        if self._last is None:
            first, before = values[:1], values[:1]
            values = values[1:]
        else:
            first, before = values[:0], self._last
        joined = np.concatenate([before, values])
        self._last = joined[-1:]
        share = (np.arange(1, self._factor + 1) / self._factor)[:, np.newaxis]
        between = joined[:-1, np.newaxis] * (1 - share) + joined[1:, np.newaxis] * share
        return np.concatenate([first, between.reshape(-1, joined.shape[1])])


def evidence(beat: np.ndarray, downbeat: np.ndarray | None, observation_lambda: float) -> np.ndarray:
    """How much more probable activations are on the beat than between beats, as logarithms.

    The densities of Böck, Krebs & Widmer (ISMIR 2014): the activation on the beat, and between beats what it lacks to
    1, spread over `observation_lambda - 1` as many frames. Where downbeats are told apart, a downbeat has the
    activation of its own head, and any other beat what the beat's head has beyond it.

    >>> evidence(np.array([0.5]), None, observation_lambda=16).round(3)  # log 15
    array([[2.708, 2.708]])

    Args:
        beat: activations in [0, 1], `(frames,)`.
        downbeat: the same, or None.
        observation_lambda: of `StateSpace.of`.

    Returns:
        Float64 `(frames, 2)`: for a beat and for a downbeat.
    """
    beat = np.asarray(beat, np.float64)
    first = beat if downbeat is None else np.asarray(downbeat, np.float64)
    any_beat = np.maximum(beat, first)
    others = beat if downbeat is None else beat - first
    on = np.log(np.clip(np.stack([others, first], axis=1), _LEAST_ACTIVATION, 1 - _LEAST_ACTIVATION))
    between = np.log(np.clip(1 - any_beat, _LEAST_ACTIVATION, 1) / (observation_lambda - 1))
    return on - between[:, np.newaxis]
