"""Posteriorgrams → notes, in one pass over frames that arrive piece by piece."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pydantic

from musicnet_tf import windowing
from musicnet_tf.decode import Decoder, Decoding
from musicnet_tf.decode.note_columns import OFFSET_REACH, as_json, join, note_rows, to_notes, velocity_of
from musicnet_tf.decode.peaks import Peaks
from musicnet_tf.decode.pieces import Piece, Pieces, matched_filter
from musicnet_tf.decode.viterbi import ViterbiNoteDecoder
from musicnet_tf.events import UNKNOWN, Notes
from musicnet_tf.models import ModelSpec
from musicnet_tf.registry import DECODERS
from musicnet_tf.timebase import FrameClock

if TYPE_CHECKING:
    from musicnet_tf.writers import Format


@DECODERS.register("notes")
class NoteDecoding(Decoding):
    """What the decoder may be told. Kept in a model's manifest; thresholds are chosen on validation pieces.

    Attributes:
        method: `greedy` decides as frames come (`NoteDecoder`). `viterbi` weighs a whole recording, pitch by pitch, and
            tells nothing before its end (`ViterbiNoteDecoder`).
        onset_threshold: activation from which a peak of the onset head starts a note.
        frame_threshold: activation from which a pitch counts as sounding.
        offset_threshold: activation from which a peak of the offset head refines where a note ends.
        min_duration: seconds; shorter notes are dropped.
        max_gap: seconds that a note may be below `frame_threshold` and yet go on; of `greedy` alone.
        min_repeat: seconds from a note's onset during which its pitch cannot start anew; of `greedy` alone, as for
            `viterbi` this is `min_duration`.
        min_velocity: softer notes are dropped, where the velocity is known.
        onset_smoothing: half the base in seconds of the triangle by which the onset head is convolved in time before
            its peaks are sought; nothing is done up to the length of a frame. Peaks are lower then, and so is the best
            `onset_threshold`.
        frame_weight: of `viterbi` alone: what the log-odds of a frame, sounding or the note's last, count beside those
            of an onset. Less than 1, as frames that follow one another tell much the same.
    """

    noun: ClassVar[str] = "notes"
    heads: ClassVar[tuple[str, ...]] = ("frame",)
    default_formats: ClassVar[tuple[str, ...]] = ("midi", "csv", "png")

    method: Literal["greedy", "viterbi"] = "greedy"
    onset_threshold: float = pydantic.Field(0.5, gt=0, le=1)
    frame_threshold: float = pydantic.Field(0.5, gt=0, le=1)
    offset_threshold: float = pydantic.Field(0.5, gt=0, le=1)
    min_duration: float = pydantic.Field(0.03, ge=0)
    max_gap: float = pydantic.Field(0.04, ge=0)
    min_repeat: float = pydantic.Field(0.05, ge=0)
    min_velocity: int = pydantic.Field(1, ge=1, le=127)
    onset_smoothing: float = pydantic.Field(0.0, ge=0, le=0.5)
    frame_weight: float = pydantic.Field(0.2, gt=0, le=1)

    def start(self, spec: ModelSpec) -> Decoder:
        return decoder_of(windowing.recording_clock(spec), self, spec.heads["frame"].first_pitch)

    @classmethod
    def formats(cls) -> Mapping[str, Format]:
        from musicnet_tf import writers  # draws, too, which a decoder alone need not

        return writers.FORMATS


def decoder_of(clock: FrameClock, params: NoteDecoding, first_pitch: int) -> NoteDecoder | ViterbiNoteDecoder:
    """The decoder of a recording by the method that was chosen."""
    kind = ViterbiNoteDecoder if params.method == "viterbi" else NoteDecoder
    return kind(clock, params, first_pitch)


def decode(heads: Mapping[str, np.ndarray], clock: FrameClock, params: NoteDecoding, first_pitch: int) -> Notes:
    """The notes of a whole posteriorgram; see `NoteDecoder` and `ViterbiNoteDecoder`.

    Args:
        heads: head → activations `(frames, num_classes)`.
        clock: when each frame is.
        params: method and thresholds.
        first_pitch: MIDI number of class 0.
    """
    decoder = decoder_of(clock, params, first_pitch)
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
        self._pieces = Pieces(matched_filter(params.onset_smoothing * clock.frame_rate))
        self._state: _State | None = None

    @property
    def look_ahead(self) -> float:
        """Seconds of activations that a row may have to wait for: see `Decoder.look_ahead`.

        An onset is sure once its note cannot become too short, or ended: after `min_duration` and what an offset may be
        refined by, and, where it is silent then, `max_gap` more. A frame is decided when those that its peaks depend on
        were seen.
        """
        frames = OFFSET_REACH + 1 + self._pieces.look_ahead
        return self._params.min_duration + self._params.max_gap + frames / self._clock.frame_rate

    def push(self, heads: Mapping[str, np.ndarray]) -> None:
        """Takes the next frames: head → activations `(frames, num_classes)`, of equal shape.

        Raises:
            ModelError: where `frame` is missing, shapes differ, or an activation is not a number.
        """
        self._decide(self._pieces.push(heads))

    def live(self) -> list[dict[str, Any]]:
        """Onsets of notes that still sound and will surely be kept, and notes that ended, since the last call.

        An `onset` has `time`, a `note` `onset` and `offset`, in seconds; both have `pitch`, and `velocity` where
        the model hears it. A short note ends before its onset is sure, and is told at its end alone.
        """
        if self._state is None:
            return []
        onset, pitch, velocity = self._state.surely_begun(self._params.min_duration * self._clock.frame_rate)
        loud = (velocity == UNKNOWN) | (velocity >= self._params.min_velocity)
        times = np.maximum(self._clock.frame_to_time(onset[loud]), 0.0)
        begun = [
            {"event": "onset", "time": float(time), **as_json(pitch + self._first_pitch, velocity)}
            for time, pitch, velocity in zip(times, pitch[loud], velocity[loud], strict=True)
        ]
        return begun + note_rows(self._notes(*self._state.newly_closed()))

    def finish(self) -> Notes:
        """Ends the notes that still sound and gives all, sorted, in seconds."""
        last = self._pieces.finish()
        if last is None:
            return Notes.empty()
        self._decide(last)
        assert self._state is not None
        self._state.close(self._state.open)
        return self._notes(*self._state.closed())

    def _decide(self, piece: Piece) -> None:
        """Moves the state past a piece."""
        if self._state is None:
            self._state = _State(piece.num_classes)
        if not len(piece):
            return
        frames = piece.heads
        sounding = frames["frame"] >= self._params.frame_threshold
        onsets = piece.peaks("onset", self._params.onset_threshold)
        offsets = piece.peaks("offset", self._params.offset_threshold)
        max_gap = self._params.max_gap * self._clock.frame_rate
        for i in range(len(piece)):
            frame = piece.first_frame + i
            starts, position = self._starts(onsets, i, frame, sounding[i])
            if len(starts):
                velocity = velocity_of(frames["velocity"][i, starts]) if "velocity" in frames else UNKNOWN
                self._state.start(starts, position, velocity, frame, sounding[i])
            if offsets is not None:
                ends, end = offsets.at(i)
                self._state.offset_peak[ends] = end
            self._state.step(sounding[i], frame, max_gap)

    def _starts(self, onsets: Peaks | None, i: int, frame: int, sounding: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Classes and positions of the notes that start at the `i`-th frame of a piece."""
        assert self._state is not None
        if onsets is None:
            starts = np.flatnonzero(sounding & ~self._state.open)
            return starts, np.full(len(starts), frame - 0.5)
        starts, position = onsets.at(i)
        min_repeat = self._params.min_repeat * self._clock.frame_rate
        return self._state.restartable(starts, position, min_repeat)

    def _notes(self, onset: np.ndarray, offset: np.ndarray, pitch: np.ndarray, velocity: np.ndarray) -> Notes:
        return to_notes((onset, offset, pitch, velocity), self._clock, self._params, self._first_pitch)


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
        refined = (np.abs(self.offset_peak - end) <= OFFSET_REACH) & (self.offset_peak > self._onset)
        return np.where(refined, self.offset_peak, end)

    def surely_begun(self, min_frames: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Onset, class and velocity of open notes that no offset can make shorter than `min_frames`; each once."""
        sure = self.open & ~self._told & (self._last - OFFSET_REACH - self._onset >= min_frames)
        self._told |= sure
        return self._onset[sure], np.flatnonzero(sure), self._velocity[sure]

    def closed(self) -> tuple[np.ndarray, ...]:
        """Columns onset, offset, class and velocity of all notes that ended."""
        return join(self._closed)

    def newly_closed(self) -> tuple[np.ndarray, ...]:
        """As `closed`, of those that ended since the last call."""
        new, self._num_told = self._closed[self._num_told :], len(self._closed)
        return join(new)
