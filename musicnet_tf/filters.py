"""What the bottom filters of a network that hears raw samples are tuned to: spectra, frequencies, how pure they are.

Source: Thickstun et al. 2017, section 4.2 and figures 1, 3 and 5: filters learnt from music are modulated sinusoids,
and their frequencies are distributed as those of the notes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.fft
import scipy.stats

from musicnet_tf.errors import ConfigError
from musicnet_tf.events import NUM_PITCHES

PADDING = 4
"""Points of a transform for each sample of the filter, after that was brought to a power of two: the peak then lies
so near to a bin that a parabola finds it."""

_UNITS_AT_ONCE = 128


class Spectra(NamedTuple):
    """Magnitudes of the transforms of all units.

    Attributes:
        frequencies: Hz, `(bins,)`, from 0 to half the sample rate.
        magnitudes: float32 `(bins, units)`.
    """

    frequencies: np.ndarray
    magnitudes: np.ndarray


class Correlation(NamedTuple):
    """Pearson's `r` of two histograms over `pitches` bins, those where either has mass; NaN where one is flat."""

    r: float
    pitches: int


def spectra(kernels: np.ndarray, sample_rate: int) -> Spectra:
    """The absolute value of the Fourier transform of each unit's weights, not tapered, padded with zeros.

    Args:
        kernels: `(receptive field, units)`.
        sample_rate: Hz.

    Raises:
        ConfigError: where the kernels are no such matrix.
    """
    if kernels.ndim != 2 or len(kernels) < 2 or not kernels.shape[1]:
        raise ConfigError(f"filters: expected kernels (receptive field, units); got an array of shape {kernels.shape}")
    points = PADDING * 2 ** int(np.ceil(np.log2(len(kernels))))
    kernels = np.asarray(kernels, np.float32)
    magnitudes = np.empty((points // 2 + 1, kernels.shape[1]), np.float32)
    for first in range(0, kernels.shape[1], _UNITS_AT_ONCE):  # the complex values of all would need much memory
        some = slice(first, first + _UNITS_AT_ONCE)
        magnitudes[:, some] = np.abs(scipy.fft.rfft(kernels[:, some], points, axis=0))
    return Spectra(scipy.fft.rfftfreq(points, 1 / sample_rate), magnitudes)


def dominant_frequencies(found: Spectra) -> np.ndarray:
    """Where each unit's spectrum has its peak, by a parabola through the logarithms around it; Hz, `(units,)`.

    NaN for a unit whose weights are all 0.
    """
    magnitudes = found.magnitudes
    peak = np.argmax(magnitudes, axis=0)
    inner = np.clip(peak, 1, len(magnitudes) - 2)
    around = np.stack([np.take_along_axis(magnitudes, (inner + step)[None], axis=0)[0] for step in (-1, 0, 1)])
    with np.errstate(divide="ignore", invalid="ignore"):
        before, at, after = np.log(around.astype(np.float64))
        shift = 0.5 * (before - after) / (before - 2 * at + after)
    shift = np.where((peak == inner) & np.isfinite(shift), np.clip(shift, -0.5, 0.5), 0.0)
    frequency = (peak + shift) * found.frequencies[1]
    return np.where(magnitudes.max(axis=0) > 0, frequency, np.nan)


def peak_to_median(found: Spectra) -> np.ndarray:
    """Each unit's greatest magnitude over the median of its magnitudes, `(units,)`.

    Of white noise it is about 3, of a tone that swells and fades far more. In power it is the square. NaN for a
    unit whose weights are all 0.
    """
    median = np.median(found.magnitudes, axis=0).astype(np.float64)
    peak = found.magnitudes.max(axis=0).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return peak / median


def pitch_histogram(frequencies: np.ndarray) -> np.ndarray:
    """How many frequencies are nearest to each MIDI pitch, `(128,)`; those beyond all pitches, and NaN, are left out.

    Args:
        frequencies: Hz, `(n,)`.
    """
    audible = frequencies[np.isfinite(frequencies) & (frequencies > 0)]
    pitch = np.round(69 + 12 * np.log2(audible / 440)).astype(int)
    return np.bincount(pitch[(pitch >= 0) & (pitch < NUM_PITCHES)], minlength=NUM_PITCHES)


def note_histogram(pitch: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """How long each MIDI pitch sounds, `(128,)`.

    Args:
        pitch: MIDI numbers of notes, `(n,)`.
        seconds: that each sounds, `(n,)`.
    """
    return np.bincount(pitch, weights=seconds, minlength=NUM_PITCHES)


def correlation(one: np.ndarray, other: np.ndarray) -> Correlation:
    """Pearson's r over the bins in which at least one of two histograms, `(bins,)` each, is not 0."""
    mass = (one > 0) | (other > 0)
    one, other = one[mass], other[mass]
    if len(one) < 2 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return Correlation(float("nan"), len(one))
    return Correlation(float(scipy.stats.pearsonr(one, other).statistic), len(one))


def spread(frequencies: np.ndarray, ratios: np.ndarray, count: int) -> np.ndarray:
    """Units to show: out of the half with the greatest ratios, groups of rising frequency, the purest of each.

    Args:
        frequencies: dominant ones, Hz, `(units,)`.
        ratios: peak to median, `(units,)`.
        count: units wanted.

    Returns:
        Indices of at most `count` units, by rising frequency.
    """
    alive = np.flatnonzero(np.isfinite(frequencies) & np.isfinite(ratios))
    half = max(count, len(alive) // 2)
    pure = alive[np.argsort(-ratios[alive], kind="stable")][:half]
    pure = pure[np.argsort(frequencies[pure], kind="stable")]
    groups = [group for group in np.array_split(pure, count) if len(group)]
    return np.array([group[np.argmax(ratios[group])] for group in groups], dtype=int)
