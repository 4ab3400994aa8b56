"""Which interval there is between beats: autocorrelation and comb filters over a beat activation."""

from __future__ import annotations

from typing import Literal

import numpy as np

from musicnet_tf.decode.tracking.state_space import intervals_of

COMB_GAIN = 0.79
SMOOTH_SECONDS = 0.14
SMOOTH_BINS = 9
Method = Literal["autocorrelation", "comb"]


def autocorrelation(activation: np.ndarray, intervals: np.ndarray) -> np.ndarray:
    """How alike an activation and itself are, some frames later (Böck & Schedl, DAFx 2011).

    >>> autocorrelation(np.array([1.0, 0, 1, 0, 1]), np.array([1, 2, 3, 4]))
    array([0., 2., 0., 1.])

    Args:
        activation: `(frames,)`.
        intervals: frames, `(tempi,)`.

    Returns:
        Sums of products, float64 `(tempi,)`.
    """
    values = np.asarray(activation, np.float64)
    return np.array([values[lag:] @ values[: len(values) - lag] if lag < len(values) else 0.0 for lag in intervals])


def comb_filters(activation: np.ndarray, intervals: np.ndarray, gain: float = COMB_GAIN) -> np.ndarray:
    """How often, and how strongly, the comb filter of each interval rings the most (Böck, Krebs & Widmer, ISMIR 2015).

    Filters `y[n] = (1 - gain) x[n] + gain y[n - interval]` ring where the activation comes again after the interval
    (Klapuri, Eronen & Astola, 2006).

    Args:
        activation: `(frames,)`.
        intervals: frames, `(tempi,)`.
        gain: of what comes back.

    Returns:
        Sums of the greatest outputs, by the filter that had them, float64 `(tempi,)`.
    """
    values = np.asarray(activation, np.float64)
    rings = np.stack([_comb(values, int(interval), gain) for interval in intervals])
    return np.where(rings == rings.max(axis=0), rings, 0.0).sum(axis=1)


def histogram(activation: np.ndarray, intervals: np.ndarray, frame_rate: float, method: Method) -> np.ndarray:
    """How strong each interval is, float64 `(tempi,)`, of a smoothed activation and smoothed itself."""
    smoothed = smooth(np.asarray(activation, np.float64), round(SMOOTH_SECONDS * frame_rate))
    strength = {"autocorrelation": autocorrelation, "comb": comb_filters}[method](smoothed, intervals)
    return smooth(strength, SMOOTH_BINS)


def tempi(
    activation: np.ndarray,
    frame_rate: float,
    min_bpm: float = 40.0,
    max_bpm: float = 250.0,
    method: Method = "comb",
) -> np.ndarray:
    """The tempi of a recording: peaks of the histogram of intervals.

    >>> clicks = np.arange(6000) % 50 == 0  # a beat in 0.5 s
    >>> tempi(clicks, frame_rate=100)[0, 0]
    120.0

    Args:
        activation: of beats, `(frames,)`.
        frame_rate: frames a second.
        min_bpm, max_bpm: beats a minute.
        method: whose histogram.

    Returns:
        Beats a minute and share of the strength, float64 `(peaks, 2)`, the strongest first.
    """
    intervals = intervals_of(frame_rate, min_bpm, max_bpm)
    strength = histogram(activation, intervals, frame_rate, method)
    around = np.pad(strength, 1, constant_values=-np.inf)
    peaks = np.flatnonzero((strength > around[:-2]) & (strength >= around[2:]) & (strength > 0))
    peaks = peaks[np.argsort(-strength[peaks], kind="stable")]
    return np.stack([60 * frame_rate / intervals[peaks], strength[peaks] / strength[peaks].sum()], axis=1)


def smooth(values: np.ndarray, frames: int) -> np.ndarray:
    """Weighted means over a Hamming window, as long as the values."""
    if frames < 2 or not len(values):
        return values
    window = np.hamming(frames)
    around = np.convolve(values, window / window.sum())
    return around[(frames - 1) // 2 :][: len(values)]


def _comb(values: np.ndarray, interval: int, gain: float) -> np.ndarray:
    """The filter's output, a row of `interval` frames at a time: what comes back is the row before."""
    rows = -(-len(values) // interval)
    output = (1 - gain) * np.pad(values, (0, rows * interval - len(values))).reshape(rows, interval)
    for row in range(1, rows):
        output[row] += gain * output[row - 1]
    return output.reshape(-1)[: len(values)]
