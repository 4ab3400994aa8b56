"""What beats say as a whole: tempo and its curve, and how many beats a bar has."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

from musicnet_tf.events import Beats

_RANGE = (5, 95)


class Tempo(NamedTuple):
    """Beats a minute: the median, and between what bounds nine tenths of the local tempi lie."""

    median: float
    low: float
    high: float


class Meter(NamedTuple):
    """The most common number of beats in a bar, and the share of the bars that have it."""

    beats_per_bar: int
    share: float


def tempo_curve(beats: Beats, smoothing: int = 1) -> np.ndarray:
    """The tempo at each beat, from it to the next; the last has that of the one before it.

    Args:
        smoothing: how many intervals round each the median is taken of, odd; at either end of those that there are.

    Returns:
        beats a minute, float64 `(n,)`; NaN for a beat that is alone.

    >>> tempo_curve(Beats([0.0, 0.5, 1.0, 1.75])).tolist()
    [120.0, 120.0, 80.0, 80.0]
    """
    if len(beats) < 2:
        return np.full(len(beats), np.nan)
    interval = np.diff(beats.time)
    reach = smoothing // 2
    if reach:
        interval = np.array([np.median(interval[max(k - reach, 0) : k + reach + 1]) for k in range(len(interval))])
    return 60.0 / np.append(interval, interval[-1])


def tempo(beats: Beats) -> Tempo | None:
    """Median and range of the tempo from beat to beat; None of fewer than two beats.

    >>> tempo(Beats([0.0, 0.5, 1.0, 1.5, 2.0]))
    Tempo(median=120.0, low=120.0, high=120.0)
    """
    if len(beats) < 2:
        return None
    low, median, high = np.percentile(tempo_curve(beats)[:-1], [_RANGE[0], 50, _RANGE[1]]).tolist()
    return Tempo(median, low, high)


def meter(beats: Beats) -> Meter | None:
    """The time signature's upper number, as far as beats tell it; None where no whole bar is known.

    A bar is what lies between two downbeats, if the place of each beat in it is known. Of two numbers that are as
    common the smaller counts.

    >>> meter(Beats([0, 1, 2, 3, 4, 5, 6, 7, 8], [3, 1, 2, 3, 1, 2, 3, 1, 2]))
    Meter(beats_per_bar=3, share=1.0)
    """
    begins = np.flatnonzero(beats.position == 1)
    bars = [stop - start for start, stop in itertools.pairwise(begins) if _counted(beats, start, stop)]
    if not bars:
        return None
    counts = np.bincount(bars)
    most = int(np.argmax(counts))
    return Meter(most, float(counts[most] / len(bars)))


def describe(beats: Beats) -> str:
    """Tempo and metre in words, as far as they are known.

    >>> describe(Beats([0, 0.5, 1, 1.5, 2.25, 3, 3.5], [1, 2, 3, 1, 2, 3, 1]))
    '120 beats a minute, mostly 80 to 120; 3 beats a bar'
    >>> describe(Beats([0, 0.5, 1, 1.5, 2, 2.5], [1, 2, 1, 2, 3, 1]))
    '120 beats a minute; 2 beats a bar in 50% of bars'
    """
    parts = []
    if found := tempo(beats):
        median, low, high = (round(bpm) for bpm in found)
        parts.append(f"{median} beats a minute" + f", mostly {low} to {high}" * (low < high))
    if bar := meter(beats):
        most = f"{bar.beats_per_bar} beat{'s' * (bar.beats_per_bar > 1)} a bar"
        # Nearly all is not all.
        parts.append(most if bar.share == 1 else f"{most} in {min(round(100 * bar.share), 99)}% of bars")
    return "; ".join(parts)


def _counted(beats: Beats, start: int, stop: int) -> bool:
    return bool((beats.position[start:stop] > 0).all())
