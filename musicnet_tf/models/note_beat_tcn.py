"""Beats and downbeats from the notes that a frozen transcriber hears."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import pydantic
from keras import layers, ops

from musicnet_tf.layers import prior_bias
from musicnet_tf.models import HeadSpec, Model, ModelSpec
from musicnet_tf.models.harmonic_cnn import HarmonicCnn
from musicnet_tf.registry import MODELS

_PRIORS = {"beat": 0.1, "downbeat": 0.03}
_HEARD = ("onset", "frame", "velocity")
_SOFTEST = 0.3
"""What an onset of velocity 0 counts, where one of 127 counts 1."""
_PITCH_KERNELS, _PITCH_STRIDES = ((3, 12), (3, 5)), (3, 3)
_KERNEL = 5


@MODELS.register("note_beat_tcn")
class NoteBeatTcn(Model):
    """Transcriber, frozen → two convolutions over time and pitch → dilated convolutions over time → two heads.

    Which notes begin together, how loud, how long they last and what harmony they make tell the beats of music that
    nobody drums (Liu et al., ISMIR 2022, track the beats of performances as MIDI). The transcriber is frozen, so that
    what follows it can be trained without audio, on the notes of records (`data.hear: notes`): many times as fast,
    on music in any key and tempo. Trainable parameters with the defaults: 221,394.

    Attributes:
        transcriber: as it was trained; `initial_weights` names that model, or one of this family.
        window_frames: frames in one window, of the transcriber's hop; any number works with the same weights.
        filters: of the two convolutions over time and pitch.
        channels: of the convolutions over time.
        dilations: of the residual blocks, in frames.
        dropout: share of a block's channels that are left out in training.
    """

    source = "musicnet_tf, after Liu et al. 2022 and Böck & Davies 2020"

    transcriber: HarmonicCnn = HarmonicCnn()
    window_frames: int = pydantic.Field(default=2000, gt=0)
    filters: tuple[pydantic.PositiveInt, pydantic.PositiveInt] = (16, 24)
    channels: int = pydantic.Field(default=64, gt=0)
    dilations: tuple[pydantic.PositiveInt, ...] = (1, 2, 4, 8, 16, 32, 64, 128)
    dropout: float = pydantic.Field(default=0.1, ge=0, lt=1)

    @pydantic.field_validator("transcriber", mode="before")
    @classmethod
    def _without_name(cls, fields: Any) -> Any:
        """As a config names its model; there is one family that it may be."""
        if not isinstance(fields, Mapping):
            return fields
        if fields.get("name", HarmonicCnn.name) != HarmonicCnn.name:
            raise ValueError(f"must be a {HarmonicCnn.name}, not {fields['name']!r}")
        return {key: value for key, value in fields.items() if key != "name"}

    def spec(self) -> ModelSpec:
        ear = self.ear().spec()
        reach = sum(kernel[0] // 2 for kernel in _PITCH_KERNELS) + _KERNEL // 2 * sum(self.dilations)
        return ModelSpec(
            clock=ear.clock,
            window_length=ear.window_length,
            num_frames=ear.num_frames,
            margin=ear.margin + reach,
            heads=dict.fromkeys(_PRIORS, HeadSpec(1)),
        )

    def parts(self) -> dict[str, Model]:
        return {"transcriber": self.transcriber}

    def ear(self) -> HarmonicCnn:
        return self.transcriber.model_copy(update={"window_frames": self.window_frames})

    def build(self) -> keras.Model:
        ear = self.ear().build()
        ear.name, ear.trainable = "transcriber", False
        logits = ear(ear.inputs[0])
        heard = {head: layers.Activation("sigmoid", dtype="float32")(logits[head]) for head in _HEARD}
        return keras.Model(ear.inputs[0], self._trunk()(heard), name=self.name)

    def _trunk(self) -> keras.Model:
        """Activations of the transcriber, head → `(batch, frames, pitches)`, → logits of beats and downbeats."""
        pitches = self.ear().spec().heads["onset"].num_classes
        heard = {head: keras.Input((self.window_frames, pitches), name=head) for head in _HEARD}
        struck = heard["onset"] * (_SOFTEST + (1.0 - _SOFTEST) * heard["velocity"])
        x = ops.stack([struck, heard["frame"]], axis=-1)
        for filters, kernel, stride in zip(self.filters, _PITCH_KERNELS, _PITCH_STRIDES, strict=True):
            x = layers.Conv2D(filters, kernel, strides=(1, stride), padding="same", use_bias=False)(x)
            x = layers.ReLU()(layers.BatchNormalization(synchronized=True)(x))
        x = layers.Reshape((x.shape[1], x.shape[2] * x.shape[3]))(x)
        x = layers.ReLU()(self._project(x))
        for dilation in self.dilations:
            x = layers.add([x, self._look_around(x, dilation)])
        x = layers.ReLU()(layers.BatchNormalization(synchronized=True)(x))
        logits = {
            head: layers.Dense(1, bias_initializer=prior_bias(prior), dtype="float32", name=head)(x)
            for head, prior in _PRIORS.items()
        }
        return keras.Model(heard, logits, name="trunk")

    def _look_around(self, x: Any, dilation: int) -> Any:
        """What a block adds: `(batch, frames, channels)`."""
        x = layers.Conv1D(self.channels, _KERNEL, dilation_rate=dilation, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization(synchronized=True)(x))
        return self._project(layers.SpatialDropout1D(self.dropout)(x))

    def _project(self, x: Any) -> Any:
        return layers.BatchNormalization(synchronized=True)(layers.Dense(self.channels, use_bias=False)(x))
