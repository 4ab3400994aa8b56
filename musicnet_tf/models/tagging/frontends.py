"""Front ends of taggers that `musicnet_tf.frontends` has not: mel bands within limits, and learned harmonic filters."""

from __future__ import annotations

import warnings
from typing import Any

import keras
import numpy as np
from keras import ops

from musicnet_tf.errors import ConfigError
from musicnet_tf.frontends import power_spectrum

_C1_MIDI = 24
_BANDWIDTH_SLOPE, _BANDWIDTH_OFFSET = 0.1079, 24.7


class MelBands(keras.layers.Layer):
    """Spectra in triangular mel bands, `(batch, samples)` → `(batch, samples // hop_length, num_mels)`.

    Frame `k` is centred on sample `k * hop_length`. Peaks of the bands are 1, so that a steady tone keeps its power,
    0.25 at full scale, or its amplitude, 0.5.

    Args:
        window_length: of the Hann window, in samples; it is filled up with zeros to a power of two.
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
        htk: bool = True,
        magnitude: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        if fmax is not None and fmax > sample_rate / 2:
            raise ConfigError(
                f"bands up to {fmax:g} Hz reach above the Nyquist frequency {sample_rate / 2:g} Hz; take a higher"
                " sample rate"
            )
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
        self.fft_length = 1 << (window_length - 1).bit_length()
        self.magnitude = magnitude
        from librosa import filters  # slow to import, and not all families need it

        with warnings.catch_warnings():
            # Where bands are narrower than bins, the lowest may hold none, as in the published front ends.
            warnings.filterwarnings("ignore", "Empty filters")
            bands = filters.mel(
                sr=sample_rate, n_fft=self.fft_length, n_mels=num_mels, fmin=fmin, fmax=fmax, htk=htk, norm=None
            )
        self._filters = bands.T.astype(np.float32)

    def call(self, audio: Any) -> Any:
        """`(batch, samples)` → `(batch, frames, num_mels)`."""
        spectrum = self._power(audio)
        if self.magnitude:
            spectrum = ops.sqrt(spectrum + 1e-20)  # the root has no slope at 0
        return ops.matmul(spectrum, ops.convert_to_tensor(self._filters))

    def _power(self, audio: Any) -> Any:
        """`(batch, samples)` → `(batch, frames, fft_length // 2 + 1)`."""
        half, missing = self.fft_length // 2, self.fft_length - self.window_length
        taper = np.hanning(self.window_length + 1)[:-1]
        taper = np.pad(taper / taper.sum(), (missing // 2, missing - missing // 2))
        real, imaginary = ops.stft(
            ops.pad(audio, [[0, 0], [half, half]]),
            sequence_length=self.fft_length,
            sequence_stride=self.hop_length,
            fft_length=self.fft_length,
            window=ops.convert_to_tensor(taper, "float32"),
            center=False,
        )
        return (ops.square(real) + ops.square(imaginary))[:, : audio.shape[1] // self.hop_length]

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (input_shape[0], input_shape[1] // self.hop_length, self.num_mels)  # type: ignore[operator]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self._config}


class HarmonicBands(keras.layers.Layer):
    """Power in triangular bands at multiples of each fundamental, whose widths are learned (Won et al., ICASSP 2020).

    `(batch, samples)` → `(batch, samples // hop_length, fundamentals, num_harmonics)`. Fundamentals lie from C1 on,
    `bands_per_semitone` to a semitone, to below the note whose highest harmonic is nearest to the Nyquist frequency. A
    band at `f` is `(0.1079 f + 24.7) / Q` Hz wide at its foot, an equivalent rectangular bandwidth; `Q`, one number for
    all, is the layer's only weight.

    Raises:
        ConfigError: where no fundamental is left.
    """

    def __init__(
        self,
        sample_rate: int,
        hop_length: int,
        window_length: int,
        num_harmonics: int = 6,
        bands_per_semitone: int = 2,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        from librosa import hz_to_midi, midi_to_hz

        self._config = {
            "sample_rate": sample_rate,
            "hop_length": hop_length,
            "window_length": window_length,
            "num_harmonics": num_harmonics,
            "bands_per_semitone": bands_per_semitone,
        }
        self.hop_length, self.window_length = hop_length, window_length
        highest = round(float(hz_to_midi(sample_rate / (2 * num_harmonics))))
        self.num_fundamentals = (highest - _C1_MIDI) * bands_per_semitone
        if self.num_fundamentals <= 0:
            raise ConfigError(
                f"{num_harmonics} harmonics at {sample_rate} Hz leave no fundamental from C1 on; take fewer of them or"
                " a higher sample rate"
            )
        self.num_harmonics = num_harmonics
        fundamentals = midi_to_hz(_C1_MIDI + np.arange(self.num_fundamentals) / bands_per_semitone)
        self.centres = np.outer(np.arange(1, num_harmonics + 1), fundamentals).astype(np.float32)
        self._bins = np.linspace(0, sample_rate / 2, window_length // 2 + 1, dtype=np.float32)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Adds `q`, 1 at first."""
        self.q = self.add_weight(name="q", shape=(), initializer="ones")

    def filters(self) -> Any:
        """What each band lets through of each bin, `(window_length // 2 + 1, num_harmonics * fundamentals)`."""
        centres = self.centres.reshape(-1)
        away = np.abs(self._bins[:, None] - centres) / (_BANDWIDTH_SLOPE * centres + _BANDWIDTH_OFFSET)
        return ops.relu(1 - ops.multiply(ops.convert_to_tensor(2 * away), self.q))

    def call(self, audio: Any) -> Any:
        """`(batch, samples)` → `(batch, frames, fundamentals, num_harmonics)`."""
        num_frames = audio.shape[1] // self.hop_length
        power = power_spectrum(audio, self.window_length, self.hop_length, num_frames)
        bands = ops.matmul(power, self.filters())
        bands = ops.reshape(bands, (-1, num_frames, self.num_harmonics, self.num_fundamentals))
        return ops.transpose(bands, (0, 1, 3, 2))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        frames = input_shape[1] // self.hop_length  # type: ignore[operator]
        return (input_shape[0], frames, self.num_fundamentals, self.num_harmonics)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self._config}
