"""What all families that tag have in common: geometry, the layer of tags, and the embedding before it."""

from __future__ import annotations

import abc
from typing import Any

import keras
import pydantic
from keras import layers

from musicnet_tf.frontends import LogPower, MelSpectrogram
from musicnet_tf.models import HeadSpec, Model, ModelSpec
from musicnet_tf.models.tagging._blocks import batch_norm, convolve_and_pool
from musicnet_tf.models.tagging._spec_augment import SpecAugment, Stripes
from musicnet_tf.timebase import FrameClock

EMBEDDING = "embedding"
"""The head that tags are told from, and the layer that gives it, float32 `(batch, frames, num_features)`."""


class Tagger(Model):
    """A family that tells tags of a chunk of audio, of which it sees nothing else.

    Most give one frame, which speaks for the whole chunk; what a recording has is told from its chunks.

    Attributes:
        sample_rate: of the waveform that it takes.
        num_tags: classes of the head `tag`.
        dropout: share of the embedding that is left out in training.
    """

    sample_rate: int = pydantic.Field(default=16000, gt=0)
    num_tags: int = pydantic.Field(default=50, gt=0)
    dropout: float = pydantic.Field(default=0.5, ge=0, lt=1)

    @property
    @abc.abstractmethod
    def chunk_length(self) -> int:
        """Samples of one chunk."""

    @property
    def num_frames(self) -> int:
        """Frames of one chunk, each as long as the others."""
        return 1

    @property
    @abc.abstractmethod
    def num_features(self) -> int:
        """What the head `embedding` has of each frame."""

    @abc.abstractmethod
    def embed(self, audio: Any) -> Any:
        """`(batch, chunk_length)` → `(batch, num_features)`, or `(batch, num_frames, num_features)`."""

    def spec(self) -> ModelSpec:
        hop_length = self.chunk_length // self.num_frames
        return ModelSpec(
            clock=FrameClock(self.sample_rate, hop_length, origin=hop_length // 2),
            window_length=self.chunk_length,
            num_frames=self.num_frames,
            margin=0,
            heads={"tag": HeadSpec(self.num_tags), EMBEDDING: HeadSpec(self.num_features)},
        )

    def build(self) -> keras.Model:
        audio = keras.Input((self.chunk_length,), dtype="float32", name="audio")
        features = self.embed(audio)
        features = layers.Reshape((self.num_frames, self.num_features), dtype="float32", name=EMBEDDING)(features)
        return keras.Model(audio, {"tag": self.tag(features), EMBEDDING: features}, name=self.name)

    def tag(self, features: Any) -> Any:
        """`(batch, num_frames, features)` → float32 logits `(batch, num_frames, num_tags)`."""
        return tag_logits(layers.Dropout(self.dropout, dtype="float32")(features), self.num_tags)


def tag_logits(features: Any, num_tags: int) -> Any:
    """One dense layer to all tags, `(batch, frames, features)` → float32 `(batch, frames, num_tags)`."""
    return layers.Dense(num_tags, dtype="float32", name="tag")(features)


class MelTagger(Tagger):
    """A family that hears log-mel spectra, normalised as one.

    Defaults are those of Won et al. (2020), who compared families: 16 kHz, HTK's mel scale up to the Nyquist frequency.
    What they give in dB above -100 is told in decades above -80 of full scale; the normalisation takes up the rest.

    Attributes:
        hop_length: samples between spectra.
        window_length: of the spectra, in samples.
        num_mels: bands.
        chunk_frames: spectra in a chunk.
        spec_augment: what is masked of the spectra in training, if anything.
    """

    hop_length: int = pydantic.Field(default=256, gt=0)
    window_length: int = pydantic.Field(default=512, gt=0)
    num_mels: int = pydantic.Field(default=128, gt=0)
    chunk_frames: int = pydantic.Field(default=231, gt=0)
    spec_augment: Stripes | None = None

    @property
    def chunk_length(self) -> int:
        return self.chunk_frames * self.hop_length

    def spectra(self, audio: Any) -> Any:
        """What the network sees, masked in training: `(batch, chunk_length)` → `(batch, chunk_frames, num_mels, 1)`."""
        levels = self.levels(audio)
        return levels if self.spec_augment is None else SpecAugment(**self.spec_augment.model_dump())(levels)

    def levels(self, audio: Any) -> Any:
        """`(batch, chunk_length)` → `(batch, chunk_frames, num_mels, 1)`."""
        mel = MelSpectrogram(self.sample_rate, self.hop_length, self.window_length, self.num_mels, htk=True)(audio)
        return batch_norm()(LogPower()(mel)[..., None])


class AudioSetTagger(MelTagger):
    """A family that hears log-mel spectra at 32 kHz, each band normalised by itself, as PANNs do.

    Attributes:
        fmin: lower edge of the lowest band, in Hz.
        fmax: upper edge of the highest.
    """

    sample_rate: int = pydantic.Field(default=32000, gt=0)
    hop_length: int = pydantic.Field(default=320, gt=0)
    window_length: int = pydantic.Field(default=1024, gt=0)
    num_mels: int = pydantic.Field(default=64, gt=0)
    chunk_frames: int = pydantic.Field(default=1000, gt=0)
    fmin: float = pydantic.Field(default=50.0, ge=0)
    fmax: float = pydantic.Field(default=14000.0, gt=0)

    def levels(self, audio: Any) -> Any:
        """`(batch, chunk_length)` → `(batch, chunk_frames, num_mels, 1)`."""
        mel = MelSpectrogram(
            self.sample_rate, self.hop_length, self.window_length, self.num_mels, self.fmin, self.fmax
        )(audio)
        return batch_norm()(LogPower()(mel))[..., None]


class PooledCnn(MelTagger):
    """A family that begins with 3 × 3 convolutions, each pooled over time and frequency.

    Attributes:
        filters: of each convolution.
        pools: after each, over how many frames and bands the greatest is taken.
        convolution_dropout: share of what a pooling gives that is left out in training.
    """

    filters: tuple[pydantic.PositiveInt, ...] = pydantic.Field(min_length=1)
    pools: tuple[tuple[pydantic.PositiveInt, pydantic.PositiveInt], ...]
    convolution_dropout: float = pydantic.Field(default=0.0, ge=0, lt=1)

    @pydantic.model_validator(mode="after")
    def _pools_are_as_many_as_filters(self) -> PooledCnn:
        if len(self.pools) != len(self.filters):
            raise ValueError(f"{len(self.filters)} filters need as many pools, not {len(self.pools)}")
        return self

    def convolutions(self, audio: Any) -> Any:
        """`(batch, chunk_length)` → `(batch, frames, bands, filters[-1])`, whatever the pools leave."""
        x = self.spectra(audio)
        for filters, pool in zip(self.filters, self.pools, strict=True):
            x = layers.Dropout(self.convolution_dropout)(convolve_and_pool(x, filters, pool))
        return x
