"""A convolutional recurrent network: convolutions hear what sounds, recurrent layers sum it up over time."""

from __future__ import annotations

from typing import Any

import pydantic
from keras import layers

from musicnet_tf.models.tagging.tagger import PooledCnn
from musicnet_tf.registry import MODELS


@MODELS.register("crnn")
class Crnn(PooledCnn):
    """Log-mel spectra of 29 s → four convolutions → 18 steps of two GRUs, whose last state tells the tags.

    As Won et al. (2020) have it. Trainable parameters with the defaults: 394,100.

    Attributes:
        recurrent: units of each GRU.
    """

    source = "Choi et al. 2017, Convolutional Recurrent Neural Networks for Music Classification"

    num_mels: int = pydantic.Field(default=96, gt=0)
    chunk_frames: int = pydantic.Field(default=1813, gt=0)
    filters: tuple[pydantic.PositiveInt, ...] = pydantic.Field(default=(64, 128, 128, 128), min_length=1)
    pools: tuple[tuple[pydantic.PositiveInt, pydantic.PositiveInt], ...] = ((2, 2), (3, 3), (4, 4), (4, 4))
    recurrent: tuple[pydantic.PositiveInt, ...] = pydantic.Field(default=(32, 32), min_length=1)

    @property
    def num_features(self) -> int:
        return self.recurrent[-1]

    def embed(self, audio: Any) -> Any:
        x = self.convolutions(audio)
        x = layers.Reshape((x.shape[1], x.shape[2] * x.shape[3]))(x)
        for units in self.recurrent[:-1]:
            x = layers.GRU(units, return_sequences=True)(x)
        return layers.GRU(self.recurrent[-1])(x)
