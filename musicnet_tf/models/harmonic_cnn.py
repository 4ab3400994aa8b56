"""A small fully convolutional transcriber whose convolutions reach along the harmonic series."""

from __future__ import annotations

from typing import Any

import keras
import pydantic
from keras import layers, ops

from musicnet_tf.frontends import A0_HZ, LogFrequencySpectrogram
from musicnet_tf.layers import HarmonicShift, prior_bias
from musicnet_tf.models import PIANO, Model, ModelSpec
from musicnet_tf.registry import MODELS
from musicnet_tf.timebase import FrameClock

_BINS_PER_SEMITONE = 3
_NUM_SEMITONES = 98
"""On the trunk's axis: from A0 up to 7.5 kHz, so that high pitches see harmonics too, below 8 kHz."""


@MODELS.register("harmonic_cnn")
class HarmonicCnn(Model):
    """Log-frequency spectra → harmonic mixing → dilated residual convolutions → onset, frame, velocity.

    The idea that one small network, shared by all pitches, suffices once it sees each pitch's harmonics
    is HPPNet's (Wei et al., ISMIR 2022) and, by stacking, Basic Pitch's (Bittner et al., ICASSP 2022). Time
    context comes from dilation, so that any length of audio may be cut into windows and put together
    again exactly. Trainable parameters with the defaults: 79,271, and 83,928 with the head for offsets.

    Attributes:
        sample_rate: of the waveform that it takes.
        hop_length: samples between frames; 320 at 16 kHz is 20 ms.
        window_frames: frames in one window; any number works with the same weights.
        window_lengths: of the spectra, in samples.
        channels: width of the trunk.
        dilations: of the residual blocks, in frames.
        shifts: in semitones: octave below, then harmonics 1 to 8.
        offset: whether there is a head for the ends of notes as well.
    """

    source = "musicnet_tf, after HPPNet (Wei et al. 2022) and Basic Pitch (Bittner et al. 2022)"

    sample_rate: int = pydantic.Field(default=16000, gt=0)
    hop_length: int = pydantic.Field(default=320, gt=0)
    window_frames: int = pydantic.Field(default=200, gt=0)
    window_lengths: tuple[pydantic.PositiveInt, ...] = pydantic.Field(default=(4096, 1024), min_length=1)
    channels: int = pydantic.Field(default=32, ge=2)
    dilations: tuple[pydantic.PositiveInt, ...] = (1, 2, 4, 8, 4, 2)
    shifts: tuple[int, ...] = pydantic.Field(default=(-12, 0, 12, 19, 24, 28, 31, 34, 36), min_length=1)
    offset: bool = False

    def spec(self) -> ModelSpec:
        convolutions = 1 + sum(self.dilations) + 2  # the stem, the blocks, two in the deepest head
        spectrum = -(-max(self.window_lengths) // (2 * self.hop_length))
        return ModelSpec(
            clock=FrameClock(self.sample_rate, self.hop_length),
            window_length=self.window_frames * self.hop_length,
            num_frames=self.window_frames,
            margin=convolutions + spectrum,
            heads=dict.fromkeys(("onset", "frame", "velocity", *(["offset"] if self.offset else [])), PIANO),
        )

    def build(self) -> keras.Model:
        audio = keras.Input((self.window_frames * self.hop_length,), dtype="float32", name="audio")
        x = LogFrequencySpectrogram(
            self.sample_rate,
            self.hop_length,
            self.window_lengths,
            12 * _BINS_PER_SEMITONE,
            _BINS_PER_SEMITONE * _NUM_SEMITONES,
            # The middle one of a pitch's three bins lies on the pitch.
            fmin=A0_HZ * 2 ** (-1 / (12 * _BINS_PER_SEMITONE)),
        )(audio)
        x = layers.BatchNormalization(synchronized=True)(x)
        x = _convolve(x, self.channels // 2, (3, 5))
        x = _convolve(x, self.channels, (1, 3), strides=(1, _BINS_PER_SEMITONE))
        x = self._mix_harmonics(x)
        for i, dilation in enumerate(self.dilations):
            x = layers.add([x, _convolve(x, self.channels, (3, 3), dilation=dilation)])
            if i == len(self.dilations) // 2 - 1:
                x = layers.add([x, self._mix_harmonics(x)])
        x = x[:, :, : PIANO.num_classes]
        half = self.channels // 2
        onset = _logits(_convolve(x, half, (3, 3)), "onset", prior=0.02)
        # The frame head may look at onsets but not bend them to its own ends (Hawthorne et al. 2018).
        heard = ops.expand_dims(ops.stop_gradient(ops.sigmoid(onset)), -1)
        frame = _logits(_convolve(layers.concatenate([x, ops.cast(heard, x.dtype)]), half, (3, 3)), "frame", prior=0.05)
        logits = {"onset": onset, "frame": frame, "velocity": _logits(_convolve(x, half, (3, 1)), "velocity")}
        if self.offset:
            logits["offset"] = _logits(_convolve(x, half, (3, 3)), "offset", prior=0.02)
        return keras.Model(audio, logits, name=self.name)

    def _mix_harmonics(self, x: Any) -> Any:
        x = _convolve(x, self.channels // 2, (1, 1))
        return _convolve(HarmonicShift(self.shifts)(x), self.channels, (1, 1))


def _convolve(
    x: Any, filters: int, kernel: tuple[int, int], strides: tuple[int, int] = (1, 1), dilation: int = 1
) -> Any:
    """Convolution over (time, frequency), batch normalisation, ReLU."""
    x = layers.Conv2D(filters, kernel, strides=strides, dilation_rate=(dilation, 1), padding="same", use_bias=False)(x)
    return layers.ReLU()(layers.BatchNormalization(synchronized=True)(x))


def _logits(x: Any, name: str, prior: float = 0.5) -> Any:
    """`(batch, frames, pitches, channels)` → `(batch, frames, pitches)` float32; `prior` as of `prior_bias`."""
    x = layers.Conv2D(1, (1, 1), bias_initializer=prior_bias(prior), dtype="float32", name=f"{name}_logits")(x)
    return layers.Reshape(x.shape[1:3], dtype="float32", name=name)(x)
