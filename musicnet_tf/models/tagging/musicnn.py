"""musicnn: filters shaped after what music has, timbres across frequency and rhythms along time."""

from __future__ import annotations

from typing import Any

import pydantic
from keras import layers, ops

from musicnet_tf.models.tagging._blocks import batch_norm, dense, rectified
from musicnet_tf.models.tagging.tagger import MelTagger
from musicnet_tf.registry import MODELS

_HEIGHTS = (0.7, 0.4)
_TIMBRE_FRAMES = 7
_RHYTHM_FRAMES = (129, 65, 33)
_BACK_FRAMES = 7


@MODELS.register("musicnn")
class Musicnn(MelTagger):
    """Log-mel spectra of 3 s → tall filters, maxima of which are kept, and long ones → residual layers → tags.

    As Won et al. (2020) have it: maxima after the nonlinearity, and normalisation before it, where the authors'
    TensorFlow has both the other way round. Trainable parameters with the defaults: 784,300. With `back: 512` and
    `dense: 500`, for corpora as large as the Million Song Dataset: 7,972,000.

    Attributes:
        tall: filters of either height, 0.7 and 0.4 of all bands, 7 frames long.
        long: filters of each length, 129, 65 and 33 frames, over means of all bands.
        back: filters of the three layers that follow.
        dense: units of the layer before tags.
    """

    source = "Pons & Serra 2019, musicnn; Pons et al. 2018, End-to-end Learning for Music Audio Tagging at Scale"

    num_mels: int = pydantic.Field(default=96, gt=0)
    chunk_frames: int = pydantic.Field(default=188, gt=0)
    tall: int = pydantic.Field(default=204, gt=0)
    long: int = pydantic.Field(default=51, gt=0)
    back: int = pydantic.Field(default=64, gt=0)
    dense: int = pydantic.Field(default=200, gt=0)

    @property
    def num_features(self) -> int:
        return self.dense

    def embed(self, audio: Any) -> Any:
        spectra = self.spectra(audio)
        front = layers.concatenate([*self._timbres(spectra), *self._rhythms(spectra)])
        first = rectified(front, self.back, _BACK_FRAMES)
        second = layers.add([rectified(first, self.back, _BACK_FRAMES), first])
        third = layers.add([rectified(second, self.back, _BACK_FRAMES), second])
        x = layers.concatenate([front, first, second, third])
        x = layers.concatenate([layers.GlobalMaxPooling1D()(x), layers.GlobalAveragePooling1D()(x)])
        return dense(x, self.dense)

    def _timbres(self, spectra: Any) -> list[Any]:
        """Filters that fit into the bands at several heights, `(batch, frames, tall)` each."""
        half = _TIMBRE_FRAMES // 2
        padded = layers.ZeroPadding2D(((half, half), (0, 0)))(spectra)
        return [self._highest(padded, int(share * self.num_mels)) for share in _HEIGHTS]

    def _highest(self, padded: Any, height: int) -> Any:
        x = layers.Conv2D(self.tall, (_TIMBRE_FRAMES, height))(padded)
        return ops.max(layers.ReLU()(batch_norm()(x)), axis=2)

    def _rhythms(self, spectra: Any) -> list[Any]:
        """Filters over the mean of all bands, `(batch, frames, long)` each."""
        mean = ops.mean(spectra, axis=2)
        return [rectified(mean, self.long, length) for length in _RHYTHM_FRAMES]
