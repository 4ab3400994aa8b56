"""Our tagger: a small residual network that tells which instruments sound in each second."""

from __future__ import annotations

import math
from typing import Any

import pydantic
from keras import layers, ops

from musicnet_tf.models.tagging._blocks import convolve, pool, rectified, residual
from musicnet_tf.models.tagging.tagger import AudioSetTagger, tag_logits
from musicnet_tf.registry import MODELS


@MODELS.register("instrument_cnn")
class InstrumentCnn(AudioSetTagger):
    """Log-mel spectra of 8 s → residual blocks, means of whose cells are kept → a dense layer a second → tags.

    After PANNs, made small enough to train on a processor, and telling time: of frequency, mean and maximum are kept,
    dilated convolutions over time hear some seconds around, and mean and maximum of each frame's steps tell its tags.
    Trainable parameters with the defaults and 11 tags: 982,635.

    Attributes:
        frame_spectra: spectra in a frame of tags; 50 are a second.
        filters: of the first convolution, then of each residual block.
        pools: after each of these, over how many frames and bands the mean is taken.
        temporal_filters: of the convolutions over time.
        dilations: of these, in steps that the pools leave.
        dense: units of the layer before tags.
        block_dropout: share of what a block gives that is left out in training.
    """

    source = "musicnet_tf; blocks after Kong et al. 2020, PANNs"

    sample_rate: int = pydantic.Field(default=16000, gt=0)
    num_mels: int = pydantic.Field(default=96, gt=0)
    chunk_frames: int = pydantic.Field(default=400, gt=0)
    fmin: float = pydantic.Field(default=30.0, ge=0)
    fmax: float = pydantic.Field(default=8000.0, gt=0)
    num_tags: int = pydantic.Field(default=11, gt=0)
    dropout: float = pydantic.Field(default=0.2, ge=0, lt=1)
    frame_spectra: int = pydantic.Field(default=50, gt=0)
    filters: tuple[pydantic.PositiveInt, ...] = pydantic.Field(default=(32, 64, 128, 160), min_length=1)
    pools: tuple[tuple[pydantic.PositiveInt, pydantic.PositiveInt], ...] = ((2, 2), (1, 2), (5, 2), (1, 2))
    temporal_filters: int = pydantic.Field(default=128, gt=0)
    dilations: tuple[pydantic.PositiveInt, ...] = (1, 2, 4)
    dense: int = pydantic.Field(default=256, gt=0)
    block_dropout: float = pydantic.Field(default=0.1, ge=0, lt=1)

    @pydantic.model_validator(mode="after")
    def _frames_are_whole(self) -> InstrumentCnn:
        if len(self.pools) != len(self.filters):
            raise ValueError(f"{len(self.filters)} filters need as many pools, not {len(self.pools)}")
        if self.chunk_frames % self.frame_spectra or self.frame_spectra % self._step:
            raise ValueError(
                f"a chunk of {self.chunk_frames} spectra is not made of frames of {self.frame_spectra}, or these not of"
                f" steps of {self._step}, which the pools leave"
            )
        return self

    @property
    def _step(self) -> int:
        """Spectra in a step of what the pools leave."""
        return math.prod(time for time, _ in self.pools)

    @property
    def num_frames(self) -> int:
        return self.chunk_frames // self.frame_spectra

    @property
    def num_features(self) -> int:
        return self.dense

    def embed(self, audio: Any) -> Any:
        x = rectified(self.spectra(audio), self.filters[0], use_bias=False)
        x = pool(x, self.pools[0], "average")
        for filters, size in zip(self.filters[1:], self.pools[1:], strict=True):
            x = layers.Dropout(self.block_dropout)(pool(residual(x, filters, use_bias=False, past=1), size, "average"))
        x = layers.concatenate([ops.mean(x, axis=2), ops.max(x, axis=2)])
        x = rectified(x, self.temporal_filters, 1, use_bias=False)
        for dilation in self.dilations:
            heard = convolve(x, self.temporal_filters, use_bias=False, dilation=dilation)
            x = layers.ReLU()(layers.add([x, heard]))
        x = layers.Reshape((self.num_frames, self.frame_spectra // self._step, self.temporal_filters))(x)
        x = layers.concatenate([ops.mean(x, axis=2), ops.max(x, axis=2)])
        return layers.Dense(self.dense, activation="relu")(layers.Dropout(self.dropout)(x))

    def tag(self, features: Any) -> Any:
        return tag_logits(features, self.num_tags)
