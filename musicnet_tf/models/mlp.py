"""The MusicNet paper's two-layer networks on raw samples."""

from __future__ import annotations

import keras
import pydantic
from keras import layers

from musicnet_tf.layers import RootMeanSquare, SlidingDense
from musicnet_tf.models import WindowModel
from musicnet_tf.registry import MODELS


@MODELS.register("mlp")
class Mlp(WindowModel):
    """Raw window → ReLU → 128 notes, no biases (Thickstun et al. 2017, sections 4.2 and 5, Table 3).

    Trainable parameters: `hidden * (window + 128)`; 500 nodes on 2048 samples: 1,088,000, 2500 on 2048:
    5,440,000, 500 on 16384: 8,256,000.

    Attributes:
        hidden: nodes of the hidden layer.
        normalize: brings each window to unit power, as the authors' later code does; the paper does not tell.
        l2: weight of the squared norm of the hidden layer's matrix in the loss.
        dropout: share of hidden nodes that is left out in training.
    """

    source = "Thickstun et al. 2017, Table 3"

    window: int = pydantic.Field(default=2048, gt=0)
    hidden: int = pydantic.Field(default=500, gt=0)
    normalize: bool = True
    l2: float = pydantic.Field(default=0.0, ge=0)
    dropout: float = pydantic.Field(default=0.0, ge=0, lt=1)

    def build(self) -> keras.Model:
        audio = keras.Input((self.spec().window_length,), dtype="float32", name="audio")
        regularizer = keras.regularizers.L2(self.l2) if self.l2 else None
        x = SlidingDense(self.hidden, self.window, self.hop_length, kernel_regularizer=regularizer, name="filters")(
            audio
        )
        x = layers.Dropout(self.dropout)(layers.ReLU()(x))
        x = layers.Dense(128, use_bias=False, kernel_initializer="zeros", dtype="float32", name="notes")(x)
        if self.normalize:
            x = x / RootMeanSquare(self.window, self.hop_length)(audio)
        return keras.Model(audio, {"frame": layers.Identity(dtype="float32", name="frame")(x)}, name=self.name)
