"""From beat to beat by the interval that there is around each (Böck & Schedl, DAFx 2011)."""

from __future__ import annotations

import numpy as np

from musicnet_tf.decode.tracking import tempo

LOOK_ASIDE = 0.2
"""Of an interval, by which a beat may come sooner or later than it is awaited."""
_WINDOW_SECONDS = 10.0
_HOP_SECONDS = 1.0


def greedy(
    activation: np.ndarray, frame_rate: float, intervals: np.ndarray, method: tempo.Method = "autocorrelation"
) -> np.ndarray:
    """Beats where the activation is greatest near the end of each interval.

    The interval is that of ten seconds around a beat. What is within `LOOK_ASIDE` of the awaited beat is weighted by a
    Hamming window. The first beat is that frame of the first interval from which the activations sum to most.

    Args:
        activation: of beats, `(frames,)`.
        frame_rate: frames a second.
        intervals: frames that there may be between beats, `(tempi,)`.
        method: how the interval is found.

    Returns:
        Frames of the beats, int64 `(beats,)`; none where the activation is 0.
    """
    values = np.asarray(activation, np.float64)
    if not values.any():
        return np.zeros(0, np.int64)
    local = local_intervals(values, frame_rate, intervals, method)
    ways = [_walk(values, local, start) for start in range(min(int(local[0]), len(values)))]
    return max(ways, key=lambda way: values[way].sum())


def local_intervals(
    activation: np.ndarray, frame_rate: float, intervals: np.ndarray, method: tempo.Method
) -> np.ndarray:
    """The strongest interval around each frame, int64 `(frames,)`; where there is none, that of before."""
    hop, half = max(1, round(_HOP_SECONDS * frame_rate)), round(_WINDOW_SECONDS * frame_rate / 2)
    found: list[int] = []
    for middle in range(0, len(activation), hop):
        around = activation[max(0, middle - half) : middle + half]
        strength = tempo.histogram(around, intervals, frame_rate, method)
        known = strength.max() > 0
        found.append(
            intervals[np.argmax(strength)] if known else found[-1] if found else intervals[len(intervals) // 2]
        )
    return np.repeat(np.array(found, np.int64), hop)[: len(activation)]


def _walk(values: np.ndarray, local: np.ndarray, start: int) -> np.ndarray:
    beats: list[int] = []
    awaited = start
    while awaited < len(values):
        aside = max(1, int(LOOK_ASIDE * local[awaited]))
        low, high = max(0, awaited - aside), min(len(values), awaited + aside + 1)
        near = values[low:high] * np.hamming(2 * aside + 1)[low - awaited + aside : high - awaited + aside]
        beat = low + int(np.argmax(near)) if near.any() else awaited
        if not beats or beat > beats[-1]:
            beats.append(beat)
        awaited = max(beat, beats[-1]) + int(local[beat])
    return np.array(beats, np.int64)
