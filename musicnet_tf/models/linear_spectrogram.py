"""The MusicNet paper's linear models on hand-crafted spectra."""

from __future__ import annotations

from typing import Literal

import keras
import pydantic
from keras import layers

from musicnet_tf.frontends import MagnitudeSpectrum
from musicnet_tf.models import HeadSpec, Model, ModelSpec, midpoint_spec
from musicnet_tf.registry import MODELS


@MODELS.register("linear_spectrogram")
class LinearSpectrogram(Model):
    """|DFT|² of one window → 128 notes, a single matrix (Thickstun et al. 2017, Table 3, rows 1–2, 4–5).

    An `n`-point spectrum reads `2n` samples. The features are standardised by running statistics, which
    adds no trainable parameter and without which Adam does not find its way over their range of powers.
    Trainable parameters: `128 n`, for n = 512, 1024, 4096, 8192: 65,536, 131,072, 524,288, 1,048,576.

    Attributes:
        sample_rate: of the waveform that it takes.
        points: `n`, bins of the spectrum.
        hop_length: samples between frames when a recording is transcribed; the paper's test points.
        window: `rect` as in the paper, or `hann`.
        log: log-power instead of power.
    """

    source = "Thickstun et al. 2017, Table 3"

    sample_rate: int = 44100
    points: int = pydantic.Field(default=4096, gt=0)
    hop_length: int = pydantic.Field(default=512, gt=0)
    window: Literal["rect", "hann"] = "rect"
    log: bool = False

    def spec(self) -> ModelSpec:
        return midpoint_spec(self.sample_rate, 2 * self.points, self.hop_length, {"frame": HeadSpec(128)})

    def build(self) -> keras.Model:
        audio = keras.Input((2 * self.points,), dtype="float32", name="audio")
        x = MagnitudeSpectrum(self.window, self.log)(audio)
        x = layers.BatchNormalization(center=False, scale=False, synchronized=True, dtype="float32")(x)
        x = layers.Dense(128, use_bias=False, dtype="float32")(x)
        return keras.Model(audio, {"frame": layers.Reshape((1, 128), dtype="float32", name="frame")(x)}, name=self.name)
