"""A network on samples alone: filters as short as three of them, from the first layer on."""

from __future__ import annotations

from typing import Any

import pydantic

from musicnet_tf.models.tagging._blocks import convolve_and_pool
from musicnet_tf.models.tagging.tagger import Tagger
from musicnet_tf.registry import MODELS

_SHORTEST = 3


@MODELS.register("sample_cnn")
class SampleCnn(Tagger):
    """Samples → layers that each see three of what is below and keep a third of it, until one is left → tags.

    The last of them is 1 wide, as Won et al. (2020) have it. Trainable parameters with the defaults: 1,869,874.

    Attributes:
        filters: of each layer but the last; a chunk has 3 to the power of their number of samples.
        last_filters: of the layer that follows, 1 wide.
    """

    source = "Lee et al. 2017, Sample-level Deep Convolutional Neural Networks for Music Auto-tagging"

    sample_rate: int = pydantic.Field(default=22050, gt=0)
    filters: tuple[pydantic.PositiveInt, ...] = pydantic.Field(
        default=(128, 128, 128, 256, 256, 256, 256, 256, 256, 512), min_length=1
    )
    last_filters: int = pydantic.Field(default=512, gt=0)

    @property
    def chunk_length(self) -> int:
        return _SHORTEST ** len(self.filters)

    @property
    def num_features(self) -> int:
        return self.last_filters

    def embed(self, audio: Any) -> Any:
        x = self._block(audio[..., None], self.filters[0], _SHORTEST, strides=_SHORTEST)
        for filters in self.filters[1:]:
            x = self._block(x, filters, _SHORTEST, size=_SHORTEST)
        return self._block(x, self.last_filters, kernel=1)[:, 0]

    def _block(self, x: Any, filters: int, kernel: int, strides: int = 1, size: int = 1) -> Any:
        return convolve_and_pool(x, filters, size, kernel, strides)
