"""The music tagging transformer: a few convolutions before attention over as much time as there is."""

from __future__ import annotations

from typing import Any

import pydantic
from keras import layers

from musicnet_tf.models.tagging._attention import ClassTokens, Positions, SelfAttention, layer_norm, transform
from musicnet_tf.models.tagging._blocks import pool, residual
from musicnet_tf.models.tagging.tagger import MelTagger
from musicnet_tf.registry import MODELS

_POOLS = ((2, 2), (2, 2), (1, 2))


@MODELS.register("music_tagging_transformer")
class MusicTaggingTransformer(MelTagger):
    """Log-mel spectra of 5 to 30 s at 22,050 Hz → three residual blocks → four layers of a transformer → tags.

    The weights do not depend on the length of a chunk. Trainable parameters with the defaults: 4,567,732, of which
    131,328 are positions.

    Attributes:
        chunk_frames: spectra in a chunk, four to a token; 646 are 15 s.
        filters: of the convolutions.
        features: of a token.
        max_tokens: for how many, besides that of the tags, there are positions.
        depth: layers of the transformer.
        heads: of attention.
        hidden: units of the dense layers between layers of attention.
        layer_dropout: share of what attention and dense layers give that is left out in training.
    """

    source = "Won, Choi & Serra 2021, Semi-supervised Music Tagging Transformer"

    sample_rate: int = pydantic.Field(default=22050, gt=0)
    hop_length: int = pydantic.Field(default=512, gt=0)
    window_length: int = pydantic.Field(default=1024, gt=0)
    chunk_frames: int = pydantic.Field(default=646, gt=0)
    filters: int = pydantic.Field(default=128, gt=0)
    features: int = pydantic.Field(default=256, gt=0)
    max_tokens: int = pydantic.Field(default=512, gt=0)
    depth: int = pydantic.Field(default=4, gt=0)
    heads: int = pydantic.Field(default=8, gt=0)
    hidden: int = pydantic.Field(default=1024, gt=0)
    layer_dropout: float = pydantic.Field(default=0.1, ge=0, lt=1)
    dropout: float = pydantic.Field(default=0.0, ge=0, lt=1)

    @property
    def num_features(self) -> int:
        return self.features

    def embed(self, audio: Any) -> Any:
        x = self.spectra(audio)
        for size in _POOLS:
            x = pool(residual(x, self.filters), size)
        x = layers.Dense(self.features)(layers.Reshape((x.shape[1], x.shape[2] * x.shape[3]))(x))
        x = Positions(self.max_tokens + 1)(ClassTokens()(x))
        x = layers.Dropout(self.layer_dropout)(x)
        for _ in range(self.depth):
            x = transform(x, SelfAttention(self.heads, qkv_bias=False), self.hidden, self.layer_dropout)
        return layer_norm()(x[:, 0])
