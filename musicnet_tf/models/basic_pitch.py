"""Basic Pitch's network: a constant-Q transform, harmonics stacked as channels, and few, wide convolutions."""

from __future__ import annotations

import math
from typing import Any

import keras
import pydantic
from keras import layers, ops

from musicnet_tf.constant_q import ConstantQ
from musicnet_tf.layers import HarmonicShift, prior_bias
from musicnet_tf.models import PIANO, HeadSpec, Model, ModelSpec
from musicnet_tf.registry import MODELS
from musicnet_tf.timebase import FrameClock

_BINS_PER_SEMITONE = 3
_NUM_CONTOURS = PIANO.num_classes * _BINS_PER_SEMITONE
_NUM_SEMITONES = 103
"""Of the transform: up to half of 22,050 Hz."""
_HARMONICS = (0.5, 1, 2, 3, 4, 5, 6, 7)


class NormalizedLog(layers.Layer):
    """Power of any shape in decibels, shifted and scaled so that each window spans 0 to 1; all 0 where it is flat."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})

    def call(self, power: Any) -> Any:
        decibels = 10.0 * ops.log10(power + 1e-10)
        axes = tuple(range(1, len(power.shape)))
        above = decibels - ops.min(decibels, axis=axes, keepdims=True)
        return ops.divide_no_nan(above, ops.max(above, axis=axes, keepdims=True))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape


@MODELS.register("basic_pitch")
class BasicPitch(Model):
    """Constant-Q, harmonics as channels → contour → note → onset, each from the one before (Bittner et al. 2022).

    Trainable parameters: 16,782. The authors' `note` is head `frame` here, `onset` is `onset`. Their `contour`, the
    pitch in thirds of a semitone, is a head of that name with 264 classes from MIDI 21 up; no task trains it yet, so
    that it is a bottleneck whose meaning is not supervised. There is neither offset nor velocity. As in their code,
    the 5×5 convolution that their Figure 1 draws before the contour's is left out. Label smoothing is a task's to
    have. Biases of the heads begin at about their share of cells, and not at 0 as theirs: filters of unit norm can turn
    but not grow, and otherwise turn first towards telling that most cells are silent, and onsets are learnt late.

    Attributes:
        sample_rate: of the waveform that it takes.
        hop_length: samples between frames; 256 at 22,050 Hz is 11.6 ms.
        window_frames: frames in one window; any number works with the same weights.
        overlap: frames that neighbouring windows share, of which each gives up half. The authors' 30 are fewer than
            the filters of the lowest pitches reach, 82 frames to either side; and levels are relative to the
            quietest and the loudest of the window. So frames depend a little on where windows begin, as theirs do.
    """

    source = "Bittner et al. 2022, A Lightweight Instrument-Agnostic Model for Polyphonic Note Transcription"

    sample_rate: int = pydantic.Field(default=22050, gt=0)
    hop_length: int = pydantic.Field(default=256, gt=0)
    window_frames: int = pydantic.Field(default=172, gt=0)
    overlap: int = pydantic.Field(default=30, ge=0)

    def spec(self) -> ModelSpec:
        pitches = PIANO
        return ModelSpec(
            clock=FrameClock(self.sample_rate, self.hop_length),
            window_length=self.window_frames * self.hop_length,
            num_frames=self.window_frames,
            margin=-(-self.overlap // 2),
            heads={"onset": pitches, "frame": pitches, "contour": HeadSpec(_NUM_CONTOURS, PIANO.first_pitch)},
        )

    def build(self) -> keras.Model:
        audio = keras.Input((self.window_frames * self.hop_length,), dtype="float32", name="audio")
        bins = _BINS_PER_SEMITONE * 12, _BINS_PER_SEMITONE * _NUM_SEMITONES
        x = NormalizedLog()(ConstantQ(self.sample_rate, self.hop_length, *bins, scale=True)(audio))
        x = layers.BatchNormalization(synchronized=True)(x[..., None])
        shifts = tuple(round(_BINS_PER_SEMITONE * 12 * math.log2(harmonic)) for harmonic in _HARMONICS)
        stacked = HarmonicShift(shifts)(x)[:, :, :_NUM_CONTOURS]
        x = _normalised(_convolve(stacked, 8, (3, 39)))
        contour = _convolve(x, 1, (5, 5), dtype="float32", bias_initializer=prior_bias(0.1))
        x = layers.ReLU()(_convolve(ops.sigmoid(contour), 32, (7, 7), strides=(1, _BINS_PER_SEMITONE)))
        note = _convolve(x, 1, (7, 3), dtype="float32", bias_initializer=prior_bias(0.05))
        x = _normalised(_convolve(stacked, 32, (5, 5), strides=(1, _BINS_PER_SEMITONE)))
        heard = layers.concatenate([ops.cast(ops.sigmoid(note), x.dtype), x])
        onset = _convolve(heard, 1, (3, 3), dtype="float32", bias_initializer=prior_bias(0.02))
        heads = {"onset": onset, "frame": note, "contour": contour}
        flat = {name: layers.Reshape(x.shape[1:3], dtype="float32", name=name)(x) for name, x in heads.items()}
        return keras.Model(audio, flat, name=self.name)


def _convolve(x: Any, filters: int, kernel: tuple[int, int], **kwargs: Any) -> Any:
    """Convolution over (time, frequency) whose filters are kept at unit norm."""
    return layers.Conv2D(
        filters,
        kernel,
        padding="same",
        kernel_initializer=keras.initializers.VarianceScaling(2.0, "fan_avg", "uniform"),
        kernel_constraint=keras.constraints.UnitNorm(axis=[0, 1, 2]),
        **kwargs,
    )(x)


def _normalised(x: Any) -> Any:
    return layers.ReLU()(layers.BatchNormalization(synchronized=True)(x))
