"""Layers that several families of models share, in `keras.ops`."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import ops

_MOST_COPIES = 32
"""Of each sample, that `SlidingDense` makes to gain speed."""


def prior_bias(probability: float) -> keras.initializers.Initializer:
    """Begins a bias at the logit of a class's share of cells (Lin et al. 2017, section 3.3).

    Training then need not first learn that most cells are silent.
    """
    return keras.initializers.Constant(math.log(probability / (1 - probability)))


def pitch_logits(x: Any, num_pitches: int, name: str, prior: float = 0.5) -> Any:
    """One dense layer to all pitches, `(batch, frames, features)` → float32 `(batch, frames, num_pitches)`."""
    return keras.layers.Dense(num_pitches, bias_initializer=prior_bias(prior), dtype="float32", name=name)(x)


class HarmonicShift(keras.layers.Layer):
    """Concatenates copies of the features, shifted so that each pitch sees its harmonics' features.

    Input `(batch, frames, pitches, channels)`, output `(batch, frames, pitches, channels * len(shifts))`;
    what would come from beyond the axis is 0.
    """

    def __init__(self, shifts: tuple[int, ...], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.shifts = tuple(shifts)

    def call(self, x: Any) -> Any:
        """Shift `s` moves the features of pitch `p + s` to pitch `p`."""
        size = x.shape[2]
        below, above = max(0, -min(self.shifts)), max(0, *self.shifts)
        padded = ops.pad(x, [[0, 0], [0, 0], [below, above], [0, 0]])
        return ops.concatenate([padded[:, :, below + s : below + s + size] for s in self.shifts], axis=-1)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*input_shape[:-1], input_shape[-1] * len(self.shifts))  # type: ignore[operator]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "shifts": self.shifts}


class SlidingDense(keras.layers.Layer):
    """One dense layer without bias over every region of a waveform: a strided convolution with long filters.

    Region `r` is the `receptive_field` samples from sample `r * stride` on; output `(batch, regions, units)`
    with `regions = (samples - receptive_field) // stride + 1`. Windows that overlap share their regions, so
    that a stretch of audio costs less than its windows one by one: the waveform is seen as blocks of `stride`
    samples, and the filters as `ceil(receptive_field / stride)` taps of a convolution over blocks, the last of
    them filled up with zeros. Where regions overlap little, the blocks of each are laid side by side for one
    matrix product, which trains up to three times as fast as the convolution; it is no faster, and takes more
    memory, where they overlap much.
    """

    def __init__(self, units: int, receptive_field: int, stride: int, kernel_regularizer: Any = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.units = units
        self.receptive_field = receptive_field
        self.stride = stride
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self._taps = -(-receptive_field // stride)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Adds `kernel`, `(receptive_field, units)`: a column a filter."""
        self.kernel = self.add_weight(
            name="kernel",
            shape=(self.receptive_field, self.units),
            # Small, as in the authors' later code: music has little power above some kHz, so that training never
            # moves what the filters have there at first, and it would drown what they learn below.
            initializer=keras.initializers.RandomNormal(stddev=1e-4),
            regularizer=self.kernel_regularizer,
        )

    def num_regions(self, num_samples: int) -> int:
        """Regions of so many samples."""
        return (num_samples - self.receptive_field) // self.stride + 1

    def call(self, audio: Any) -> Any:
        """`(batch, samples)` → `(batch, regions, units)`."""
        num_blocks = self.num_regions(audio.shape[1]) - 1 + self._taps
        missing = num_blocks * self.stride - audio.shape[1]
        audio = ops.pad(audio, [[0, 0], [0, missing]]) if missing > 0 else audio[:, : num_blocks * self.stride]
        blocks = ops.reshape(audio, (-1, num_blocks, self.stride))
        filled = ops.pad(self.kernel, [[0, self._taps * self.stride - self.receptive_field], [0, 0]])
        filled = ops.cast(filled, blocks.dtype)
        regions = num_blocks - self._taps + 1
        if regions * self._taps > _MOST_COPIES * num_blocks:
            taps = ops.reshape(filled, (self._taps, self.stride, self.units))
            return ops.conv(blocks, taps, padding="valid")
        seen = ops.take(blocks, np.arange(regions)[:, None] + np.arange(self._taps), axis=1)
        # Flat, as the gradient of a product of batches would hold the kernel's once for each stretch.
        heard = ops.matmul(ops.reshape(seen, (-1, self._taps * self.stride)), filled)
        return ops.reshape(heard, (-1, regions, self.units))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (input_shape[0], self.num_regions(input_shape[1]), self.units)  # type: ignore[arg-type]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units,
            "receptive_field": self.receptive_field,
            "stride": self.stride,
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
        }


class Windows(keras.layers.Layer):
    """The overlapping windows of a stretch, `(batch, samples)` → `(batch, frames, window)`.

    For what must be done window by window; `SlidingDense` needs none.
    """

    def __init__(self, window: int, hop_length: int, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.window = window
        self.hop_length = hop_length

    def call(self, audio: Any) -> Any:
        """`(batch, samples)` → `(batch, frames, window)`."""
        if audio.shape[1] == self.window:
            return audio[:, None]
        return ops.extract_sequences(audio, self.window, self.hop_length)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        frames = (input_shape[1] - self.window) // self.hop_length + 1  # type: ignore[operator]
        return (input_shape[0], frames, self.window)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "window": self.window, "hop_length": self.hop_length}


class RootMeanSquare(keras.layers.Layer):
    """Level of each window of a stretch, `(batch, samples)` → `(batch, frames, 1)`; above 0 even in silence.

    A network of ReLUs without biases is homogeneous: to divide its output by the level of its window is to
    bring the window to unit power first. Done so, windows that overlap need not be copied.
    """

    def __init__(self, window: int, hop_length: int, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.window = window
        self.hop_length = hop_length

    def call(self, audio: Any) -> Any:
        """`(batch, samples)` → `(batch, frames, 1)`."""
        power = ops.average_pool(ops.square(audio)[..., None], self.window, self.hop_length, padding="valid")
        return ops.sqrt(power + 1e-8)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        frames = (input_shape[1] - self.window) // self.hop_length + 1  # type: ignore[operator]
        return (input_shape[0], frames, 1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "window": self.window, "hop_length": self.hop_length}
