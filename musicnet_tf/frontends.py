"""Waveform → features, as Keras layers in `keras.ops`, so that a served graph takes a waveform.

Front ends compute in float32 whatever the policy: a spectrum spans more decades than float16 holds.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from musicnet_tf.errors import ConfigError

A0_HZ = 27.5
"""MIDI 21, the lowest note of the piano."""


def transform_length(window_length: int) -> int:
    """The power of two that holds a window."""
    return 1 << (window_length - 1).bit_length()


def power_spectrum(audio: Any, window_length: int, hop_length: int, num_frames: int, window: str = "hann") -> Any:
    """|STFT|², frame `k` centred on sample `k * hop_length`, silence beyond both ends.

    Args:
        audio: `(batch, samples)`.
        window_length: samples. The transform is as long, or the next power of two, filled up with zeros.
        hop_length: samples.
        num_frames: frames to give; `samples` must reach the centre of the last.
        window: `hann` or `rect`.

    Returns:
        `(batch, num_frames, transform_length(window_length) // 2 + 1)`; a full-scale sine peaks at 0.25.
    """
    fft_length = transform_length(window_length)
    half = fft_length // 2
    audio = ops.pad(audio, [[0, 0], [half, half]])
    taper = np.hanning(window_length + 1)[:-1] if window == "hann" else np.ones(window_length)
    real, imaginary = ops.stft(
        audio,
        sequence_length=window_length,
        sequence_stride=hop_length,
        fft_length=fft_length,
        window=ops.convert_to_tensor(taper / taper.sum(), "float32"),
        center=False,
    )
    return (ops.square(real) + ops.square(imaginary))[:, :num_frames]


def log_frequency_filters(
    sample_rate: int, fft_length: int, fmin: float, bins_per_octave: int, num_bins: int
) -> np.ndarray:
    """Triangular filters at geometrically spaced centres, float32 `(fft_length // 2 + 1, num_bins)`.

    Bin `i` is centred on `fmin * 2**(i / bins_per_octave)` and falls to 0 at the next centre and as far
    below its own, or one FFT bin away where that is farther: there it interpolates. Peaks are 1, so that a
    steady tone keeps its power.

    Raises:
        ConfigError: where the highest bin lies above the Nyquist frequency.
    """
    centres = fmin * 2.0 ** (np.arange(num_bins) / bins_per_octave)
    if centres[-1] > sample_rate / 2:
        raise ConfigError(
            f"{num_bins} bins from {fmin:g} Hz reach {centres[-1]:.0f} Hz, above the Nyquist frequency"
            f" {sample_rate / 2:g} Hz; take fewer bins or a higher sample rate"
        )
    spacing = sample_rate / fft_length
    width = np.maximum(centres * (2.0 ** (1 / bins_per_octave) - 1), spacing)
    frequencies = np.arange(fft_length // 2 + 1)[:, None] * spacing
    return np.maximum(0.0, 1 - np.abs(frequencies - centres) / width).astype(np.float32)


def level(power: Any, floor_db: float) -> Any:
    """Power in decades above `floor_db`, at least 0: silence is exactly 0."""
    return ops.log10(1.0 + power / 10.0 ** (floor_db / 10))


class LogFrequencySpectrogram(keras.layers.Layer):
    """Log-power spectra on a log-frequency axis, one channel for each window length.

    Long windows tell neighbouring pitches apart, short ones tell when; the network gets both.

    Input `(batch, samples)`, output `(batch, samples // hop_length, num_bins, len(window_lengths))`, the
    level in decades above `floor_db`, at least 0: silence is exactly 0.
    """

    def __init__(
        self,
        sample_rate: int,
        hop_length: int,
        window_lengths: Sequence[int],
        bins_per_octave: int,
        num_bins: int,
        fmin: float = A0_HZ,
        floor_db: float = -80.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.sample_rate = sample_rate
        self.hop_length = hop_length
        self.window_lengths = tuple(window_lengths)
        self.bins_per_octave = bins_per_octave
        self.num_bins = num_bins
        self.fmin = fmin
        self.floor_db = floor_db
        self._filters = [
            log_frequency_filters(sample_rate, length, fmin, bins_per_octave, num_bins)
            for length in self.window_lengths
        ]

    def call(self, audio: Any) -> Any:
        """`(batch, samples)` → `(batch, frames, bins, windows)`."""
        num_frames = audio.shape[1] // self.hop_length
        channels = []
        for length, filters in zip(self.window_lengths, self._filters, strict=True):
            power = power_spectrum(audio, length, self.hop_length, num_frames)
            banded = ops.matmul(power, ops.convert_to_tensor(filters))
            channels.append(level(banded, self.floor_db))
        return ops.stack(channels, axis=-1)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        frames = None if input_shape[1] is None else input_shape[1] // self.hop_length
        return (input_shape[0], frames, self.num_bins, len(self.window_lengths))

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        names = ("sample_rate", "hop_length", "window_lengths", "bins_per_octave", "num_bins", "fmin", "floor_db")
        return {**config, **{name: getattr(self, name) for name in names}}


class MagnitudeSpectrum(keras.layers.Layer):
    """A spectrum of each whole window, as in the MusicNet paper's linear models (its sections 4.3 and 5).

    An `n`-point spectrum reads `2n` samples, input `(…, 2n)`, output `(…, n)`: the Nyquist bin, which no note
    reaches, is dropped so that there are `n`. No taper by default, as in the paper.

    Args:
        taper: `rect` or `hann`.
        spectrum: `power`, |DFT|²; `log_power`, log10(1e-6 + |DFT|²); or `relugram`, |cosᵀx| + |sinᵀx|, which a
            two-layer network of four ReLUs a bin computes, as |a| = relu(a) + relu(-a).
    """

    def __init__(self, taper: str = "rect", spectrum: str = "power", **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.taper = taper
        self.spectrum = spectrum

    def call(self, windows: Any) -> Any:
        """`(…, 2n)` → `(…, n)`."""
        length = windows.shape[-1]
        taper = np.hanning(length + 1)[:-1] if self.taper == "hann" else np.ones(length)
        parts = ops.rfft(windows * ops.convert_to_tensor(taper / np.sqrt(length), "float32"))
        real, imaginary = (part[..., : length // 2] for part in parts)
        if self.spectrum == "relugram":
            return ops.abs(real) + ops.abs(imaginary)
        power = ops.square(real) + ops.square(imaginary)
        return ops.log10(1e-6 + power) if self.spectrum == "log_power" else power

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*input_shape[:-1], input_shape[-1] // 2)  # type: ignore[operator]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "taper": self.taper, "spectrum": self.spectrum}


def sinusoid_bank(sample_rate: int, window_length: int, num_filters: int, fmin: float, fmax: float) -> np.ndarray:
    """Windowed cosines, then sines, at geometrically spaced frequencies, float32 `(window_length, 2 num_filters)`.

    Filter `i` is at `fmin * (fmax / fmin) ** (i / num_filters)` under a Hann window, scaled so that a sinusoid at
    its frequency has the squared sum of both parts equal to its power.
    """
    frequencies = fmin * (fmax / fmin) ** (np.arange(num_filters) / num_filters)
    phase = 2 * np.pi * np.arange(window_length)[:, None] * frequencies / sample_rate
    taper = np.hanning(window_length + 1)[:-1, None]
    bank = np.concatenate([np.cos(phase), np.sin(phase)], axis=1) * taper
    return (bank * np.sqrt(2) / taper.sum()).astype(np.float32)


class LogFilterbank(keras.layers.Layer):
    """Log-power of a fixed bank of windowed sinusoids on a log-frequency axis (Thickstun et al. 2018).

    Input `(batch, samples)`, output `(batch, frames, num_filters)`, frame `k` reading the `window_length` samples
    from sample `k * stride` on. The level is in decades above `floor_db`, at least 0, as 1 + power / floor under
    the logarithm is what the authors' log(power + ε) is but for a constant.
    """

    def __init__(
        self,
        sample_rate: int,
        window_length: int,
        stride: int,
        num_filters: int,
        fmin: float,
        fmax: float,
        floor_db: float = -80.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        if window_length % stride:
            raise ConfigError(f"window_length {window_length} is no multiple of stride {stride}")
        if fmax > sample_rate / 2:
            raise ConfigError(f"fmax {fmax:g} Hz is above the Nyquist frequency {sample_rate / 2:g} Hz")
        self._config = {
            "sample_rate": sample_rate,
            "window_length": window_length,
            "stride": stride,
            "num_filters": num_filters,
            "fmin": fmin,
            "fmax": fmax,
            "floor_db": floor_db,
        }
        self.stride = stride
        self.num_filters = num_filters
        self.window_length = window_length
        bank = sinusoid_bank(sample_rate, window_length, num_filters, fmin, fmax)
        self._taps = bank.reshape(window_length // stride, stride, 2 * num_filters)

    def call(self, audio: Any) -> Any:
        """`(batch, samples)` → `(batch, frames, num_filters)`."""
        num_blocks = audio.shape[1] // self.stride
        blocks = ops.reshape(audio[:, : num_blocks * self.stride], (-1, num_blocks, self.stride))
        parts = ops.square(ops.conv(blocks, ops.convert_to_tensor(self._taps), padding="valid"))
        power = parts[..., : self.num_filters] + parts[..., self.num_filters :]
        return level(power, self._config["floor_db"])

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        frames = (input_shape[1] - self.window_length) // self.stride + 1  # type: ignore[operator]
        return (input_shape[0], frames, self.num_filters)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self._config}


class LogPower(keras.layers.Layer):
    """Power → decades above `floor_db`, at least 0, of any shape; see `level`."""

    def __init__(self, floor_db: float = -80.0, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.floor_db = floor_db

    def call(self, power: Any) -> Any:
        return level(power, self.floor_db)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "floor_db": self.floor_db}


class MelSpectrogram(keras.layers.Layer):
    """Spectra in triangular mel bands, `(batch, samples)` → `(batch, samples // hop_length, num_mels)`.

    Frame `k` is centred on sample `k * hop_length`. Peaks of the bands are 1, so that a steady tone keeps its power,
    0.25 at full scale, or its amplitude, 0.5.

    Args:
        window_length: of the Hann window, in samples.
        fmin: lower edge of the lowest band, in Hz.
        fmax: upper edge of the highest, the Nyquist frequency by default.
        htk: mel scale of HTK (O'Shaughnessy's formula) rather than Slaney's.
        magnitude: sums amplitudes rather than powers.

    Raises:
        ConfigError: where `fmax` is above the Nyquist frequency.
    """

    def __init__(
        self,
        sample_rate: int,
        hop_length: int,
        window_length: int,
        num_mels: int,
        fmin: float = 0.0,
        fmax: float | None = None,
        htk: bool = False,
        magnitude: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        if fmax is not None and fmax > sample_rate / 2:
            raise ConfigError(
                f"bands up to {fmax:g} Hz reach above the Nyquist frequency {sample_rate / 2:g} Hz; take a higher"
                " sample rate"
            )
        from librosa import filters  # slow to import, and most families need none

        self._config = {
            "sample_rate": sample_rate,
            "hop_length": hop_length,
            "window_length": window_length,
            "num_mels": num_mels,
            "fmin": fmin,
            "fmax": fmax,
            "htk": htk,
            "magnitude": magnitude,
        }
        self.hop_length, self.window_length, self.num_mels = hop_length, window_length, num_mels
        self.magnitude = magnitude
        fft_length = transform_length(window_length)
        with warnings.catch_warnings():
            # Where bands are narrower than bins, the lowest may hold none, as in published front ends.
            warnings.filterwarnings("ignore", "Empty filters")
            bands = filters.mel(
                sr=sample_rate, n_fft=fft_length, n_mels=num_mels, fmin=fmin, fmax=fmax, htk=htk, norm=None
            )
        self._filters = bands.T.astype(np.float32)

    def call(self, audio: Any) -> Any:
        """`(batch, samples)` → `(batch, frames, num_mels)`."""
        num_frames = audio.shape[1] // self.hop_length
        spectrum = power_spectrum(audio, self.window_length, self.hop_length, num_frames)
        if self.magnitude:
            spectrum = ops.sqrt(spectrum + 1e-20)  # the root has no slope at 0
        return ops.matmul(spectrum, ops.convert_to_tensor(self._filters))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (input_shape[0], input_shape[1] // self.hop_length, self.num_mels)  # type: ignore[operator]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self._config}


class MedianDifference(keras.layers.Layer):
    """How far each band is above its median of late: what begins stands out, what goes on or ends is 0.

    The positive first-order median difference of Böck & Schedl (DAFx 2011): `max(x[n] - m[n], 0)`, where `m[n]` is the
    median of `x[n - num_frames]` to `x[n]`. Before the first frame there is silence. Shape `(batch, frames, bands)`.
    """

    def __init__(self, num_frames: int, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.num_frames = num_frames

    def call(self, levels: Any) -> Any:
        """Levels → their rises, both `(batch, frames, bands)`."""
        bands = ops.pad(ops.transpose(levels, (0, 2, 1)), [[0, 0], [0, 0], [self.num_frames, 0]])
        reach = self.num_frames + 1
        heard = ops.sort(ops.take(bands, np.arange(levels.shape[1])[:, None] + np.arange(reach), axis=2), axis=-1)
        median = (heard[..., self.num_frames // 2] + heard[..., reach // 2]) / 2
        return ops.relu(levels - ops.transpose(median, (0, 2, 1)))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_frames": self.num_frames}
