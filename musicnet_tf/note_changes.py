"""Changes of a training window's notes, before a network hears them in place of audio, from stateless seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pydantic
import tensorflow as tf

_COLUMNS = ("notes/onset", "notes/offset", "notes/pitch", "notes/velocity")
_MISTAKEN = (-24, -12, 12, 19, 24)
"""Semitones from a note to those that transcribers hear with it."""
_SOFTER = 0.6
_OFFSETS = 4.0
"""Ends of notes are heard worse than their beginnings, so many times."""


class NoteChanges(pydantic.BaseModel):
    """How far notes are changed. The default changes nothing.

    What is struck at another pitch or tempo is other music of the same metre; the rest is what transcribers do.

    Attributes:
        transpose: all are moved by up to so many whole semitones either way, each as likely.
        tempo: all is played faster or slower by up to this share, ratios evenly drawn on a logarithmic scale; beats
            follow.
        missed: of a window's notes up to this share are not heard; the share is drawn for each window.
        added: and up to this share are heard twice, softer, an octave, a twelfth or two octaves away.
        blur: standard deviation of onsets in seconds, drawn up to this, and four times as much of offsets.
        velocity: standard deviation of velocities, of 127.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    transpose: int = pydantic.Field(default=0, ge=0, le=24)
    tempo: float = pydantic.Field(default=0.0, ge=0, le=1)
    missed: float = pydantic.Field(default=0.0, ge=0, le=1)
    added: float = pydantic.Field(default=0.0, ge=0, le=1)
    blur: float = pydantic.Field(default=0.0, ge=0, le=0.1)
    velocity: float = pydantic.Field(default=0.0, ge=0, le=127)

    def reads(self, length: int) -> int:
        """Samples of a record that a window of `length` samples is made of, at most."""
        return math.ceil(length * (1.0 + self.tempo))


def changed(
    record: Mapping[str, Any], start: tf.Tensor, sample_rate: int, changes: NoteChanges, seed: tf.Tensor
) -> dict[str, Any]:
    """A record's notes and beats with times that count from a window's first sample, changed.

    Args:
        record: tensors by the names of `records.FEATURES`; of its notes, the columns that targets are made of.
        start: the window's first sample, int64.
        sample_rate: of the record's times.
        changes: what may be done.
        seed: int32 `(2,)`.
    """
    seeds = [tf.random.fold_in(seed, i) for i in range(8)]
    limit = math.log1p(changes.tempo)
    rate = tf.exp(tf.random.stateless_uniform((), seeds[0], -limit, limit, tf.float64))
    beats = tf.cast(tf.math.rint(tf.cast(record["beats/time"] - start, tf.float64) / rate), tf.int64)
    notes = [tf.cast(record[name], tf.float64) for name in _COLUMNS]
    onset, offset = ((times - tf.cast(start, tf.float64)) / rate for times in notes[:2])
    shift = tf.random.stateless_uniform((), seeds[1], -changes.transpose, changes.transpose + 1, tf.int64)
    notes = [onset, offset, notes[2] + tf.cast(shift, tf.float64), notes[3]]
    if changes.blur:
        notes[:2] = _blurred(onset, offset, changes.blur * sample_rate, seeds[2])
    if changes.velocity:
        heard = notes[3] + changes.velocity * tf.random.stateless_normal(tf.shape(onset), seeds[3], dtype=tf.float64)
        notes[3] = tf.where(notes[3] > 0, tf.clip_by_value(heard, 1.0, 127.0), notes[3])  # unknown ones stay so
    if changes.missed:
        kept = ~_some(tf.shape(onset), changes.missed, seeds[4])
        notes = [tf.boolean_mask(column, kept) for column in notes]
    if changes.added:
        notes = _mistaken(notes, changes.added, seeds[5:])
    columns = {name: tf.cast(tf.math.rint(column), tf.int64) for name, column in zip(_COLUMNS, notes, strict=True)}
    return {**record, **columns, "beats/time": beats}


def _blurred(onset: tf.Tensor, offset: tf.Tensor, most: float, seed: tf.Tensor) -> list[tf.Tensor]:
    """Times in samples, off by up to `most` in the standard deviation; none ends before it has begun."""
    seeds = [tf.random.fold_in(seed, i) for i in range(3)]
    deviation = tf.random.stateless_uniform((), seeds[0], 0.0, most, tf.float64)
    onset += deviation * tf.random.stateless_normal(tf.shape(onset), seeds[1], dtype=tf.float64)
    offset += _OFFSETS * deviation * tf.random.stateless_normal(tf.shape(onset), seeds[2], dtype=tf.float64)
    return [onset, tf.maximum(offset, onset + 1.0)]


def _mistaken(notes: list[tf.Tensor], most: float, seeds: list[tf.Tensor]) -> list[tf.Tensor]:
    """The notes, and softer ones beside some of them that were not played."""
    chosen = _some(tf.shape(notes[0]), most, seeds[0])
    onset, offset, pitch, velocity = (tf.boolean_mask(column, chosen) for column in notes)
    which = tf.random.stateless_uniform(tf.shape(pitch), seeds[1], 0, len(_MISTAKEN), tf.int32)
    pitch += tf.gather(tf.constant(_MISTAKEN, tf.float64), which)
    more = [onset, offset, pitch, tf.where(velocity > 0, tf.maximum(_SOFTER * velocity, 1.0), velocity)]
    return [tf.concat(both, axis=0) for both in zip(notes, more, strict=True)]


def _some(shape: tf.Tensor, most: float, seed: tf.Tensor) -> tf.Tensor:
    """True for a share of up to `most`, which is drawn first."""
    seeds = [tf.random.fold_in(seed, i) for i in range(2)]
    share = tf.random.stateless_uniform((), seeds[0], 0.0, most, tf.float64)
    return tf.random.stateless_uniform(shape, seeds[1], dtype=tf.float64) < share
