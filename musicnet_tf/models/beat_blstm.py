"""The recurrent beat tracker: three bidirectional layers that hear the whole window."""

from __future__ import annotations

from typing import Any

import keras
import pydantic
from keras import layers

from musicnet_tf.frontends import LogPower, MedianDifference, MelSpectrogram
from musicnet_tf.layers import prior_bias
from musicnet_tf.models import HeadSpec, Model, ModelSpec
from musicnet_tf.registry import MODELS
from musicnet_tf.timebase import FrameClock

_FMIN = 30.0
_PRIORS = {"beat": 0.05, "downbeat": 0.02}


@MODELS.register("beat_blstm")
class BeatBlstm(Model):
    """Mel spectra of three window lengths, and where they rise → bidirectional LSTMs → whether a frame is a beat.

    Trainable parameters with the defaults: 59,651, which are LSTMs with one bias a gate and no peepholes under one
    logistic unit: 29,200 in the layer on 120 inputs, 15,200 in either of those on 50, and 51. Peepholes, as LSTMs in
    speech had then, would be 450 more, and a softmax over beat and no beat 51 more.

    Where the paper has Hamming windows, here are Hann windows; its logarithm of 1 + power, which depends on the scale
    of the samples, is that of all front ends here, over a floor 80 dB below 1.

    Attributes:
        sample_rate: of the waveform that it takes.
        hop_length: samples between frames; 441 at 44.1 kHz is 10 ms.
        window_frames: frames in one window; any number works with the same weights.
        window_lengths: of the spectra, in samples.
        median_frames: past frames, one number a spectrum, above whose median rises are counted; with 10 ms a frame, a
            hundredth of the window's samples at 44.1 kHz.
        num_mels: bands of each spectrum.
        recurrent: units of each layer, in either direction.
        downbeat: whether there is a head for downbeats too.
        warm_up: frames at either end of a window, beyond what spectra and medians reach, that are not used. Recurrent
            layers hear all of their window, so that no number is exact. Trained on drum loops, the defaults tell
            activations within 1e-3 of a whole recording's from 75 frames inside the window on, within 1e-4 from 100.
    """

    source = "Böck & Schedl 2011, Enhanced Beat Tracking with Context-Aware Neural Networks"

    sample_rate: int = pydantic.Field(default=44100, gt=0)
    hop_length: int = pydantic.Field(default=441, gt=0)
    window_frames: int = pydantic.Field(default=1000, gt=0)
    window_lengths: tuple[pydantic.PositiveInt, ...] = pydantic.Field(default=(1024, 2048, 4096), min_length=1)
    median_frames: tuple[pydantic.PositiveInt, ...] = (10, 20, 40)
    num_mels: int = pydantic.Field(default=20, gt=0)
    recurrent: tuple[pydantic.PositiveInt, ...] = pydantic.Field(default=(25, 25, 25), min_length=1)
    downbeat: bool = False
    warm_up: int = pydantic.Field(default=100, ge=0)

    @pydantic.field_validator("median_frames")
    @classmethod
    def _one_a_spectrum(cls, median_frames: tuple[int, ...], info: pydantic.ValidationInfo) -> tuple[int, ...]:
        spectra = len(info.data.get("window_lengths", median_frames))
        if len(median_frames) != spectra:
            raise ValueError(f"must name one number a spectrum, as many as window_lengths: {spectra}")
        return median_frames

    def spec(self) -> ModelSpec:
        spectrum = -(-max(self.window_lengths) // (2 * self.hop_length))
        return ModelSpec(
            clock=FrameClock(self.sample_rate, self.hop_length),
            window_length=self.window_frames * self.hop_length,
            num_frames=self.window_frames,
            margin=spectrum + max(self.median_frames) + self.warm_up,
            heads=dict.fromkeys(self._heads, HeadSpec(1)),
        )

    def build(self) -> keras.Model:
        audio = keras.Input((self.window_frames * self.hop_length,), dtype="float32", name="audio")
        spectra = zip(self.window_lengths, self.median_frames, strict=True)
        x = layers.concatenate([self._levels_and_rises(audio, *each) for each in spectra])
        for units in self.recurrent:
            x = layers.Bidirectional(layers.LSTM(units, return_sequences=True))(x)
        logits = {
            head: layers.Dense(1, bias_initializer=prior_bias(_PRIORS[head]), dtype="float32", name=head)(x)
            for head in self._heads
        }
        return keras.Model(audio, logits, name=self.name)

    @property
    def _heads(self) -> tuple[str, ...]:
        return ("beat", "downbeat") if self.downbeat else ("beat",)

    def _levels_and_rises(self, audio: Any, window_length: int, median_frames: int) -> Any:
        """Of one spectrum, `(batch, frames, 2 * num_mels)`."""
        mel = MelSpectrogram(self.sample_rate, self.hop_length, window_length, self.num_mels, _FMIN)(audio)
        mel = LogPower()(mel)
        return layers.concatenate([mel, MedianDifference(median_frames)(mel)])
