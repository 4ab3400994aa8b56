"""The front end `frontends.LogFrequencySpectrogram` in NumPy, several times faster than as operations of TFLite.

It stays in float32 besides, whatever the precision of the network: spectra span more decades than int8 holds.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import scipy.fft
from numpy.lib.stride_tricks import sliding_window_view

from musicnet_tf.lite.container import FrontEnd

_FRAMES = 64
"""Transformed at once, so that what is between two steps stays in a core's cache."""
_BINS = 8
"""Multiplied at once: filters are narrow, and so most of their whole matrix is zeros. Products stay so small, too, that
BLAS does each in the thread that asks, where larger ones would keep the other cores busy waiting."""


class Spectra:
    """Log-power spectra on a log-frequency axis, one channel for each window length.

    Args:
        front_end: as of the Keras layer.
        filters: window length → float32 `(window_length // 2 + 1, num_bins)`.
        num_frames: of a window of audio, which has `num_frames * hop_length` samples.
    """

    def __init__(self, front_end: FrontEnd, filters: Mapping[int, np.ndarray], num_frames: int) -> None:
        self._hop_length = front_end.hop_length
        self._num_frames = num_frames
        self._gain = np.float32(10.0 ** (-front_end.floor_db / 10))
        self._channels = [(_taper(length), _Bands(filters[length])) for length in front_end.window_lengths]

    def __call__(self, window: np.ndarray) -> np.ndarray:
        """Float32 `(samples,)` → `(num_frames, num_bins, len(window_lengths))`: decades above the floor, at least 0."""
        bins = self._channels[0][1].num_bins
        spectra = np.empty((self._num_frames, bins, len(self._channels)), np.float32)
        for channel, (taper, bands) in enumerate(self._channels):
            half = len(taper) // 2
            frames = sliding_window_view(np.pad(window, half), len(taper))[:: self._hop_length]
            for begin in range(0, self._num_frames, _FRAMES):
                block = frames[begin : begin + _FRAMES][: self._num_frames - begin]
                part = scipy.fft.rfft(block * taper)[:, : bands.num_rows]
                power = np.square(part.real) + np.square(part.imag)
                spectra[begin : begin + _FRAMES, :, channel] = bands(power)
        np.multiply(spectra, self._gain, out=spectra)
        np.add(spectra, np.float32(1), out=spectra)
        return np.log10(spectra, out=spectra)


class _Bands:
    """A filter bank as products of few rows with few bins each."""

    def __init__(self, filters: np.ndarray) -> None:
        self.num_bins = filters.shape[1]
        self._parts = []
        for begin in range(0, self.num_bins, _BINS):
            bins = slice(begin, min(begin + _BINS, self.num_bins))
            used = np.flatnonzero(filters[:, bins].any(axis=1))
            rows = slice(used[0], used[-1] + 1) if len(used) else slice(0, 1)
            self._parts.append((rows, bins, np.ascontiguousarray(filters[rows, bins])))
        self.num_rows = max(rows.stop for rows, _, _ in self._parts)

    def __call__(self, power: np.ndarray) -> np.ndarray:
        """`(frames, num_rows)` → `(frames, num_bins)`."""
        banded = np.empty((len(power), self.num_bins), np.float32)
        for rows, bins, part in self._parts:
            np.matmul(power[:, rows], part, out=banded[:, bins])
        return banded


def _taper(length: int) -> np.ndarray:
    """As in `frontends.power_spectrum`: a full-scale sine peaks at 0.25."""
    taper = np.hanning(length + 1)[:-1]
    return (taper / taper.sum()).astype(np.float32)
