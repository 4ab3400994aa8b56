"""Learned harmonic filters, a front end of one family of taggers."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from musicnet_tf.errors import ConfigError
from musicnet_tf.frontends import power_spectrum

_C1_MIDI = 24
_BANDWIDTH_SLOPE, _BANDWIDTH_OFFSET = 0.1079, 24.7


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
