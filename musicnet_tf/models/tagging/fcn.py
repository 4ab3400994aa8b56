"""A fully convolutional network: the first that tagged music from log-mel spectra alone."""

from __future__ import annotations

from typing import Any

import pydantic
from keras import layers

from musicnet_tf.models.tagging.tagger import PooledCnn
from musicnet_tf.registry import MODELS


@MODELS.register("fcn")
class Fcn(PooledCnn):
    """Log-mel spectra of 29 s → five convolutions, pooled until one cell is left → tags.

    As Won et al. (2020) have it, at 16 kHz; the paper's widest has four convolutions of up to 2,048 filters. Where
    pools leave more than one cell, as of longer chunks, their mean is taken. Trainable parameters with the defaults:
    447,732.
    """

    source = "Choi et al. 2016, Automatic Tagging Using Deep Convolutional Neural Networks"

    num_mels: int = pydantic.Field(default=96, gt=0)
    chunk_frames: int = pydantic.Field(default=1813, gt=0)
    filters: tuple[pydantic.PositiveInt, ...] = pydantic.Field(default=(64, 128, 128, 128, 64), min_length=1)
    pools: tuple[tuple[pydantic.PositiveInt, pydantic.PositiveInt], ...] = ((4, 2), (4, 2), (4, 2), (5, 3), (4, 4))

    @property
    def num_features(self) -> int:
        return self.filters[-1]

    def embed(self, audio: Any) -> Any:
        return layers.GlobalAveragePooling2D()(self.convolutions(audio))
