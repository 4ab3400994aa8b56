"""The network on samples, with residual blocks whose channels are gated."""

from __future__ import annotations

from typing import Any

import pydantic

from musicnet_tf.models.tagging._blocks import dense, pool, residual, squeeze_and_excite
from musicnet_tf.models.tagging.sample_cnn import SampleCnn
from musicnet_tf.registry import MODELS


@MODELS.register("sample_cnn_se")
class SampleCnnSe(SampleCnn):
    """`sample_cnn` with two convolutions a layer beside a way past them, squeeze and excitation, and a dense layer.

    As Won et al. (2020) have it. Trainable parameters with the defaults: 6,951,858.

    Attributes:
        dense: units of the layer before tags.
    """

    source = "Kim et al. 2018, Sample-level CNN Architectures for Music Auto-tagging Using Raw Waveforms"

    dense: int = pydantic.Field(default=512, gt=0)

    @property
    def num_features(self) -> int:
        return self.dense

    def embed(self, audio: Any) -> Any:
        return dense(super().embed(audio), self.dense)

    def _block(self, x: Any, filters: int, kernel: int, strides: int = 1, size: int = 1) -> Any:
        return pool(residual(x, filters, kernel, strides, gate=squeeze_and_excite), size)
