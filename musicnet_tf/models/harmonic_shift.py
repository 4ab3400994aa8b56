"""The harmonic-shift network: one small network for every pitch, which sees its harmonics and hears through time."""

from __future__ import annotations

from typing import Any

import keras
import pydantic
from keras import layers, ops

from musicnet_tf.constant_q import ConstantQ, longest_filter
from musicnet_tf.frontends import A0_HZ, LogPower
from musicnet_tf.layers import HarmonicShift, prior_bias
from musicnet_tf.models import PIANO, Model, ModelSpec
from musicnet_tf.registry import MODELS
from musicnet_tf.timebase import FrameClock

_BINS_PER_SEMITONE = 3
_FMIN = A0_HZ * 2 ** (-1 / (12 * _BINS_PER_SEMITONE))
"""The middle one of a pitch's three bins lies on the pitch."""
_OVERTONES = (12, 19, 24, 28, 31, 34, 36)
"""Of harmonics 2 to 8, in semitones."""
_SHIFTS = (0, *_OVERTONES, *(-s for s in _OVERTONES))
_PRIORS = {"onset": 0.02, "offset": 0.02, "frame": 0.05, "velocity": 0.5}


@MODELS.register("harmonic_shift")
class HarmonicShiftNetwork(Model):
    """Constant-Q → residual 5×5 convolutions → a bin a semitone → harmonic and residual 3×3 layers → an LSTM a head.

    A harmonic layer sees each pitch beside those from which, and to which, its harmonics reach, and mixes them by a
    1×1 convolution. The LSTMs run over time, for every pitch with the same weights. Instance normalisation throughout.
    So what the network does to a sound is what it does to it a semitone higher, but for the ends of the keyboard.

    Trainable parameters with the defaults, the second size: 136,620. The first, `front_channels: 4`, `channels: 16`,
    `blocks: 2`: 26,040. The third, `front_channels: 16`, `channels: 64`, `blocks: 4`: 678,420.

    Where the description is silent: levels are decades above -80 dB; three residual blocks of two convolutions
    come before the step to semitones, the first with a 1×1 convolution beside it; a residual layer is
    `ReLU(x + norm(…))`; LSTMs go both ways with half as many units as channels. Its sustain head is `frame` here, and
    there is a velocity head like the others, which the paper has not.

    Attributes:
        sample_rate: of the waveform that it takes.
        hop_length: samples between frames; 512 at 16 kHz is 32 ms.
        window_frames: frames in one window. Any number works with the same weights, but as normalisation is over the
            window, outputs are those of training only where windows are about as long as then.
        front_channels: of the 5×5 convolutions, at three bins a semitone.
        channels: of the layers at a bin a semitone.
        blocks: of a harmonic layer and a residual layer each.
        warm_up: frames at either end of a window, beyond what filters and convolutions reach, that are not used.
            Recurrent layers and normalisation hear all of their window, so that no number is exact; with these,
            what lies outside it counts little.
    """

    source = "Ou et al. 2026, Harmonica: Accurate and Lightweight Instrument-Agnostic Music Transcription"

    sample_rate: int = pydantic.Field(default=16000, gt=0)
    hop_length: int = pydantic.Field(default=512, gt=0)
    window_frames: int = pydantic.Field(default=320, gt=0)
    front_channels: int = pydantic.Field(default=8, gt=0)
    channels: int = pydantic.Field(default=32, ge=2)
    blocks: int = pydantic.Field(default=3, ge=0)
    warm_up: int = pydantic.Field(default=16, ge=0)

    def spec(self) -> ModelSpec:
        longest = longest_filter(self.sample_rate, _FMIN, 12 * _BINS_PER_SEMITONE)
        convolutions = 6 * 2 + 2 * self.blocks
        return ModelSpec(
            clock=FrameClock(self.sample_rate, self.hop_length),
            window_length=self.window_frames * self.hop_length,
            num_frames=self.window_frames,
            margin=-(-longest // (2 * self.hop_length)) + convolutions + self.warm_up,
            heads=dict.fromkeys(_PRIORS, PIANO),
        )

    def build(self) -> keras.Model:
        audio = keras.Input((self.window_frames * self.hop_length,), dtype="float32", name="audio")
        bins = 12 * _BINS_PER_SEMITONE, PIANO.num_classes * _BINS_PER_SEMITONE
        x = LogPower()(ConstantQ(self.sample_rate, self.hop_length, *bins, fmin=_FMIN)(audio))[..., None]
        x = _residual(x, self.front_channels, 5, layers.Conv2D(self.front_channels, 1)(x))
        for _ in range(2):
            x = _residual(x, self.front_channels, 5, x)
        semitone = (1, _BINS_PER_SEMITONE)
        x = layers.Conv2D(self.channels, semitone, strides=semitone)(x)
        for _ in range(self.blocks):
            harmonics = layers.Conv2D(self.channels, 1)(HarmonicShift(_SHIFTS)(x))
            x = layers.ReLU()(layers.add([x, _normalised(harmonics)]))
            x = _residual(x, self.channels, 3, x)
        # Each pitch is a sequence of its own.
        x = ops.reshape(ops.transpose(x, (0, 2, 1, 3)), (-1, self.window_frames, self.channels))
        return keras.Model(audio, {name: self._head(x, name) for name in _PRIORS}, name=self.name)

    def _head(self, x: Any, name: str) -> Any:
        """`(batch * pitches, frames, channels)` → `(batch, frames, pitches)` float32."""
        x = layers.Bidirectional(layers.LSTM(self.channels // 2, return_sequences=True))(x)
        x = layers.Dense(1, bias_initializer=prior_bias(_PRIORS[name]), dtype="float32", name=f"{name}_logits")(x)
        x = ops.reshape(x, (-1, PIANO.num_classes, self.window_frames))
        return layers.Permute((2, 1), dtype="float32", name=name)(x)


def _residual(x: Any, filters: int, kernel: int, beside: Any) -> Any:
    """Two convolutions over (time, frequency), added to what goes beside them."""
    x = layers.ReLU()(_normalised(layers.Conv2D(filters, kernel, padding="same")(x)))
    x = _normalised(layers.Conv2D(filters, kernel, padding="same")(x))
    return layers.ReLU()(layers.add([beside, x]))


def _normalised(x: Any) -> Any:
    """Instance normalisation: each channel of each window to mean 0 and variance 1."""
    return layers.GroupNormalization(groups=-1, epsilon=1e-5)(x)
