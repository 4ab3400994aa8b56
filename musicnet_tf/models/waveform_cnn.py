"""The MusicNet paper's networks that slide one layer of filters over raw samples: AvgPool and CNN."""

from __future__ import annotations

from typing import Any, Literal

import keras
import pydantic
from keras import layers, ops

from musicnet_tf.layers import RootMeanSquare, SlidingDense, Windows
from musicnet_tf.models import WindowModel
from musicnet_tf.registry import MODELS


@MODELS.register("waveform_cnn")
class WaveformCnn(WindowModel):
    """Filters over all regions of a raw window → ReLU → 128 notes, no biases (Thickstun et al. 2017, section 4.6).

    Trainable parameters: `hidden * (receptive_field + 128)` where regions are pooled, and
    `hidden * (receptive_field + 128 * regions)` where each has weights of its own. The paper's AvgPool has 500
    filters of 1998 samples, 11 regions 5 samples apart in 2048: 1,063,000; its CNN 500 of 10,240, 97 regions 64
    apart in 16,384: 11,328,000.

    Attributes:
        receptive_field: samples that a filter sees.
        stride: samples from one region to the next.
        hidden: filters.
        pooling: `mean` or `max` over the regions of a window, or `none`: all go on to the linear layer.
        normalize: brings each window to unit power, as the authors' later code does; the paper does not tell.
        l2: weight of the squared norm of the filters in the loss.
        dropout: share of regions' outputs that is left out in training.
    """

    source = "Thickstun et al. 2017, section 4.6 and Table 3"

    receptive_field: int = pydantic.Field(default=10240, gt=0)
    stride: int = pydantic.Field(default=64, gt=0)
    hidden: int = pydantic.Field(default=500, gt=0)
    pooling: Literal["mean", "max", "none"] = "none"
    normalize: bool = True
    l2: float = pydantic.Field(default=0.0, ge=0)
    dropout: float = pydantic.Field(default=0.0, ge=0, lt=1)

    @pydantic.model_validator(mode="after")
    def _filters_fit(self) -> WaveformCnn:
        if self.receptive_field > self.window:
            raise ValueError(f"receptive_field {self.receptive_field} is longer than the window, {self.window}")
        return self

    @property
    def num_regions(self) -> int:
        """Regions of one window."""
        return (self.window - self.receptive_field) // self.stride + 1

    def build(self) -> keras.Model:
        audio = keras.Input((self.spec().window_length,), dtype="float32", name="audio")
        # Where windows begin on the grid of regions they share them; else each has its own.
        shared = self.hop_length % self.stride == 0
        step = self.hop_length // self.stride if shared else 1
        x = audio if shared else ops.reshape(Windows(self.window, self.hop_length)(audio), (-1, self.window))
        regularizer = keras.regularizers.L2(self.l2) if self.l2 else None
        x = SlidingDense(
            self.hidden, self.receptive_field, self.stride, kernel_regularizer=regularizer, name="filters"
        )(x)
        x = layers.Dropout(self.dropout)(layers.ReLU()(x))
        x = self._notes(x, step)
        x = ops.reshape(x, (-1, self.window_frames, 128))
        if self.normalize:
            x = ops.cast(x, "float32") / RootMeanSquare(self.window, self.hop_length)(audio)
        return keras.Model(audio, {"frame": layers.Identity(dtype="float32", name="frame")(x)}, name=self.name)

    def _notes(self, regions: Any, step: int) -> Any:
        """`(batch, regions, hidden)` → `(batch, windows, 128)`, windows `step` regions apart."""
        if self.pooling == "none":
            notes = layers.Conv1D(
                128, self.num_regions, strides=step, use_bias=False, kernel_initializer="zeros", name="notes"
            )
            return notes(regions) / self.num_regions  # as in a mean, so that one learning rate fits all poolings
        pool = layers.AveragePooling1D if self.pooling == "mean" else layers.MaxPooling1D
        pooled = pool(self.num_regions, strides=step, padding="valid")(regions)
        return layers.Dense(128, use_bias=False, kernel_initializer="zeros", dtype="float32", name="notes")(pooled)
