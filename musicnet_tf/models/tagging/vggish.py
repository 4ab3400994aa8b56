"""VGGish: a network of images, for second-long spectra of sounds."""

from __future__ import annotations

from typing import Any

import pydantic
from keras import layers, ops

from musicnet_tf.frontends import MelSpectrogram
from musicnet_tf.models.tagging._blocks import pool
from musicnet_tf.models.tagging.tagger import MelTagger
from musicnet_tf.registry import MODELS

_FMIN, _FMAX = 125.0, 7500.0
_OFFSET = 0.01
_KERNEL = 3


@MODELS.register("vggish")
class Vggish(MelTagger):
    """Log-mel spectra of 0.96 s → six convolutions, pooled four times → two dense layers → tags.

    No normalisation, as in VGG; convolutions and dense layers have biases. The released network ends in a layer of
    128 without a nonlinearity, `bottleneck: 128`, before tags. Trainable parameters with the defaults and AudioSet's
    527 tags: 73,775,887; of the released network up to its embedding: 72,141,184.

    Attributes:
        filters: of the four groups of convolutions: one, one, two and two.
        dense: units of the dense layers.
        bottleneck: units of one more layer before tags; 0 for none.
    """

    source = "Hershey et al. 2017, CNN Architectures for Large-Scale Audio Classification; VGGish of AudioSet"

    hop_length: int = pydantic.Field(default=160, gt=0)
    window_length: int = pydantic.Field(default=400, gt=0)
    num_mels: int = pydantic.Field(default=64, gt=0)
    chunk_frames: int = pydantic.Field(default=96, gt=0)
    filters: tuple[pydantic.PositiveInt, pydantic.PositiveInt, pydantic.PositiveInt, pydantic.PositiveInt] = (
        *(64, 128),
        *(256, 512),
    )
    dense: tuple[pydantic.PositiveInt, ...] = pydantic.Field(default=(4096, 4096), min_length=1)
    bottleneck: int = pydantic.Field(default=0, ge=0)
    dropout: float = pydantic.Field(default=0.0, ge=0, lt=1)

    def levels(self, audio: Any) -> Any:
        """`(batch, chunk_length)` → `(batch, chunk_frames, num_mels, 1)`, logarithms of sums of amplitudes.

        Their transform is not divided by the sum of its window, half its length, and their offset is for that scale.
        """
        mel = MelSpectrogram(
            *(self.sample_rate, self.hop_length, self.window_length, self.num_mels, _FMIN, _FMAX),
            htk=True,
            magnitude=True,
        )(audio)
        return ops.log(mel * (self.window_length / 2) + _OFFSET)[..., None]

    @property
    def num_features(self) -> int:
        return self.bottleneck or self.dense[-1]

    def embed(self, audio: Any) -> Any:
        x = self.spectra(audio)
        for filters, convolutions in zip(self.filters, (1, 1, 2, 2), strict=True):
            for _ in range(convolutions):
                x = layers.Conv2D(filters, _KERNEL, padding="same", activation="relu")(x)
            x = pool(x, 2)
        x = layers.Flatten()(x)
        for units in self.dense:
            x = layers.Dense(units, activation="relu")(x)
        return layers.Dense(self.bottleneck)(x) if self.bottleneck else x
