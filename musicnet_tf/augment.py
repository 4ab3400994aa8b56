"""Transforms of training windows that keep their labels true, from stateless seeds.

`transposed` cuts a window out of an excerpt and moves the labels with it; `played` does the same to what a chain of
effects makes of a stretch; `augment` changes the sound of a window alone; `mixup` mixes the windows of a batch. All but
`played`, which runs NumPy, are pure TensorFlow ops. Audio is float32 `(samples,)`, a seed int32 `(2,)`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pydantic
import tensorflow as tf

from musicnet_tf import effects
from musicnet_tf.effects import Chain
from musicnet_tf.targets import UNKNOWN

_TIMES = ("notes/onset", "notes/offset", "beats/time", "tags/start", "tags/stop")  # of a record, in samples
_BEGINNINGS = ("notes/onset", "tags/start")  # of what lasts
_ROUNDING = 1e-4  # of a sample: what floating point adds to a whole number of them


class Augmentation(pydantic.BaseModel):
    """How strongly windows are changed. The default changes nothing.

    Attributes:
        gain_db: the level is moved by up to this many dB either way.
        snr_db: white noise is added at least this many dB below the music (and up to 40 dB lower still);
            none where it is None.
        tilt_db: the spectrum is tilted by up to this many dB an octave either way, round 1 kHz.
        pitch_shift: the music is moved by up to so many whole semitones either way, each as likely, and its
            labels with it, by playing it faster or slower (Thickstun et al. 2018: 5).
        jitter: it is put out of tune by up to this part of a semitone either way, which the labels do not
            tell (Thickstun et al. 2018: 0.1).
        effects: what windows go through afterwards, with probabilities and ranges: `contrastive`, `toolbox` or
            `recorded`; a mapping of names in `effects.EFFECTS` to their values, in the order in which they come; or
            a list of such mappings. Labels follow those that move notes, as `pitch_shift` and `time_stretch`.
        mixup: windows of a batch are mixed by pairs, audio and targets alike, in parts that are drawn from
            Beta(mixup, mixup) (Zhang et al. 2018); not at all where it is 0. For the task of tags.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    gain_db: float = pydantic.Field(default=0.0, ge=0)
    snr_db: float | None = None
    tilt_db: float = pydantic.Field(default=0.0, ge=0)
    pitch_shift: int = pydantic.Field(default=0, ge=0, le=24)
    jitter: float = pydantic.Field(default=0.0, ge=0, le=0.5)
    effects: Chain = ()
    mixup: float = pydantic.Field(default=0.0, ge=0, allow_inf_nan=False)

    @property
    def transposes(self) -> bool:
        """Whether `transposed` changes anything."""
        return bool(self.pitch_shift or self.jitter)

    @property
    def moves(self) -> bool:
        """Whether anything moves labels."""
        return self.transposes or _moves(self.effects)


def augment(audio: tf.Tensor, sample_rate: int, settings: Augmentation, seed: tf.Tensor) -> tf.Tensor:
    """All that `settings` asks for that leaves the labels where they are, in a fixed order."""
    seeds = [tf.random.fold_in(seed, i) for i in range(3)]
    if settings.tilt_db:
        audio = tilt(audio, sample_rate, _uniform(seeds[0], -settings.tilt_db, settings.tilt_db))
    if settings.snr_db is not None:
        audio = add_noise(audio, _uniform(seeds[1], settings.snr_db, settings.snr_db + 40.0), seeds[1])
    if settings.gain_db:
        audio = gain(audio, _uniform(seeds[2], -settings.gain_db, settings.gain_db))
    return audio


def transposed(
    excerpt: tf.Tensor,
    record: Mapping[str, Any],
    start: tf.Tensor,
    length: int,
    settings: Augmentation,
    seed: tf.Tensor,
) -> tuple[tf.Tensor, dict[str, Any]]:
    """A window that plays its part of an excerpt higher and faster, or lower and slower, and its labels.

    Args:
        excerpt: audio `(samples,)`.
        record: tensors by the names of `records.FEATURES`, event times in samples of the excerpt.
        start: where the window would begin, `0 ... samples - length` (0 where there is less), int64. It
            begins at the same share of the room that is left to the stretch it reads, so that evenly drawn
            starts stay so.
        length: samples of the window.

    Returns:
        samples: `(length,)`; silence where the excerpt is too short for the stretch.
        record: the same with pitches moved, and event times in samples of the window.
    """
    shift, scale = _draw_transposition(settings, seed)
    size = tf.size(excerpt, tf.int64)
    stretch = tf.cast(tf.math.ceil(scale * (length - 1)), tf.int64) + 1
    start = start * tf.maximum(size - stretch, 0) // tf.maximum(size - length, 1)
    moved = {name: _on_window(record[name], start, scale) for name in _TIMES if name in record}
    return resample(excerpt, start, scale, length), {**record, **moved, "notes/pitch": record["notes/pitch"] + shift}


def played(
    audio: tf.Tensor,
    record: Mapping[str, Any],
    sample_rate: int,
    length: int,
    chain: Chain,
    seed: tf.Tensor,
) -> tuple[tf.Tensor, dict[str, Any]]:
    """A window after a chain of effects, and its labels.

    The effects run in NumPy, in the process that reads the records: such a pipeline cannot be sent to another one.

    Args:
        audio: the stretch that the window is made of, `effects.reads` tells how long.
        record: tensors by the names of `records.FEATURES`, event times in samples of the stretch.
        sample_rate: of the audio.
        length: samples of the window.

    Returns:
        samples: `(length,)`; silence where the stretch is too short.
        record: the same with pitches moved, by the nearest semitone, and event times in samples of the window.
    """
    names = [name for name in _TIMES if name in record] if _moves(chain) else []

    def play(audio: np.ndarray, seed: np.ndarray, *times: np.ndarray) -> list[np.ndarray]:
        sound = effects.play(audio, sample_rate, chain, np.random.default_rng(seed.astype(np.uint32)))
        window = np.zeros(length, np.float32)
        window[: min(len(sound.audio), length)] = sound.audio[:length]
        shift = np.array(round(sound.semitones), np.int64)
        return [window, shift, *(_samples(sound, name, sample_rate, t) for name, t in zip(names, times, strict=True))]

    kinds = [tf.float32, tf.int64, *(tf.int64 for _ in names)]
    given = [audio, seed, *(tf.cast(record[name], tf.int64) for name in names)]
    samples, shift, *moved = tf.numpy_function(play, given, kinds, stateful=False)
    changed = {name: tf.ensure_shape(times, (None,)) for name, times in zip(names, moved, strict=True)}
    if names:
        changed["notes/pitch"] = tf.cast(record["notes/pitch"], tf.int64) + tf.ensure_shape(shift, ())
    return tf.ensure_shape(samples, (length,)), {**record, **changed}


def _samples(sound: effects.Moved, name: str, sample_rate: int, times: np.ndarray) -> np.ndarray:
    """Where times of a record are after effects, in samples, rounded as `_on_window` rounds."""
    seconds = times / sample_rate
    moved = sound.begins(seconds) if name in _BEGINNINGS else sound.time(seconds)
    return np.ceil(moved * sample_rate - _ROUNDING).astype(np.int64)


def _moves(chain: Chain) -> bool:
    return any(effect.moves and effect.probability for effect in chain)


def mixup(
    audio: tf.Tensor, targets: Mapping[str, tf.Tensor], alpha: float, seed: tf.Tensor
) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """Each window of a batch mixed with another one, in parts drawn from Beta(alpha, alpha).

    Args:
        audio: `(batch, samples)`.
        targets: head → `(batch, ...)`; what one of two windows does not know stays unknown.
        alpha: above 0.
    """
    count = tf.shape(audio)[0]
    seeds = [tf.random.fold_in(seed, i) for i in range(3)]
    other = tf.random.experimental.stateless_shuffle(tf.range(count), seeds[0])
    one, rest = (tf.random.stateless_gamma((count,), s, alpha, dtype=tf.float64) for s in seeds[1:])
    part = tf.cast(tf.math.divide_no_nan(one, one + rest), tf.float32)  # both are 0 where alpha is tiny

    def mixed(values: tf.Tensor) -> tf.Tensor:
        share = tf.reshape(part, tf.concat([[count], tf.ones(tf.rank(values) - 1, tf.int32)], axis=0))
        return tf.ensure_shape(share * values + (1.0 - share) * tf.gather(values, other), values.shape)

    def of_target(values: tf.Tensor) -> tf.Tensor:
        unknown = (values == UNKNOWN) | (tf.gather(values, other) == UNKNOWN)
        return tf.where(unknown, UNKNOWN, mixed(values))

    return mixed(audio), {head: of_target(values) for head, values in targets.items()}


def resample(audio: tf.Tensor, start: tf.Tensor, scale: tf.Tensor, length: int) -> tf.Tensor:
    """Audio read at the positions `start + scale * k` of its samples, `k < length`; silence lies before and after it.

    The cubic through the four samples nearby (Lagrange). It takes 0.07 dB of a tone at 6 kHz in 44.1 kHz,
    and adds what is 41 dB below it; at 16 kHz those are 0.2 dB and 31 dB for a tone at 3 kHz. There is no
    filter against aliasing: at `scale` 4/3 what lies above three quarters of half the sample rate folds
    down, to no lower than two thirds of it.

    Args:
        start: int64 scalar.
        scale: float64 scalar.
    """
    position = scale * tf.cast(tf.range(length), tf.float64)
    whole = tf.cast(position, tf.int32)
    t = tf.cast(position - tf.cast(whole, tf.float64), tf.float32)
    first = tf.cast(start, tf.int32) - 1
    stop = first + whole[-1] + 4
    outside = [[tf.maximum(-first, 0), tf.maximum(stop - tf.size(audio), 0)]]
    near = tf.pad(audio[tf.maximum(first, 0) : stop], outside)
    fours = tf.stack([near[:-3], near[1:-2], near[2:-1], near[3:]], axis=1)  # rows are gathered faster than samples
    a, b, c, d = tf.unstack(tf.gather(fours, whole), axis=1)
    cubic = (d - a) / 6.0 + (b - c) / 2.0
    slope = c - a / 3.0 - b / 2.0 - d / 6.0
    return tf.ensure_shape(b + t * (slope + t * ((a + c) / 2.0 - b + t * cubic)), (length,))


def _draw_transposition(settings: Augmentation, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Semitones that the labels move by, int64, and samples read for each sample of the window, float64."""
    seeds = [tf.random.fold_in(seed, i) for i in (3, 4)]  # `augment` takes 0 to 2
    shift = tf.random.stateless_uniform((), seeds[0], -settings.pitch_shift, settings.pitch_shift + 1, tf.int64)
    jitter = tf.random.stateless_uniform((), seeds[1], -settings.jitter, settings.jitter, tf.float64)
    return shift, tf.pow(tf.constant(2.0, tf.float64), (tf.cast(shift, tf.float64) + jitter) / 12.0)


def _on_window(times: tf.Tensor, start: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
    """Samples of the excerpt as samples of the window, int64.

    Rounded up: `time <= sample` then says of every whole sample of the window what it says of the unrounded
    time, so that no frame changes its label.
    """
    return tf.cast(tf.math.ceil(tf.cast(times - start, tf.float64) / scale), tf.int64)


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
