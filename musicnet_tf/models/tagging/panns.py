"""PANNs: convolutional networks for AudioSet, in three depths."""

from __future__ import annotations

from typing import Any, ClassVar

import pydantic
from keras import layers, ops

from musicnet_tf.models.tagging._blocks import pool, rectified
from musicnet_tf.models.tagging._spec_augment import Stripes
from musicnet_tf.models.tagging.tagger import AudioSetTagger, tag_logits
from musicnet_tf.registry import MODELS


class Panns(AudioSetTagger):
    """Log-mel spectra of 10 s → blocks of convolutions, means of whose cells are kept → a dense layer → tags.

    Over frequency the mean is taken, over time mean and maximum, added. In training spectra are masked as published.

    Attributes:
        filters: of each block; after each, time and frequency are halved, but where `unpooled` says.
        dense: units of the layer before tags.
        block_dropout: share of what a block gives that is left out in training.
        dropout: share of what stands for the chunk that is left out in training, before the dense layer.
    """

    source = "Kong et al. 2020, PANNs: Large-Scale Pretrained Audio Neural Networks for Audio Pattern Recognition"

    kernel: ClassVar[int] = 3
    convolutions: ClassVar[int] = 2
    """Of each block."""
    unpooled: ClassVar[int] = 0
    """Blocks at the end that are not pooled."""

    filters: tuple[pydantic.PositiveInt, ...] = pydantic.Field(default=(64, 128, 256, 512), min_length=1)
    spec_augment: Stripes | None = Stripes()
    dense: int = pydantic.Field(default=512, gt=0)
    block_dropout: float = pydantic.Field(default=0.2, ge=0, lt=1)

    @property
    def num_features(self) -> int:
        return self.dense

    def embed(self, audio: Any) -> Any:
        x = self.spectra(audio)
        for i, filters in enumerate(self.filters):
            for _ in range(self.convolutions):
                x = rectified(x, filters, self.kernel, use_bias=False)
            x = pool(x, 2 if i < len(self.filters) - self.unpooled else 1, "average")
            x = layers.Dropout(self.block_dropout)(x)
        x = ops.mean(x, axis=2)
        x = layers.add([layers.GlobalMaxPooling1D()(x), layers.GlobalAveragePooling1D()(x)])
        return layers.Dense(self.dense, activation="relu")(layers.Dropout(self.dropout)(x))

    def tag(self, features: Any) -> Any:
        return tag_logits(features, self.num_tags)


@MODELS.register("panns_cnn6")
class PannsCnn6(Panns):
    """Log-mel spectra of 10 s → four blocks of one 5 × 5 convolution → a dense layer of 512 → tags.

    Trainable parameters with the defaults and AudioSet's 527 tags: 4,837,455.
    """

    kernel = 5
    convolutions = 1


@MODELS.register("panns_cnn10")
class PannsCnn10(Panns):
    """Log-mel spectra of 10 s → four blocks of two 3 × 3 convolutions → a dense layer of 512 → tags.

    Trainable parameters with the defaults and AudioSet's 527 tags: 5,219,279.
    """


@MODELS.register("panns_cnn14")
class PannsCnn14(Panns):
    """Log-mel spectra of 10 s → six blocks of two 3 × 3 convolutions → a dense layer of 2,048 → tags.

    The last block is not pooled. Trainable parameters with the defaults and AudioSet's 527 tags: 80,753,615.
    """

    unpooled = 1

    filters: tuple[pydantic.PositiveInt, ...] = pydantic.Field(default=(64, 128, 256, 512, 1024, 2048), min_length=1)
    dense: int = pydantic.Field(default=2048, gt=0)
