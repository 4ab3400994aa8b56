"""Transforms of training windows that leave their labels true. Pure TensorFlow ops, stateless seeds.

Every function takes float32 audio `(samples,)` and an int32 seed `(2,)`, and gives audio of that shape.
"""

from __future__ import annotations

import math

import pydantic
import tensorflow as tf


class Augmentation(pydantic.BaseModel):
    """How strongly windows are changed. The default changes nothing.

    Attributes:
        gain_db: the level is moved by up to this many dB either way.
        snr_db: white noise is added at least this many dB below the music (and up to 40 dB lower still);
            none where it is None.
        tilt_db: the spectrum is tilted by up to this many dB an octave either way, round 1 kHz.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    gain_db: float = pydantic.Field(default=0.0, ge=0)
    snr_db: float | None = None
    tilt_db: float = pydantic.Field(default=0.0, ge=0)


def augment(audio: tf.Tensor, sample_rate: int, settings: Augmentation, seed: tf.Tensor) -> tf.Tensor:
    """All that `settings` asks for, in a fixed order."""
    seeds = [tf.random.fold_in(seed, i) for i in range(3)]
    if settings.tilt_db:
        audio = tilt(audio, sample_rate, _uniform(seeds[0], -settings.tilt_db, settings.tilt_db))
    if settings.snr_db is not None:
        audio = add_noise(audio, _uniform(seeds[1], settings.snr_db, settings.snr_db + 40.0), seeds[1])
    if settings.gain_db:
        audio = gain(audio, _uniform(seeds[2], -settings.gain_db, settings.gain_db))
    return audio


def gain(audio: tf.Tensor, decibels: tf.Tensor | float) -> tf.Tensor:
    """Level moved by `decibels`; -x undoes x."""
    return audio * _amplitude(decibels)


def add_noise(audio: tf.Tensor, snr_db: tf.Tensor | float, seed: tf.Tensor) -> tf.Tensor:
    """White noise at `snr_db` below the power of this window; silence stays silent."""
    noise = tf.random.stateless_normal(tf.shape(audio), seed)
    power = tf.reduce_mean(tf.square(noise))
    level = tf.sqrt(tf.reduce_mean(tf.square(audio)) / power) / _amplitude(snr_db)
    return audio + level * noise


def tilt(audio: tf.Tensor, sample_rate: int, db_per_octave: tf.Tensor | float) -> tf.Tensor:
    """Spectrum tilted by `db_per_octave` round 1 kHz, at most 20 dB either way; phase is kept."""
    length = tf.shape(audio)[0]
    spectrum = tf.signal.rfft(audio)
    bins = tf.cast(tf.range(tf.shape(spectrum)[0]), tf.float32)
    frequency = tf.maximum(bins * sample_rate / tf.cast(length, tf.float32), 1.0)
    octaves = tf.math.log(frequency / 1000.0) / math.log(2.0)
    curve = _amplitude(tf.clip_by_value(octaves * db_per_octave, -20.0, 20.0))
    return tf.signal.irfft(spectrum * tf.cast(curve, tf.complex64), [length])


def _amplitude(decibels: tf.Tensor | float) -> tf.Tensor:
    return tf.pow(10.0, tf.cast(decibels, tf.float32) / 20.0)


def _uniform(seed: tf.Tensor, low: float, high: float) -> tf.Tensor:
    return tf.random.stateless_uniform((), seed, low, high)
