"""Events → tensors on a frame clock, in pure TensorFlow ops, so that records hold events and no rolls.

Times come as sample indices from the first sample of the window; they may lie outside it. Every function of notes
gives float32 `(num_frames, num_classes)`, class `c` being MIDI pitch `head.first_pitch + c`; notes of
other pitches are left out. Those of beats give `(num_frames, 1)`, those of tags `(num_frames, num_tags)`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import tensorflow as tf

from musicnet_tf import events
from musicnet_tf.models import HeadSpec, ModelSpec
from musicnet_tf.timebase import FrameClock

UNKNOWN = -1.0
"""Target of a frame of which the labels do not tell whether it holds the event; no loss counts it."""


@dataclasses.dataclass(frozen=True)
class NoteTensors:
    """Notes of one window as tensors `(n,)`: onset and offset int64 samples, pitch and velocity int64."""

    onset: tf.Tensor
    offset: tf.Tensor
    pitch: tf.Tensor
    velocity: tf.Tensor

    @classmethod
    def of_window(cls, record: Mapping[str, tf.Tensor], start: tf.Tensor, spec: ModelSpec, reach: float) -> NoteTensors:
        """The notes of a record that sound within a window, or begin or end within `reach` seconds of it.

        Args:
            record: tensors by the names of `records.FEATURES`.
            start: first sample of the window within the record's excerpt.
            spec: geometry of the model.
            reach: seconds.
        """
        onset, offset = record["notes/onset"], record["notes/offset"]
        stop, beyond = start + spec.window_length, int(reach * spec.clock.sample_rate) + 1
        near = (onset < stop + beyond) & (offset > start - beyond)
        moved = {"onset": onset - start, "offset": offset - start}
        columns = {**moved, "pitch": record["notes/pitch"], "velocity": record["notes/velocity"]}
        return cls(**{name: tf.boolean_mask(values, near) for name, values in columns.items()})

    def within(self, head: HeadSpec) -> NoteTensors:
        """The notes whose pitch the head has a class for, with pitches counted as its classes."""
        index = self.pitch - head.first_pitch
        keep = (index >= 0) & (index < head.num_classes)
        picked = {f.name: tf.boolean_mask(getattr(self, f.name), keep) for f in dataclasses.fields(self)}
        return NoteTensors(**{**picked, "pitch": tf.boolean_mask(index, keep)})


def sounding(notes: NoteTensors, clock: FrameClock, num_frames: int, head: HeadSpec) -> tf.Tensor:
    """1 where the pitch sounds at the frame's centre: `onset <= centre < offset` (MusicNet paper, section 4).

    Exact in integers: each note adds 1 at its first frame and takes it away at the first frame after it.
    """
    notes = notes.within(head)
    first, after = (_first_frame_from(times, clock, num_frames) for times in (notes.onset, notes.offset))
    ones = tf.ones_like(first, tf.int32)
    changes = tf.scatter_nd(
        tf.concat([_cells(first, notes.pitch), _cells(after, notes.pitch)], axis=0),
        tf.concat([ones, -ones], axis=0),
        (num_frames + 1, head.num_classes),
    )
    return tf.cast(tf.cumsum(changes)[:num_frames] > 0, tf.float32)


def nearness(
    times: tf.Tensor, notes: NoteTensors, clock: FrameClock, num_frames: int, head: HeadSpec, width: float
) -> tf.Tensor:
    """A triangle round each event: `max(0, 1 - |centre - time| / width)`, `width` in seconds.

    Keeps the event's place between two frames (Kong et al. 2021, their equation 4). Where two triangles
    of one pitch overlap, the higher counts.

    Args:
        times: `notes.onset` or `notes.offset`.
    """
    frames, values, pitch, _ = _triangles(times, notes, clock, num_frames, head, width)
    return tf.tensor_scatter_nd_max(tf.zeros((num_frames, head.num_classes)), _cells(frames, pitch), values)


def velocity_near_onsets(
    notes: NoteTensors, clock: FrameClock, num_frames: int, head: HeadSpec, width: float
) -> tf.Tensor:
    """`(num_frames, num_classes, 2)`: velocity / 127 within `width` seconds of an onset, and its weight.

    The weight is the nearness to the onset, 0 where the velocity is unknown, so that a loss counts just
    the frames that a decoder reads.
    """
    frames, values, pitch, velocity = _triangles(notes.onset, notes, clock, num_frames, head, width)
    known = velocity > 0
    shape = (num_frames, head.num_classes)
    cells = _cells(tf.boolean_mask(frames, known), tf.boolean_mask(pitch, known))
    level = tf.cast(tf.boolean_mask(velocity, known), tf.float32) / 127.0
    weight = tf.tensor_scatter_nd_max(tf.zeros(shape), cells, tf.boolean_mask(values, known))
    return tf.stack([tf.tensor_scatter_nd_max(tf.zeros(shape), cells, level), weight], axis=-1)


def beats(time: tf.Tensor, known: tf.Tensor, clock: FrameClock, num_frames: int, width: float) -> tf.Tensor:
    """1 at the frame nearest to each beat, falling linearly to 0 at frames `width` seconds before and after it.

    Args:
        time: int64 samples `(n,)`.
        known: bool scalar, whether beats are told at all.
    """
    marked = _peaks(time, clock, num_frames, width)
    return tf.where(known, marked, tf.fill(tf.shape(marked), UNKNOWN))


def downbeats(
    time: tf.Tensor, position: tf.Tensor, known: tf.Tensor, clock: FrameClock, num_frames: int, width: float
) -> tf.Tensor:
    """The same of the beats that begin a bar; `UNKNOWN` at frames whose nearest beat has an unknown place in its bar.

    Args:
        time, position: int64 `(n,)`, times increasing.
        known: bool scalar, whether beats are told at all.
    """
    marked = beats(tf.boolean_mask(time, position == 1), known, clock, num_frames, width)
    centres = clock.origin + clock.hop_length * tf.range(num_frames, dtype=tf.int64)
    nearest = tf.searchsorted(time[:-1] + time[1:], 2 * centres, side="right")
    told = tf.gather(tf.concat([position, [1]], axis=0), nearest) > 0  # the one that is added stands for no beats
    return tf.where(told[:, None], marked, UNKNOWN)


def tags(
    start: tf.Tensor,
    stop: tf.Tensor,
    name: tf.Tensor,
    known: tf.Tensor,
    names: Sequence[str],
    clock: FrameClock,
    num_frames: int,
    least: int = 0,
) -> tf.Tensor:
    """1 where a frame bears a tag for more than `least` samples at a stretch, else 0.

    A frame lasts a hop, half of it before the frame's instant.

    Args:
        start, stop: int64 samples `(n,)` of the stretches, no two of one tag overlapping or touching.
        name: text `(n,)`.
        known: bool scalar, whether tags are told at all.
        names: of the tags, in the order of the classes.
    """
    named = tf.equal(name[:, None], tf.constant(list(names), tf.string))
    marked = tf.cast(_borne(start, stop, named, clock, num_frames, least), tf.float32)
    return tf.where(known, marked, tf.fill(tf.shape(marked), UNKNOWN))


def instruments(
    record: Mapping[str, tf.Tensor],
    start: tf.Tensor,
    programs: Sequence[int],
    clock: FrameClock,
    num_frames: int,
    least: int = 0,
) -> tf.Tensor:
    """1 where an instrument sounds in a frame for more than `least` samples at a stretch, else 0.

    Notes that overlap or follow at once make one stretch, as in `instruments.spans_of_notes`. Where notes sound whose
    instrument is not told, what is not heard for sure is `UNKNOWN`.

    Args:
        record: tensors by the names of `records.FEATURES`.
        start: first sample of the window within the record's excerpt.
        programs: MIDI programs in the order of the classes.
    """
    asked = tf.constant([*programs, events.UNKNOWN], tf.int64)
    played = tf.equal(record["notes/instrument"][:, None], asked)
    wanted = tf.reduce_any(played, axis=1)
    columns = [record["notes/onset"] - start, record["notes/offset"] - start, tf.argmax(played, axis=1)]
    begin, end, index = _joined(*(tf.boolean_mask(column, wanted) for column in columns))
    named = tf.one_hot(index, len(programs) + 1, on_value=True, off_value=False)
    borne = _borne(begin, end, named, clock, num_frames, least)
    return tf.where(borne[:, :-1], 1.0, tf.where(borne[:, -1:], UNKNOWN, 0.0))


def only_one(marked: tf.Tensor) -> tf.Tensor:
    """Targets `(frames, tags)` of tags that exclude one another: `UNKNOWN` in frames that do not bear exactly one."""
    known = tf.reduce_all(marked >= 0, axis=1, keepdims=True)
    return tf.where(known & tf.equal(tf.reduce_sum(marked, axis=1, keepdims=True), 1.0), marked, UNKNOWN)


def _borne(
    start: tf.Tensor, stop: tf.Tensor, named: tf.Tensor, clock: FrameClock, num_frames: int, least: int
) -> tf.Tensor:
    """Bool `(num_frames, num_tags)`: whether a stretch of the tag has more than `least` samples within the frame.

    Args:
        named: bool `(n, num_tags)`, which tag a stretch is of.
    """
    begins = clock.origin - clock.hop_length // 2 + clock.hop_length * tf.range(num_frames, dtype=tf.int64)[:, None]
    within = tf.minimum(begins + clock.hop_length, stop) - tf.maximum(begins, start)
    return tf.matmul(tf.cast(within > least, tf.float32), tf.cast(named, tf.float32)) > 0


def _joined(onset: tf.Tensor, offset: tf.Tensor, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Notes `(n,)` → the stretches in which any of an index sound: start, stop and index, `(m,)`.

    In the order of time each onset adds a note and each offset takes one away, onsets first where they coincide; a
    stretch is from 0 notes to 0 notes.
    """
    times = tf.concat([onset, offset], axis=0)
    step = tf.concat([tf.ones_like(onset), -tf.ones_like(offset)], axis=0)
    owner = tf.concat([index, index], axis=0)
    first = tf.reduce_min(times)
    span = 2 * (tf.reduce_max(times) - first + 1)
    order = tf.argsort(owner * span + 2 * (times - first) + tf.cast(step < 0, tf.int64))
    times, step, owner = (tf.gather(column, order) for column in (times, step, owner))
    sounding = tf.cumsum(step)
    begins, ends = (sounding == 1) & (step > 0), sounding == 0
    return tf.boolean_mask(times, begins), tf.boolean_mask(times, ends), tf.boolean_mask(owner, begins)


def _peaks(time: tf.Tensor, clock: FrameClock, num_frames: int, width: float) -> tf.Tensor:
    """`(num_frames, 1)`: 1 at the frame nearest to each time, falling linearly to 0 at `width` seconds from it."""
    frame = (2 * (time - clock.origin) + clock.hop_length) // (2 * clock.hop_length)
    width_frames = max(width * clock.frame_rate, 1.0)
    reach = int(width_frames)
    steps = tf.range(-reach, reach + 1, dtype=tf.int64)
    heights = tf.maximum(1.0 - tf.cast(tf.abs(steps), tf.float32) / width_frames, 0.0)
    frames = tf.reshape(frame[:, None] + steps, [-1])
    values = tf.reshape(tf.broadcast_to(heights, [tf.size(frame), tf.size(steps)]), [-1])
    inside = (frames >= 0) & (frames < num_frames)
    cells = tf.boolean_mask(frames, inside)[:, None]
    return tf.tensor_scatter_nd_max(tf.zeros((num_frames,)), cells, tf.boolean_mask(values, inside))[:, None]


def _first_frame_from(sample: tf.Tensor, clock: FrameClock, num_frames: int) -> tf.Tensor:
    """Index of the first frame whose centre is at or after `sample`, clipped to `[0, num_frames]`."""
    ceiling = -((clock.origin - sample) // clock.hop_length)
    return tf.clip_by_value(ceiling, 0, num_frames)


def _cells(frames: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
    return tf.stack([frames, classes], axis=-1)


def _triangles(
    times: tf.Tensor, notes: NoteTensors, clock: FrameClock, num_frames: int, head: HeadSpec, width: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """The frames that each event's triangle reaches: frame, height, class and velocity, each `(m,)`."""
    notes = dataclasses.replace(notes, onset=times).within(head)
    position = (tf.cast(notes.onset - clock.origin, tf.float64)) / clock.hop_length
    width_frames = width * clock.frame_rate
    reach = int(width_frames) + 1
    steps = tf.range(-reach, reach + 1, dtype=tf.int64)
    frames = tf.cast(tf.round(position), tf.int64)[:, None] + steps[None, :]
    values = tf.cast(1.0 - tf.abs(tf.cast(frames, tf.float64) - position[:, None]) / width_frames, tf.float32)
    keep = (values > 0) & (frames >= 0) & (frames < num_frames)
    spread = [tf.broadcast_to(column[:, None], tf.shape(frames)) for column in (notes.pitch, notes.velocity)]
    picked = [tf.boolean_mask(x, keep) for x in (frames, values, *spread)]
    return picked[0], picked[1], picked[2], picked[3]
