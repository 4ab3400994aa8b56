"""The short-chunk CNN with residual connections."""

from __future__ import annotations

from typing import Any

from musicnet_tf.models.tagging._blocks import residual
from musicnet_tf.models.tagging.short_chunk_cnn import ShortChunkCnn
from musicnet_tf.registry import MODELS


@MODELS.register("short_chunk_resnet")
class ShortChunkResnet(ShortChunkCnn):
    """`short_chunk_cnn` with residual blocks, which halve time and frequency by their strides.

    The way past a block is a 3 × 3 convolution, as in the authors' code. Trainable parameters with the defaults:
    12,104,244.
    """

    source = "Won et al. 2020, Evaluation of CNN-based Automatic Music Tagging Models"

    def _halve(self, x: Any, filters: int) -> Any:
        return residual(x, filters, strides=2)
