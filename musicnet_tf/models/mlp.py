"""The MusicNet paper's two-layer networks on raw samples."""

from __future__ import annotations

import keras
import pydantic
from keras import layers

from musicnet_tf.frontends import UnitPower
from musicnet_tf.models import HeadSpec, Model, ModelSpec, midpoint_spec
from musicnet_tf.registry import MODELS


@MODELS.register("mlp")
class Mlp(Model):
    """Raw window → ReLU → 128 notes, no biases (Thickstun et al. 2017, sections 4.3 and 5, Table 3).

    Trainable parameters: `hidden * (window + 128)`; 500 nodes on 2048 samples: 1,088,000, 2500 on 2048:
    5,440,000, 500 on 16384: 8,256,000.

    Attributes:
        sample_rate: of the waveform that it takes.
        window: samples that it sees.
        hidden: nodes of the hidden layer.
        hop_length: samples between frames when a recording is transcribed; the paper's test points.
        normalize: brings each window to unit power first, as the authors' later code does; the paper does
            not tell.
    """

    source = "Thickstun et al. 2017, Table 3"

    sample_rate: int = 44100
    window: int = pydantic.Field(default=2048, gt=0)
    hidden: int = pydantic.Field(default=500, gt=0)
    hop_length: int = pydantic.Field(default=512, gt=0)
    normalize: bool = True

    def spec(self) -> ModelSpec:
        return midpoint_spec(self.sample_rate, self.window, self.hop_length, {"frame": HeadSpec(128)})

    def build(self) -> keras.Model:
        audio = keras.Input((self.window,), dtype="float32", name="audio")
        x = UnitPower()(audio) if self.normalize else audio
        x = layers.Dense(self.hidden, activation="relu", use_bias=False, name="filters")(x)
        x = layers.Dense(128, use_bias=False, dtype="float32")(x)
        return keras.Model(audio, {"frame": layers.Reshape((1, 128), dtype="float32", name="frame")(x)}, name=self.name)
