"""A temporal convolutional network for beats and downbeats."""

from __future__ import annotations

from typing import Any

import keras
import pydantic
from keras import layers

from musicnet_tf.frontends import LogFrequencySpectrogram
from musicnet_tf.layers import prior_bias
from musicnet_tf.models import HeadSpec, Model, ModelSpec
from musicnet_tf.registry import MODELS
from musicnet_tf.timebase import FrameClock

_BINS_PER_OCTAVE, _NUM_BINS = 12, 96
_POOLS = (3, 4)
_KERNEL = 5
_PRIORS = {"beat": 0.1, "downbeat": 0.03}


@MODELS.register("beat_tcn")
class BeatTcn(Model):
    """Log-frequency spectra → two convolutions, pooled over frequency → dilated convolutions over time → two heads.

    The network of Böck and Davies (ISMIR 2020), where each block looks at its neighbours at a dilation and at twice
    that, wider, without its head for tempo, and at 50 frames a second, as Foscarin et al. (ISMIR 2024) have it. Like
    every convolutional network here it can be cut into windows and put together again exactly. Trainable parameters
    with the defaults: 363,254.

    Attributes:
        sample_rate: of the waveform that it takes.
        hop_length: samples between frames; 320 at 16 kHz is 20 ms.
        window_frames: frames in one window; any number works with the same weights, and what exceeds twice the margin
            is new in each.
        window_lengths: of the spectra, in samples.
        filters: of the two convolutions over time and frequency.
        channels: of the convolutions over time.
        dilations: of the residual blocks, in frames.
        dropout: share of a block's channels that are left out in training.
    """

    source = "musicnet_tf, after Böck & Davies 2020"

    sample_rate: int = pydantic.Field(default=16000, gt=0)
    hop_length: int = pydantic.Field(default=320, gt=0)
    window_frames: int = pydantic.Field(default=1500, gt=0)
    window_lengths: tuple[pydantic.PositiveInt, ...] = pydantic.Field(default=(4096, 1024), min_length=1)
    filters: tuple[pydantic.PositiveInt, pydantic.PositiveInt] = (16, 24)
    channels: int = pydantic.Field(default=64, gt=0)
    dilations: tuple[pydantic.PositiveInt, ...] = (1, 2, 4, 8, 16, 32, 64)
    dropout: float = pydantic.Field(default=0.1, ge=0, lt=1)

    def spec(self) -> ModelSpec:
        convolutions = 2 + 2 * (_KERNEL // 2) * sum(self.dilations)
        spectrum = -(-max(self.window_lengths) // (2 * self.hop_length))
        return ModelSpec(
            clock=FrameClock(self.sample_rate, self.hop_length),
            window_length=self.window_frames * self.hop_length,
            num_frames=self.window_frames,
            margin=convolutions + spectrum,
            heads=dict.fromkeys(_PRIORS, HeadSpec(1)),
        )

    def build(self) -> keras.Model:
        audio = keras.Input((self.window_frames * self.hop_length,), dtype="float32", name="audio")
        x = LogFrequencySpectrogram(
            self.sample_rate, self.hop_length, self.window_lengths, _BINS_PER_OCTAVE, _NUM_BINS
        )(audio)
        x = layers.BatchNormalization(synchronized=True)(x)
        for filters, pool in zip(self.filters, _POOLS, strict=True):
            x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
            x = layers.ReLU()(layers.BatchNormalization(synchronized=True)(x))
            x = layers.MaxPooling2D((1, pool))(x)
        x = layers.Reshape((x.shape[1], x.shape[2] * x.shape[3]))(x)
        x = layers.ReLU()(self._project(x))
        for dilation in self.dilations:
            x = layers.add([x, self._look_around(x, dilation)])
        x = layers.ReLU()(layers.BatchNormalization(synchronized=True)(x))
        logits = {
            head: layers.Dense(1, bias_initializer=prior_bias(prior), dtype="float32", name=head)(x)
            for head, prior in _PRIORS.items()
        }
        return keras.Model(audio, logits, name=self.name)

    def _look_around(self, x: Any, dilation: int) -> Any:
        """What a block adds: `(batch, frames, channels)`."""
        near_and_far = [
            layers.Conv1D(self.channels, _KERNEL, dilation_rate=reach, padding="same", use_bias=False)(x)
            for reach in (dilation, 2 * dilation)
        ]
        x = layers.BatchNormalization(synchronized=True)(layers.concatenate(near_and_far))
        x = layers.SpatialDropout1D(self.dropout)(layers.ReLU()(x))
        return self._project(x)

    def _project(self, x: Any) -> Any:
        return layers.BatchNormalization(synchronized=True)(layers.Dense(self.channels, use_bias=False)(x))
