"""Harmonic CNN: filters at the harmonics of each note, whose widths are learned, before convolutions."""

from __future__ import annotations

from typing import Any

import pydantic
from keras import layers

from musicnet_tf.frontends import LogPower
from musicnet_tf.models.tagging._blocks import batch_norm, convolve_and_pool, dense, pool, residual
from musicnet_tf.models.tagging.frontends import HarmonicBands
from musicnet_tf.models.tagging.tagger import Tagger
from musicnet_tf.registry import MODELS

_LATE_POOL = (3, 2)


@MODELS.register("harmonic_filter_cnn")
class HarmonicFilterCnn(Tagger):
    """Levels of six harmonics of each fundamental over 5 s → convolutions, five of them residual → maxima → tags.

    With another sample rate fundamentals end elsewhere. Trainable parameters with the defaults: 3,631,551.

    Attributes:
        hop_length: samples between spectra.
        window_length: of the spectra, in samples.
        chunk_frames: spectra in a chunk.
        num_harmonics: of each fundamental, the channels that the first convolution sees.
        channels: of the first four convolutions; the others have twice as many.
    """

    source = "Won et al. 2020, Data-driven Harmonic Filters for Audio Representation Learning"

    hop_length: int = pydantic.Field(default=256, gt=0)
    window_length: int = pydantic.Field(default=512, gt=0)
    chunk_frames: int = pydantic.Field(default=313, gt=0)
    num_harmonics: int = pydantic.Field(default=6, gt=0)
    channels: int = pydantic.Field(default=128, gt=0)

    @property
    def chunk_length(self) -> int:
        return self.chunk_frames * self.hop_length

    @property
    def num_features(self) -> int:
        return 2 * self.channels

    def embed(self, audio: Any) -> Any:
        bands = HarmonicBands(self.sample_rate, self.hop_length, self.window_length, self.num_harmonics)(audio)
        x = convolve_and_pool(batch_norm()(LogPower()(bands)), self.channels, 2)
        for _ in range(3):
            x = pool(residual(x, self.channels), 2)
        x = convolve_and_pool(x, 2 * self.channels, 2)
        for _ in range(2):
            x = pool(residual(x, 2 * self.channels), _LATE_POOL)
        return dense(layers.GlobalMaxPooling2D()(x), 2 * self.channels)
