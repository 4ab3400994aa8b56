"""The high-resolution piano transcriber: regresses how near each frame is to an onset or offset."""

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
_HEADS = ("onset", "offset", "frame", "velocity")


@MODELS.register("high_resolution")
class HighResolution(Model):
    """Log-mel spectra → a stack of convolutions and recurrent layers a head → onsets and frames refined by the others.

    Onsets are told anew from onsets and velocity, frames from frames, onsets and offsets, by one recurrent layer
    each. What it regresses is what task `notes` has for targets: `1 - |Δ| / 50 ms` round each onset and offset, from
    which the decoder finds times between frames. Trainable parameters: 20,218,778, without the pedal's model, as
    there are no pedal labels here.

    Attributes:
        sample_rate: of the waveform that it takes.
        hop_length: samples between frames; 160 at 16 kHz is 10 ms.
        window_frames: frames in one window; any number works with the same weights.
        window_length: of the spectra, in samples.
        filters: of the four blocks of two convolutions; after each, frequency is halved.
        dense: units of the layer between convolutions and recurrent layers.
        recurrent: units of the GRUs, in either direction.
        dropout: after blocks of convolutions, and elsewhere.
        warm_up: frames at either end of a window, beyond what spectra and convolutions reach, that are not used.
            Recurrent layers hear all of their window, so that no number is exact; with these, what lies outside
            it counts little.
    """

    source = "Kong et al. 2021, High-resolution Piano Transcription with Pedals by Regressing Onset and Offset Times"

    sample_rate: int = pydantic.Field(default=16000, gt=0)
    hop_length: int = pydantic.Field(default=160, gt=0)
    window_frames: int = pydantic.Field(default=1000, gt=0)
    window_length: int = pydantic.Field(default=2048, gt=0)
    filters: tuple[pydantic.PositiveInt, ...] = pydantic.Field(default=(48, 64, 96, 128), min_length=1, max_length=7)
    dense: int = pydantic.Field(default=768, gt=0)
    recurrent: int = pydantic.Field(default=256, gt=0)
    dropout: tuple[float, float] = (0.2, 0.5)
    warm_up: int = pydantic.Field(default=64, ge=0)

    def spec(self) -> ModelSpec:
        spectrum = -(-self.window_length // (2 * self.hop_length))
        return ModelSpec(
            clock=FrameClock(self.sample_rate, self.hop_length),
            window_length=self.window_frames * self.hop_length,
            num_frames=self.window_frames,
            margin=spectrum + 2 * len(self.filters) + self.warm_up,
            heads=dict.fromkeys(_HEADS, PIANO),
        )

    def build(self) -> keras.Model:
        audio = keras.Input((self.window_frames * self.hop_length,), dtype="float32", name="audio")
        mel = MelSpectrogram(self.sample_rate, self.hop_length, self.window_length, _NUM_MELS, _FMIN)(audio)
        mel = layers.BatchNormalization(synchronized=True)(LogPower()(mel))[..., None]  # of each band
        first = {
            name: pitch_logits(self._stack(mel), PIANO.num_classes, f"{name}_first") for name in ("onset", "frame")
        }
        offset = pitch_logits(self._stack(mel), PIANO.num_classes, "offset", prior=0.02)
        velocity = pitch_logits(self._stack(mel), PIANO.num_classes, "velocity")
        onset, frame = (ops.sigmoid(first[name]) for name in ("onset", "frame"))
        # The power of one half lets faint onsets show their velocity; it has no slope at 0.
        loud = ops.sqrt(ops.maximum(onset, 1e-6)) * ops.stop_gradient(ops.sigmoid(velocity))
        onset = self._refine([onset, loud], "onset", prior=0.02)
        others = [ops.stop_gradient(ops.sigmoid(logits)) for logits in (onset, offset)]
        frame = self._refine([frame, *others], "frame", prior=0.05)
        heads = {"onset": onset, "offset": offset, "frame": frame, "velocity": velocity}
        return keras.Model(audio, heads, name=self.name)

    def _stack(self, x: Any) -> Any:
        """`(batch, frames, mels, 1)` → `(batch, frames, 2 * recurrent)`."""
        after_convolutions, elsewhere = self.dropout
        for filters in self.filters:
            for _ in range(2):
                x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
                x = layers.ReLU()(layers.BatchNormalization(synchronized=True)(x))
            x = layers.Dropout(after_convolutions)(layers.AveragePooling2D((1, 2))(x))
        x = layers.Reshape((self.window_frames, -1))(x)
        x = layers.BatchNormalization(synchronized=True)(layers.Dense(self.dense, use_bias=False)(x))
        x = layers.Dropout(elsewhere)(layers.ReLU()(x))
        return layers.Dropout(elsewhere)(self._recur(self._recur(x)))

    def _refine(self, estimates: list[Any], name: str, prior: float) -> Any:
        x = layers.Dropout(self.dropout[1])(self._recur(layers.concatenate(estimates)))
        return pitch_logits(x, PIANO.num_classes, name, prior)

    def _recur(self, x: Any) -> Any:
        return layers.Bidirectional(layers.GRU(self.recurrent, return_sequences=True))(x)
