"""The short-chunk CNN: many small convolutions over few seconds, the strongest of which speaks for the chunk."""

from __future__ import annotations

from typing import Any

import pydantic
from keras import layers

from musicnet_tf.models.tagging._blocks import convolve_and_pool, dense
from musicnet_tf.models.tagging.tagger import MelTagger
from musicnet_tf.registry import MODELS


@MODELS.register("short_chunk_cnn")
class ShortChunkCnn(MelTagger):
    """Log-mel spectra of 3.7 s → seven convolutions that halve time and frequency → maxima → a dense layer → tags.

    Trainable parameters with the defaults: 3,687,348.

    Attributes:
        filters: of each convolution.
    """

    source = "Won et al. 2020, Evaluation of CNN-based Automatic Music Tagging Models"

    filters: tuple[pydantic.PositiveInt, ...] = pydantic.Field(
        default=(128, 128, 256, 256, 256, 256, 512), min_length=1
    )

    @property
    def num_features(self) -> int:
        return self.filters[-1]

    def embed(self, audio: Any) -> Any:
        x = self.spectra(audio)
        for filters in self.filters:
            x = self._halve(x, filters)
        x = layers.GlobalMaxPooling2D()(x)
        return dense(x, x.shape[-1])

    def _halve(self, x: Any, filters: int) -> Any:
        return convolve_and_pool(x, filters, 2)
