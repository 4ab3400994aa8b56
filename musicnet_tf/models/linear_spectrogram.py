"""The MusicNet paper's linear models on hand-crafted spectra."""

from __future__ import annotations

from typing import Literal

import keras
import pydantic
from keras import layers

from musicnet_tf.frontends import MagnitudeSpectrum
from musicnet_tf.layers import RootMeanSquare, Windows
from musicnet_tf.models import Model, ModelSpec, midpoint_spec
from musicnet_tf.registry import MODELS


@MODELS.register("linear_spectrogram")
class LinearSpectrogram(Model):
    """A spectrum of one window → 128 notes, a single matrix (Thickstun et al. 2017, Table 3, rows 1–5).

    An `n`-point spectrum reads `2n` samples. The features are standardised by running statistics, which
    adds no trainable parameter and without which Adam does not find its way over their range of powers.
    Trainable parameters: `128 n`, for n = 512, 1024, 4096, 8192: 65,536, 131,072, 524,288, 1,048,576.

    Attributes:
        sample_rate: of the waveform that it takes.
        points: `n`, bins of the spectrum.
        hop_length: samples from one window to the next; the paper's test points.
        window_frames: windows that one stretch of audio holds.
        taper: `rect` as in the paper, or `hann`.
        spectrum: `power` as in the paper, `log_power`, or the paper's `relugram`.
        normalize: brings each window to unit power, as the authors' later code does; the paper does not tell.
        l2: weight of the squared norm of the matrix in the loss.
    """

    source = "Thickstun et al. 2017, Table 3"

    sample_rate: int = 44100
    points: int = pydantic.Field(default=4096, gt=0)
    hop_length: int = pydantic.Field(default=512, gt=0)
    window_frames: int = pydantic.Field(default=1, gt=0)
    taper: Literal["rect", "hann"] = "rect"
    spectrum: Literal["power", "log_power", "relugram"] = "power"
    normalize: bool = True
    l2: float = pydantic.Field(default=0.0, ge=0)

    def spec(self) -> ModelSpec:
        return midpoint_spec(self.sample_rate, 2 * self.points, self.hop_length, self.window_frames)

    def build(self) -> keras.Model:
        audio = keras.Input((self.spec().window_length,), dtype="float32", name="audio")
        windows = (2 * self.points, self.hop_length)
        x = Windows(*windows)(audio)
        if self.normalize:
            x = x / RootMeanSquare(*windows)(audio)
        x = MagnitudeSpectrum(self.taper, self.spectrum)(x)
        x = layers.BatchNormalization(center=False, scale=False, synchronized=True, dtype="float32")(x)
        regularizer = keras.regularizers.L2(self.l2) if self.l2 else None
        x = layers.Dense(
            128,
            use_bias=False,
            kernel_initializer="zeros",
            kernel_regularizer=regularizer,
            dtype="float32",
            name="frame",
        )(x)
        return keras.Model(audio, {"frame": x}, name=self.name)
