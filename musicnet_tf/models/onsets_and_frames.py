"""Onsets and Frames: convolutions and recurrent layers that hear onsets first, and frames in their light."""

from __future__ import annotations

from typing import Any

import keras
import pydantic
from keras import layers, ops

from musicnet_tf.frontends import LogPower, MelSpectrogram
from musicnet_tf.layers import pitch_logits
from musicnet_tf.models import PIANO, Model, ModelSpec
from musicnet_tf.registry import MODELS
from musicnet_tf.timebase import FrameClock

_NUM_MELS = 229
_FMIN = 30.0


@MODELS.register("onsets_and_frames")
class OnsetsAndFrames(Model):
    """Log-mel spectra → a stack of convolutions a head → recurrent onset, offset and frame heads, and velocity.

    The frame head is a recurrent layer over its own stack's estimate and those of onsets and offsets, which it may
    not bend to its ends. Trainable parameters with the defaults, the sizes of 2019: 22,600,568; the authors' LSTMs add
    two vectors of biases where one does, 6,144 more. The sizes of 2018, `filters: [32, 32, 64]`, `dense: 512`,
    `recurrent: 128`, `offset: false`: 6,793,280.

    Left out: the loss on the frame stack's own estimate, which the authors' later code has off, and weights of
    frames, both of which are a task's to have. Dropout is that of the common port to PyTorch.

    Attributes:
        sample_rate: of the waveform that it takes.
        hop_length: samples between frames; 512 at 16 kHz is 32 ms.
        window_frames: frames in one window; any number works with the same weights.
        window_length: of the spectra, in samples.
        filters: of the three convolutions; after the second and third, frequency is halved.
        dense: units of the layer that ends a stack.
        recurrent: units of the LSTMs, in either direction.
        offset: whether there is an offset head, which 2018 had not.
        dropout: after convolutions, and after the dense layer.
        warm_up: frames at either end of a window, beyond what spectra and convolutions reach, that are not used.
            Recurrent layers hear all of their window, so that no number is exact; with these, what lies outside
            it counts little.
    """

    source = "Hawthorne et al. 2018, Onsets and Frames; sizes also of Hawthorne et al. 2019, MAESTRO"

    sample_rate: int = pydantic.Field(default=16000, gt=0)
    hop_length: int = pydantic.Field(default=512, gt=0)
    window_frames: int = pydantic.Field(default=640, gt=0)
    window_length: int = pydantic.Field(default=2048, gt=0)
    filters: tuple[pydantic.PositiveInt, pydantic.PositiveInt, pydantic.PositiveInt] = (48, 48, 96)
    dense: int = pydantic.Field(default=768, gt=0)
    recurrent: int = pydantic.Field(default=256, gt=0)
    offset: bool = True
    dropout: tuple[float, float] = (0.25, 0.5)
    warm_up: int = pydantic.Field(default=32, ge=0)

    def spec(self) -> ModelSpec:
        spectrum = -(-self.window_length // (2 * self.hop_length))
        names = ("onset", "offset", "frame", "velocity") if self.offset else ("onset", "frame", "velocity")
        return ModelSpec(
            clock=FrameClock(self.sample_rate, self.hop_length),
            window_length=self.window_frames * self.hop_length,
            num_frames=self.window_frames,
            margin=spectrum + len(self.filters) + self.warm_up,
            heads=dict.fromkeys(names, PIANO),
        )

    def build(self) -> keras.Model:
        audio = keras.Input((self.window_frames * self.hop_length,), dtype="float32", name="audio")
        mel = MelSpectrogram(self.sample_rate, self.hop_length, self.window_length, _NUM_MELS, _FMIN, htk=True)(audio)
        mel = LogPower()(mel)[..., None]
        heads = {"onset": pitch_logits(self._recur(self._stack(mel)), PIANO.num_classes, "onset", prior=0.02)}
        if self.offset:
            heads["offset"] = pitch_logits(self._recur(self._stack(mel)), PIANO.num_classes, "offset", prior=0.02)
        known = [ops.stop_gradient(ops.sigmoid(logits)) for logits in heads.values()]
        estimate = ops.sigmoid(pitch_logits(self._stack(mel), PIANO.num_classes, "frame_estimate", prior=0.05))
        combined = self._recur(layers.concatenate([*known, estimate]))
        heads["frame"] = pitch_logits(combined, PIANO.num_classes, "frame", prior=0.05)
        heads["velocity"] = pitch_logits(self._stack(mel), PIANO.num_classes, "velocity")
        return keras.Model(audio, heads, name=self.name)

    def _stack(self, x: Any) -> Any:
        """`(batch, frames, mels, 1)` → `(batch, frames, dense)` (Kelz et al. 2016)."""
        after_convolutions, after_dense = self.dropout
        for i, filters in enumerate(self.filters):
            x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
            x = layers.ReLU()(layers.BatchNormalization(scale=False, synchronized=True)(x))
            if i:
                x = layers.Dropout(after_convolutions)(layers.MaxPooling2D((1, 2))(x))
        x = layers.Reshape((self.window_frames, -1))(x)
        return layers.Dropout(after_dense)(layers.Dense(self.dense, activation="relu")(x))

    def _recur(self, x: Any) -> Any:
        return layers.Bidirectional(layers.LSTM(self.recurrent, return_sequences=True))(x)
