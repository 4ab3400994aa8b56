"""The successor of the MusicNet paper's networks whose filters slide along frequency as well."""

from __future__ import annotations

import keras
import pydantic
from keras import layers

from musicnet_tf.models import filterbank_mlp
from musicnet_tf.registry import MODELS


@MODELS.register("translation_invariant")
class TranslationInvariant(filterbank_mlp.FilterbankModel):
    """Filterbank → filters along frequency → filters along time → 128 notes, no biases (Thickstun et al. 2018).

    The map of 25 frames and 512 sinusoids becomes 25 × 193 × 128, then 193 × 256. Trainable parameters:
    `128 * 128 + 25 * 128 * 256 + 193 * 256 * 128 = 7,159,808`. The authors' wider variant has `layer_3: 4096`.

    Attributes:
        layer_2: filters over `width` sinusoids, `frequency_stride` apart.
        width: sinusoids that a filter of layer 2 sees.
        frequency_stride: sinusoids from one region of layer 2 to the next.
        layer_3: filters over all frames of a window.
    """

    source = "Thickstun et al. 2018, Invariances and Data Augmentation for Supervised Music Transcription"

    layer_2: int = pydantic.Field(default=128, gt=0)
    width: int = pydantic.Field(default=128, gt=0)
    frequency_stride: int = pydantic.Field(default=2, gt=0)
    layer_3: int = pydantic.Field(default=256, gt=0)

    def build(self) -> keras.Model:
        audio = keras.Input((self.spec().window_length,), dtype="float32", name="audio")
        x = self.log_map(audio)
        along_frequency = {"strides": (1, self.frequency_stride), "use_bias": False, "activation": "relu"}
        x = layers.Conv2D(self.layer_2, (1, self.width), **along_frequency, name="layer_2")(x)
        along_time = {"strides": (self.hop_length // self.stride, 1), "use_bias": False, "activation": "relu"}
        x = layers.Conv2D(self.layer_3, (self.map_frames, 1), **along_time, name="layer_3")(x)
        x = layers.Reshape((self.window_frames, -1))(x)
        x = layers.Dense(128, use_bias=False, kernel_initializer="zeros", name="notes")(x)
        return keras.Model(audio, {"frame": layers.Identity(dtype="float32", name="frame")(x)}, name=self.name)
