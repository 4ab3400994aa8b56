"""A convolutional network whose frames look at one another before they tell tags."""

from __future__ import annotations

from typing import Any

import pydantic
from keras import layers, ops

from musicnet_tf.models.tagging._attention import ClassTokens, SelfAttention, transform_then_normalize
from musicnet_tf.models.tagging._blocks import residual
from musicnet_tf.models.tagging.tagger import MelTagger
from musicnet_tf.registry import MODELS

_BEFORE_TIME_STAYS = 3


@MODELS.register("self_attention_cnn")
class SelfAttentionCnn(MelTagger):
    """Log-mel spectra of 15 s → seven residual blocks → two layers of BERT on 118 frames → tags.

    All blocks halve frequency, the first three time as well. Tags are told at a token of random numbers that are not
    trained, and positions from nothing but convolutions, as Won et al. (2020) have it. Trainable parameters with the
    defaults: 10,521,652.

    Attributes:
        filters: of the residual blocks.
        depth: layers of attention.
        heads: of attention.
        hidden: units of the dense layers between layers of attention.
        attention_dropout: share of the attention that is left out in training.
        layer_dropout: share of what attention and dense layers give that is left out.
    """

    source = "Won et al. 2019, Toward Interpretable Music Tagging with Self-attention"

    chunk_frames: int = pydantic.Field(default=938, gt=0)
    filters: tuple[pydantic.PositiveInt, ...] = pydantic.Field(
        default=(128, 128, 256, 256, 256, 256, 256), min_length=1
    )
    depth: int = pydantic.Field(default=2, gt=0)
    heads: int = pydantic.Field(default=8, gt=0)
    hidden: int = pydantic.Field(default=1024, gt=0)
    attention_dropout: float = pydantic.Field(default=0.5, ge=0, lt=1)
    layer_dropout: float = pydantic.Field(default=0.4, ge=0, lt=1)

    @property
    def num_features(self) -> int:
        return self.filters[-1]

    def embed(self, audio: Any) -> Any:
        x = self.spectra(audio)
        for i, filters in enumerate(self.filters):
            x = residual(x, filters, strides=(2, 2) if i < _BEFORE_TIME_STAYS else (1, 2))
        x = ClassTokens(learned=False)(ops.max(x, axis=2))  # of 128 bands one is left
        for _ in range(self.depth):
            attention = SelfAttention(self.heads, self.attention_dropout)
            x = transform_then_normalize(x, attention, self.hidden, self.layer_dropout)
        return layers.Dense(x.shape[-1], activation="tanh")(x[:, 0])
