"""AST: a transformer of images on patches of spectra, without any convolution over them."""

from __future__ import annotations

from typing import Any

import pydantic
from keras import layers

from musicnet_tf.errors import ConfigError
from musicnet_tf.frontends import LogPower, MelSpectrogram
from musicnet_tf.models.tagging._attention import ClassTokens, Positions, SelfAttention, layer_norm, transform
from musicnet_tf.models.tagging.tagger import MelTagger
from musicnet_tf.registry import MODELS

_FMIN = 20.0
_EPSILON = 1e-6


@MODELS.register("audio_spectrogram_transformer")
class AudioSpectrogramTransformer(MelTagger):
    """Log-mel spectra of 10.24 s → 101 × 12 patches that overlap → twelve layers of a transformer → tags.

    Tags are told from the mean of two tokens, DeiT's for classes and for distillation. Its authors begin from weights
    trained on images, which count for much; here it begins anew. Spectra are brought to mean 0 and deviation 1 by
    running statistics, where theirs are constants of a corpus, without emphasis of high frequencies. Trainable
    parameters with the defaults and AudioSet's 527 tags: 86,594,063.

    Attributes:
        patch: frames, and bands, of a patch.
        stride: from one patch to the next, along either axis.
        features: of a token; 192 and 384 are DeiT's tiny and small, with 3 and 6 heads.
        depth: layers of the transformer.
        heads: of attention.
        layer_dropout: share of what attention and dense layers give that is left out in training.
    """

    source = "Gong et al. 2021, AST: Audio Spectrogram Transformer"

    hop_length: int = pydantic.Field(default=160, gt=0)
    window_length: int = pydantic.Field(default=400, gt=0)
    chunk_frames: int = pydantic.Field(default=1024, gt=0)
    patch: int = pydantic.Field(default=16, gt=0)
    stride: int = pydantic.Field(default=10, gt=0)
    features: int = pydantic.Field(default=768, gt=0)
    depth: int = pydantic.Field(default=12, gt=0)
    heads: int = pydantic.Field(default=12, gt=0)
    layer_dropout: float = pydantic.Field(default=0.0, ge=0, lt=1)
    dropout: float = pydantic.Field(default=0.0, ge=0, lt=1)

    def levels(self, audio: Any) -> Any:
        """`(batch, chunk_length)` → `(batch, chunk_frames, num_mels, 1)`."""
        mel = MelSpectrogram(self.sample_rate, self.hop_length, self.window_length, self.num_mels, _FMIN, htk=True)(
            audio
        )
        statistics = layers.BatchNormalization(center=False, scale=False, synchronized=True)
        return statistics(LogPower()(mel)[..., None])

    @property
    def num_features(self) -> int:
        return self.features

    def embed(self, audio: Any) -> Any:
        if min(self.chunk_frames, self.num_mels) < self.patch:
            raise ConfigError(
                f"a patch of {self.patch} does not fit into {self.chunk_frames} frames of {self.num_mels} bands;"
                " take longer chunks or smaller patches"
            )
        patches = layers.Conv2D(self.features, self.patch, strides=self.stride)(self.spectra(audio))
        tokens = layers.Reshape((patches.shape[1] * patches.shape[2], self.features))(patches)
        x = ClassTokens(2)(tokens)
        x = layers.Dropout(self.layer_dropout)(Positions(x.shape[1])(x))
        for _ in range(self.depth):
            x = transform(x, SelfAttention(self.heads), 4 * self.features, self.layer_dropout, epsilon=_EPSILON)
        x = layer_norm(_EPSILON)(x)
        return layer_norm()((x[:, 0] + x[:, 1]) / 2)
