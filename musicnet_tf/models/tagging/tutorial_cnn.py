"""The small network of the ISMIR 2021 tutorial on music classification, for genres."""

from __future__ import annotations

from typing import Any

import pydantic
from keras import layers

from musicnet_tf.models.tagging._blocks import dense
from musicnet_tf.models.tagging.tagger import PooledCnn
from musicnet_tf.registry import MODELS


@MODELS.register("tutorial_cnn")
class TutorialCnn(PooledCnn):
    """Log-mel spectra of 29 s at 22,050 Hz → five convolutions, pooled until one cell is left → a dense layer → tags.

    Where pools leave more than one cell, as of longer chunks, their mean is taken. Trainable parameters with the
    defaults and the tutorial's 10 tags: 40,124.
    """

    source = "Won, Spijkervet & Choi 2021, Music Classification: Beyond Supervised Learning (tutorial at ISMIR)"

    sample_rate: int = pydantic.Field(default=22050, gt=0)
    hop_length: int = pydantic.Field(default=512, gt=0)
    window_length: int = pydantic.Field(default=1024, gt=0)
    chunk_frames: int = pydantic.Field(default=1249, gt=0)
    filters: tuple[pydantic.PositiveInt, ...] = pydantic.Field(default=(16, 16, 32, 32, 64), min_length=1)
    pools: tuple[tuple[pydantic.PositiveInt, pydantic.PositiveInt], ...] = ((3, 2), (4, 3), (5, 2), (3, 3), (4, 3))
    convolution_dropout: float = pydantic.Field(default=0.1, ge=0, lt=1)

    @property
    def num_features(self) -> int:
        return self.filters[-1]

    def embed(self, audio: Any) -> Any:
        x = layers.GlobalAveragePooling2D()(self.convolutions(audio))
        return dense(x, x.shape[-1])
