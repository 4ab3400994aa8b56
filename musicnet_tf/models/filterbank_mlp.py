"""The successors of the MusicNet paper's networks that are fully connected to a fixed filterbank."""

from __future__ import annotations

from typing import Any

import keras
import pydantic
from keras import layers, ops

from musicnet_tf.frontends import LogFilterbank
from musicnet_tf.models import WindowModel
from musicnet_tf.registry import MODELS


class FilterbankModel(WindowModel):
    """What the networks of Thickstun et al. 2018 share: log-power of 512 windowed sinusoids in 25 frames a window.

    The map is standardised by one running mean and deviation, which adds no trainable parameter and keeps it
    invariant under translation along frequency.

    Attributes:
        filter_length: samples that a sinusoid sees.
        stride: samples between frames of the map; `hop_length`, `window` and `filter_length` are multiples of it.
        num_filters: sinusoids, geometrically spaced from `fmin` up to, but without, `fmax`, in Hz.
    """

    filter_length: int = pydantic.Field(default=4096, gt=0)
    stride: int = pydantic.Field(default=512, gt=0)
    num_filters: int = pydantic.Field(default=512, gt=0)
    fmin: float = pydantic.Field(default=50.0, gt=0)
    fmax: float = pydantic.Field(default=6000.0, gt=0)

    @pydantic.model_validator(mode="after")
    def _grids_fit(self) -> FilterbankModel:
        for field in ("hop_length", "window", "filter_length"):
            if getattr(self, field) % self.stride:
                raise ValueError(f"{field} {getattr(self, field)} is no multiple of stride {self.stride}")
        return self

    @property
    def map_frames(self) -> int:
        """Frames of the map of one window."""
        return (self.window - self.filter_length) // self.stride + 1

    def log_map(self, audio: Any) -> Any:
        """`(batch, samples)` → `(batch, frames, num_filters, 1)`, standardised."""
        x = LogFilterbank(self.sample_rate, self.filter_length, self.stride, self.num_filters, self.fmin, self.fmax)(
            audio
        )
        return layers.BatchNormalization(center=False, scale=False, synchronized=True, dtype="float32")(x[..., None])


@MODELS.register("filterbank_mlp")
class FilterbankMlp(FilterbankModel):
    """Filterbank → ReLU → 128 notes, no biases (the three-layer network of Thickstun et al. 2018).

    Trainable parameters: `25 * 512 * 512 + 512 * 128 = 6,619,136`; the linear one of `hidden: 0` has
    `25 * 512 * 128 = 1,638,400`.

    Attributes:
        hidden: nodes of the hidden layer; 0 for a linear model.
    """

    source = "Thickstun et al. 2018, Invariances and Data Augmentation for Supervised Music Transcription"

    hidden: int = pydantic.Field(default=512, ge=0)

    def build(self) -> keras.Model:
        audio = keras.Input((self.spec().window_length,), dtype="float32", name="audio")
        x = ops.squeeze(self.log_map(audio), axis=-1)
        over_window = {"kernel_size": self.map_frames, "strides": self.hop_length // self.stride, "use_bias": False}
        if self.hidden:
            x = layers.Conv1D(self.hidden, **over_window, activation="relu", name="hidden")(x)
            x = layers.Dense(128, use_bias=False, kernel_initializer="zeros", dtype="float32", name="notes")(x)
        else:
            x = layers.Conv1D(128, **over_window, kernel_initializer="zeros", name="notes")(x)
        return keras.Model(audio, {"frame": layers.Identity(dtype="float32", name="frame")(x)}, name=self.name)
