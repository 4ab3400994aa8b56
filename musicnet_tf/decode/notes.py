"""Posteriorgrams → notes, in one pass over frames that arrive piece by piece."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pydantic

from musicnet_tf import windowing
from musicnet_tf.decode import Decoding
from musicnet_tf.errors import ModelError
from musicnet_tf.events import UNKNOWN, Notes
from musicnet_tf.models import ModelSpec
from musicnet_tf.registry import DECODERS
from musicnet_tf.timebase import FrameClock

if TYPE_CHECKING:
    from musicnet_tf.writers import Format

_HEADS = ("frame", "onset", "offset", "velocity")
_LOOKAHEAD = 4
"""Frames of equal activation after which a plateau counts as a peak without having been seen to fall."""
_OFFSET_REACH = 2.0
"""Frames by which a peak of the offset head may lie off the frame head's end of a note, and still refine it."""


@DECODERS.register("notes")
class NoteDecoding(Decoding):
    """What the decoder may be told. Kept in a model's manifest; thresholds are chosen on validation pieces.

    Attributes:
        onset_threshold: activation from which a peak of the onset head starts a note.
        frame_threshold: activation from which a pitch counts as sounding.
        offset_threshold: activation from which a peak of the offset head refines where a note ends.
        min_duration: seconds; shorter notes are dropped.
        max_gap: seconds that a note may be below `frame_threshold` and yet go on.
        min_repeat: seconds from a note's onset during which its pitch cannot start anew.
        min_velocity: softer notes are dropped, where the velocity is known.
    """

    noun: ClassVar[str] = "notes"
    heads: ClassVar[tuple[str, ...]] = ("frame",)
    default_formats: ClassVar[tuple[str, ...]] = ("midi", "csv", "png")

    onset_threshold: float = pydantic.Field(0.5, gt=0, le=1)
    frame_threshold: float = pydantic.Field(0.5, gt=0, le=1)
    offset_threshold: float = pydantic.Field(0.5, gt=0, le=1)
    min_duration: float = pydantic.Field(0.03, ge=0)
    max_gap: float = pydantic.Field(0.04, ge=0)
    min_repeat: float = pydantic.Field(0.05, ge=0)
    min_velocity: int = pydantic.Field(1, ge=1, le=127)

    def start(self, spec: ModelSpec) -> NoteDecoder:
        return NoteDecoder(windowing.recording_clock(spec), self, spec.heads["frame"].first_pitch)

    @classmethod
    def formats(cls) -> Mapping[str, Format]:
        from musicnet_tf import writers  # draws, too, which a decoder alone need not

        return writers.FORMATS


def velocity_of(activation: np.ndarray) -> np.ndarray:
    """MIDI velocity 1–127 of the velocity head's activations, whose target is `velocity / 127`."""
    return np.clip(np.rint(np.asarray(activation, np.float64) * 127), 1, 127).astype(np.int64)


def decode(heads: Mapping[str, np.ndarray], clock: FrameClock, params: NoteDecoding, first_pitch: int) -> Notes:
    """The notes of a whole posteriorgram; see `NoteDecoder`.

    Args:
        heads: head → activations `(frames, num_classes)`.
        clock: when each frame is.
        params: thresholds.
        first_pitch: MIDI number of class 0.
    """
    decoder = NoteDecoder(clock, params, first_pitch)
    decoder.push(heads)
    return decoder.finish()


class NoteDecoder:
    """Turns activations into notes. However the frames are cut into pieces, the notes are the same.

    Head `frame` is needed; `onset`, `offset` and `velocity` are used where present.

    With an onset head a note starts at each peak in time of its pitch's onset activation of at least
    `onset_threshold`, to a fraction of a frame (`find_peaks`), and ends midway between the last
    frame that sounds and a silence longer than `max_gap`, or at the next onset of its pitch. Without
    one, it starts midway between the last silent frame and the first that sounds.
    """

    def __init__(self, clock: FrameClock, params: NoteDecoding, first_pitch: int) -> None:
        self._clock = clock
        self._params = params
        self._first_pitch = first_pitch
        self._pending: dict[str, np.ndarray] = {}  # frames not yet decided on
        self._before: dict[str, np.ndarray] = {}  # the last frame that was, `(1, classes)`
        self._frame = 0  # index of the first pending frame
        self._state: _State | None = None

    @property
    def look_ahead(self) -> float:
        """Seconds of activations that a row may have to wait for: see `Decoder.look_ahead`.

        An onset is sure once its note cannot become too short, or ended: after `min_duration` and what an offset may be
        refined by, and, where it is silent then, `max_gap` more. A frame is decided when `_LOOKAHEAD` more were seen.
        """
        frames = _OFFSET_REACH + 1 + _LOOKAHEAD
        return self._params.min_duration + self._params.max_gap + frames / self._clock.frame_rate

    def push(self, heads: Mapping[str, np.ndarray]) -> None:
        """Takes the next frames: head → activations `(frames, num_classes)`, of equal shape.

        Raises:
            ModelError: where `frame` is missing, shapes differ, or an activation is not a number.
        """
        heads = _checked(heads, self._pending)
        if not self._pending:
            self._pending = heads
            self._state = _State(heads["frame"].shape[1])
        else:
            self._pending = {name: np.concatenate([self._pending[name], new]) for name, new in heads.items()}
        self._decide(len(self._pending["frame"]) - _LOOKAHEAD)

    def live(self) -> list[dict[str, Any]]:
        """Onsets of notes that still sound and will surely be kept, and notes that ended, since the last call.

        An `onset` has `time`, a `note` `onset` and `offset`, in seconds; both have `pitch`, and `velocity` where
        the model hears it. A short note ends before its onset is sure, and is told at its end alone.
        """
        if self._state is None:
            return []
        onset, pitch, velocity = self._state.surely_begun(self._params.min_duration * self._clock.frame_rate)
        loud = (velocity == UNKNOWN) | (velocity >= self._params.min_velocity)
        times = self._seconds(onset[loud])
        begun = [
            {"event": "onset", "time": float(time)} | _as_json(pitch + self._first_pitch, velocity)
            for time, pitch, velocity in zip(times, pitch[loud], velocity[loud], strict=True)
        ]
        ended = [
            {"event": "note", "onset": note.onset, "offset": note.offset} | _as_json(note.pitch, note.velocity)
            for note in self._notes(*self._state.newly_closed())
        ]
        return begun + ended

    def finish(self) -> Notes:
        """Ends the notes that still sound and gives all, sorted, in seconds."""
        if self._state is None:
            return Notes.empty()
        count = len(self._pending["frame"])
        self._pending = {
            name: np.pad(values, ((0, _LOOKAHEAD), (0, 0)), constant_values=-1.0)
            for name, values in self._pending.items()
        }
        self._decide(count)
        self._state.close(self._state.open)
        return self._notes(*self._state.closed())

    def _decide(self, count: int) -> None:
        """Moves the state past the first `count` pending frames."""
        if count <= 0 or self._state is None:
            return
        frames = {name: values[:count] for name, values in self._pending.items()}
        sounding = frames["frame"] >= self._params.frame_threshold
        onsets = self._peaks("onset", self._params.onset_threshold, count)
        offsets = self._peaks("offset", self._params.offset_threshold, count)
        max_gap = self._params.max_gap * self._clock.frame_rate
        for i in range(count):
            frame = self._frame + i
            starts, position = self._starts(onsets, i, sounding[i])
            if len(starts):
                velocity = velocity_of(frames["velocity"][i, starts]) if "velocity" in frames else UNKNOWN
                self._state.start(starts, position, velocity, frame, sounding[i])
            if offsets is not None:
                ends, end = offsets.at(i)
                self._state.offset_peak[ends] = end
            self._state.step(sounding[i], frame, max_gap)
        self._before = {name: values[count - 1 : count] for name, values in self._pending.items()}
        self._pending = {name: values[count:] for name, values in self._pending.items()}
        self._frame += count

    def _starts(self, onsets: _Peaks | None, i: int, sounding: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Classes and positions of the notes that start at the `i`-th pending frame."""
        assert self._state is not None
        if onsets is None:
            starts = np.flatnonzero(sounding & ~self._state.open)
            return starts, np.full(len(starts), self._frame + i - 0.5)
        starts, position = onsets.at(i)
        min_repeat = self._params.min_repeat * self._clock.frame_rate
        return self._state.restartable(starts, position, min_repeat)

    def _peaks(self, head: str, threshold: float, count: int) -> _Peaks | None:
        if head not in self._pending:
            return None
        seen = self._pending[head][: count + _LOOKAHEAD]
        before = self._before.get(head, np.full_like(seen[:1], -1.0))
        return _Peaks(np.concatenate([before, seen]), threshold, self._frame)

    def _notes(self, onset: np.ndarray, offset: np.ndarray, pitch: np.ndarray, velocity: np.ndarray) -> Notes:
        onset = self._seconds(onset)
        offset = self._clock.frame_to_time(offset)
        keep = (offset > onset) & (offset - onset >= self._params.min_duration)
        keep &= (velocity == UNKNOWN) | (velocity >= self._params.min_velocity)
        return Notes(onset[keep], offset[keep], pitch[keep] + self._first_pitch, velocity[keep])

    def _seconds(self, onset: np.ndarray) -> np.ndarray:
        return np.maximum(self._clock.frame_to_time(onset), 0.0)


class _State:
    """What sounds at a moment, one entry a class; times are fractional frames."""

    def __init__(self, num_classes: int) -> None:
        self.open = np.zeros(num_classes, bool)
        self.offset_peak = np.full(num_classes, -np.inf)
        self._onset = np.zeros(num_classes)
        self._last = np.zeros(num_classes)  # last frame that sounded
        self._velocity = np.full(num_classes, UNKNOWN)
        self._closed: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []
        self._told = np.zeros(num_classes, bool)  # whether `surely_begun` gave the note that is open
        self._num_told = 0  # of `_closed`, by `newly_closed`

    def restartable(self, pitch: np.ndarray, position: np.ndarray, gap: float) -> tuple[np.ndarray, np.ndarray]:
        """Those onsets that do not follow too closely on the one of a note that still sounds."""
        keep = ~self.open[pitch] | (position - self._onset[pitch] >= gap)
        return pitch[keep], position[keep]

    def start(
        self, pitch: np.ndarray, position: np.ndarray, velocity: np.ndarray | int, frame: int, sounding: np.ndarray
    ) -> None:
        """Starts notes, ending those of the same pitch; one that sounded until now ends at the new onset."""
        again = np.zeros_like(self.open)
        again[pitch] = self.open[pitch]
        if again.any():
            onset = np.full(len(self.open), -np.inf)
            onset[pitch] = position
            self._last[sounding & (onset > frame)] = frame  # before the onset, this frame is still the old note's
            held = self._last >= np.minimum(frame, np.ceil(onset) - 1)
            self.close(again, np.where(held, onset, np.minimum(self._last + 0.5, onset)))
        self.open[pitch] = True
        self._told[pitch] = False
        self._onset[pitch] = position
        self._last[pitch] = np.floor(position + 0.5)  # an onset sounds, whatever the frame head says
        self._velocity[pitch] = velocity

    def step(self, sounding: np.ndarray, frame: int, max_gap: float) -> None:
        np.maximum(self._last, frame, out=self._last, where=sounding)
        ended = self.open & (frame - self._last > max_gap)
        if ended.any():
            self.close(ended)

    def close(self, which: np.ndarray, end: np.ndarray | None = None) -> None:
        """Ends the notes of a mask, at the end of their sound unless told otherwise."""
        pitch = np.flatnonzero(which)
        if not len(pitch):
            return
        self._closed.append(
            (
                self._onset[pitch],
                (self._sound_end() if end is None else end)[pitch],
                pitch,
                self._velocity[pitch],
            )
        )
        self.open[pitch] = False

    def _sound_end(self) -> np.ndarray:
        end = self._last + 0.5
        refined = (np.abs(self.offset_peak - end) <= _OFFSET_REACH) & (self.offset_peak > self._onset)
        return np.where(refined, self.offset_peak, end)

    def surely_begun(self, min_frames: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Onset, class and velocity of open notes that no offset can make shorter than `min_frames`; each once."""
        sure = self.open & ~self._told & (self._last - _OFFSET_REACH - self._onset >= min_frames)
        self._told |= sure
        return self._onset[sure], np.flatnonzero(sure), self._velocity[sure]

    def closed(self) -> tuple[np.ndarray, ...]:
        """Columns onset, offset, class and velocity of all notes that ended."""
        return _columns(self._closed)

    def newly_closed(self) -> tuple[np.ndarray, ...]:
        """As `closed`, of those that ended since the last call."""
        new, self._num_told = self._closed[self._num_told :], len(self._closed)
        return _columns(new)


def _columns(closed: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]) -> tuple[np.ndarray, ...]:
    if not closed:
        return np.zeros(0), np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64)
    return tuple(np.concatenate(column) for column in zip(*closed, strict=True))


def _as_json(pitch: int, velocity: int) -> dict[str, int]:
    return {"pitch": int(pitch)} | ({} if velocity == UNKNOWN else {"velocity": int(velocity)})


class _Peaks:
    """The peaks in time of a piece of activations, by frame."""

    def __init__(self, values: np.ndarray, threshold: float, first_frame: int) -> None:
        frame, self._pitch, shift = find_peaks(values, threshold)
        self._position = (first_frame + frame) + shift  # in this order: wherever a piece begins, bits are the same
        self._bounds = np.searchsorted(frame, np.arange(len(values) - _LOOKAHEAD))

    def at(self, frame: int) -> tuple[np.ndarray, np.ndarray]:
        """Classes and positions of the peaks that begin at a frame."""
        here = slice(self._bounds[frame], self._bounds[frame + 1])
        return self._pitch[here], self._position[here]


def find_peaks(values: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Local maxima in time, to a fraction of a frame.

    A peak rises from the frame before it, reaches `threshold` and falls afterwards; equal neighbours
    make one peak. Training targets are triangles `max(0, 1 - |t - onset| / w)`. Three samples `a, b, c`
    round the apex of one, `b` the greatest, lie on two lines of equal slope, so that the apex is
    `(c - a) / (2 (b - min(a, c)))` frames from `b`, exactly, whatever `w >= 1.5` and the height are.

    Args:
        values: `(1 + frames + 4, classes)`: one frame before and four after those asked for; negative
            where there is none.
        threshold: least activation of a peak.

    Returns:
        Frame at which each peak begins, int64; its class, int64; how many frames its apex lies after that
        frame, float64. All `(peaks,)`, sorted by frame.
    """
    count = len(values) - 1 - _LOOKAHEAD
    here = values[1 : 1 + count]
    length = np.ones(here.shape, np.int64)  # frames of equal activation
    level = np.ones(here.shape, bool)
    fell = np.zeros(here.shape, bool)
    for ahead in range(1, _LOOKAHEAD + 1):
        later = values[1 + ahead : 1 + ahead + count]
        fell |= level & (later < here)
        level &= later == here
        length += level & (ahead < _LOOKAHEAD)
    frame, pitch = np.nonzero((here >= threshold) & (here > values[:count]) & (fell | level))
    length = length[frame, pitch]
    top = here[frame, pitch].astype(np.float64)
    left = values[frame, pitch].astype(np.float64)
    right = values[frame + 1 + length, pitch].astype(np.float64)
    left, right = np.where(left < 0, right, left), np.where(right < 0, left, right)
    rise = top - np.minimum(left, right)
    shift = np.where((left < 0) | (rise <= 0), 0.0, (right - left) / np.maximum(2 * rise, 1e-12))
    return frame, pitch, (length - 1) / 2 + shift


def _checked(heads: Mapping[str, np.ndarray], pending: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    if "frame" not in heads:
        raise ModelError(f"notes need a head 'frame', the model gives {', '.join(heads) or 'none'}")
    known = {name: np.asarray(heads[name], np.float32) for name in _HEADS if name in heads}
    if pending and known.keys() != pending.keys():
        raise ModelError(f"heads changed from {', '.join(pending)} to {', '.join(known)} within a recording")
    shape = (len(known["frame"]), (pending or known)["frame"].shape[1])
    for name, values in known.items():
        if values.shape != shape:
            raise ModelError(f"head {name!r} has shape {values.shape}, expected {shape} as of 'frame'")
        if not np.isfinite(values).all():
            raise ModelError(f"head {name!r} holds activations that are not numbers; the model is damaged")
    return known
