"""Posteriorgrams → notes, as the best of all ways in which each pitch may have sounded and been silent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from musicnet_tf.decode.note_columns import OFFSET_REACH, Columns, join, note_rows, to_notes, velocity_of
from musicnet_tf.decode.pieces import Piece, Pieces, matched_filter
from musicnet_tf.events import UNKNOWN, Notes

if TYPE_CHECKING:
    from musicnet_tf.decode.notes import NoteDecoding
    from musicnet_tf.timebase import FrameClock

_LEAST_ONSET = 0.1
"""Onset activation below which a peak is not considered."""
_START_WITHOUT_ONSETS = -1.0
"""What a start counts where the model has no onset head: so much must the frames of a note bring."""
_LEAST_ACTIVATION = 1e-3
"""Activations are held this far from 0 and 1, whose log-odds are infinite."""


class ViterbiNoteDecoder:
    """Turns activations into notes by dynamic programming. However the frames are cut, the notes are the same.

    A pitch is silent or sounds in each frame. Of all sequences of silences and notes the one of the highest score is
    taken (Viterbi 1967), each pitch by itself. The score is the sum of

    - at the first frame of a note, the log-odds of its onset activation less those of `onset_threshold`. A note begins
      at a peak of that head, maybe in the midst of a note of its pitch, which ends there. Without such a head it may
      begin anywhere, for a price of 1;
    - at each frame of a note, `frame_weight` times the log-odds of the frame activation less those of
      `frame_threshold`;
    - where silence follows a note, and the model has an offset head, `frame_weight` times the log-odds of the greater
      activation of the last frame and the first silent one, less those of `offset_threshold`.

    So a weak onset starts a note where much sound follows, a strong one where there is little, and a dip is bridged
    that costs less than what comes after it brings. A note has frames for `min_duration` and one more, since onset
    and end lie up to half a frame within the first and last. Onsets are placed at peaks to a fraction of a frame,
    and ends at a peak of the offset head near them, where there is one.

    All is decided at the end of the recording. Until then three bits a frame and class are kept, each in a byte: 48 MB
    for an hour of 88 pitches at 50 frames a second.
    """

    look_ahead: float | None = None

    def __init__(self, clock: FrameClock, params: NoteDecoding, first_pitch: int) -> None:
        self._clock = clock
        self._params = params
        self._first_pitch = first_pitch
        self._pieces = Pieces(matched_filter(params.onset_smoothing * clock.frame_rate))
        self._trellis: _Trellis | None = None
        self._onsets: list[_Events] = []
        self._offsets: list[_Events] = []
        self._untold = Notes.empty()

    def push(self, heads: Mapping[str, np.ndarray]) -> None:
        """Takes the next frames: head → activations `(frames, num_classes)`, of equal shape.

        Raises:
            ModelError: where `frame` is missing, shapes differ, or an activation is not a number.
        """
        self._score(self._pieces.push(heads))

    def live(self) -> list[dict[str, Any]]:
        """Nothing until `finish` was called, and all notes then, once."""
        told, self._untold = self._untold, Notes.empty()
        return note_rows(told)

    def finish(self) -> Notes:
        """The best sequence of every pitch as notes, sorted, in seconds."""
        last = self._pieces.finish()
        if last is None:
            return Notes.empty()
        self._score(last)
        assert self._trellis is not None
        onsets, offsets = _Events.join(self._onsets), _Events.join(self._offsets)
        paths = [
            self._placed(pitch, spans, onsets.of(pitch), offsets.of(pitch))
            for pitch, spans in enumerate(self._trellis.best())
            if len(spans)
        ]
        notes = to_notes(join(paths), self._clock, self._params, self._first_pitch)
        self._untold = notes
        return notes

    def _score(self, piece: Piece) -> None:
        """Moves the trellis past a piece."""
        if self._trellis is None:
            frames = math.ceil(self._params.min_duration * self._clock.frame_rate - 1e-6) + 1
            self._trellis = _Trellis(piece.num_classes, frames)
        if not len(piece):
            return
        weight = self._params.frame_weight
        sound = weight * _evidence(piece.heads["frame"], self._params.frame_threshold)
        start = np.full(sound.shape, _START_WITHOUT_ONSETS if "onset" not in piece.heads else -np.inf)
        onsets = _Events.of_head(piece, "onset", _LEAST_ONSET)
        at = (onsets.frame - piece.first_frame, onsets.pitch)
        start[at] = _evidence(onsets.activation, self._params.onset_threshold)
        self._onsets.append(onsets)
        self._offsets.append(_Events.of_head(piece, "offset", self._params.offset_threshold))
        self._trellis.step(sound, start, self._ends(piece) * weight)

    def _ends(self, piece: Piece) -> np.ndarray:
        """Evidence that a note ends between a frame and the one before it, `(frames, num_classes)`."""
        if "offset" not in piece.around:
            return np.zeros((len(piece), piece.num_classes))
        before, here = piece.around["offset"][: len(piece)], piece.heads["offset"]
        return _evidence(np.maximum(before, here), self._params.offset_threshold)

    def _placed(self, pitch: int, spans: np.ndarray, onsets: _Events, offsets: _Events) -> Columns:
        """Notes of one pitch, from first and last frames to fractions of a frame."""
        first, last = spans.T
        onset, velocity = first - 0.5, np.full(len(first), UNKNOWN)
        if len(onsets.frame):
            here = np.searchsorted(onsets.frame, first)
            onset, velocity = onsets.position[here], onsets.velocity[here]
        after = np.append(onset[1:], np.inf)
        touching = np.append(first[1:] == last[:-1] + 1, False)
        end = np.where(touching, after, last + 0.5)
        refined = offsets.nearest(end)
        near = ~touching & (np.abs(refined - end) <= OFFSET_REACH) & (refined <= after)
        near &= refined - onset >= self._params.min_duration * self._clock.frame_rate
        return onset, np.where(near, refined, end), np.full(len(first), pitch), velocity


def _evidence(activation: np.ndarray, threshold: float) -> np.ndarray:
    """Log-odds of activations, less those of a threshold."""
    return _log_odds(activation) - _log_odds(threshold)


def _log_odds(probability: npt.ArrayLike) -> np.ndarray:
    held = np.clip(np.asarray(probability, np.float64), _LEAST_ACTIVATION, 1 - _LEAST_ACTIVATION)
    return np.log(held / (1 - held))


class _Events(NamedTuple):
    """Peaks of a head: first frame, place in frames, class, activation and velocity, each `(peaks,)`."""

    frame: np.ndarray
    position: np.ndarray
    pitch: np.ndarray
    activation: np.ndarray
    velocity: np.ndarray

    @classmethod
    def of_head(cls, piece: Piece, head: str, threshold: float) -> _Events:
        peaks = piece.peaks(head, threshold)
        if peaks is None:
            nothing = np.zeros(0, np.int64)
            return cls(nothing, np.zeros(0), nothing, np.zeros(0), nothing)
        local = peaks.frame - piece.first_frame
        loud = piece.heads.get("velocity")
        velocity = np.full(len(local), UNKNOWN) if loud is None else velocity_of(loud[local, peaks.pitch])
        return cls(peaks.frame, peaks.position, peaks.pitch, piece.heads[head][local, peaks.pitch], velocity)

    @classmethod
    def join(cls, parts: list[_Events]) -> _Events:
        return (
            cls(*(np.concatenate(column) for column in zip(*parts, strict=True))) if parts else cls(*[np.zeros(0)] * 5)
        )

    def of(self, pitch: int) -> _Events:
        """Those of one class, by frame."""
        return _Events(*(column[self.pitch == pitch] for column in self))

    def nearest(self, position: np.ndarray) -> np.ndarray:
        """The place nearest to each of some; infinity where there is none."""
        if not len(self.position):
            return np.full(len(position), np.inf)
        after = np.clip(np.searchsorted(self.position, position), 1, max(1, len(self.position) - 1))
        before, after = self.position[after - 1], self.position[np.minimum(after, len(self.position) - 1)]
        return np.where(position - before <= after - position, before, after)


class _Trellis:
    """Scores of the best paths that end in silence and in sound, `(num_classes,)` each, and how they came to be.

    A note shorter than its least length is no state of its own: `_begun` holds for each of the last `min_frames` frames
    the score of a note that began there, which joins those that sound when it is long enough.
    """

    def __init__(self, num_classes: int, min_frames: int) -> None:
        self._min_frames = min_frames
        self._silent = np.zeros(num_classes)
        self._sounding = np.full(num_classes, -np.inf)
        self._begun = np.full((min_frames, num_classes), -np.inf)
        self._frame = 0
        self._history: list[np.ndarray] = []  # `(3, frames, num_classes)`, see `step`

    def step(self, sound: np.ndarray, start: np.ndarray, end: np.ndarray) -> None:
        """Takes what the next frames count, `(frames, num_classes)` each.

        Args:
            sound: in a frame of a note.
            start: in addition, in the first of them.
            end: where a frame is silent that follows one of a note.
        """
        history = np.zeros((3, *sound.shape), bool)
        for again, ended, joined, sound_now, start_now, end_now in zip(*history, sound, start, end, strict=True):
            np.greater(self._sounding, self._silent, out=again)  # a note that starts here cuts one off
            self._begun[self._frame % self._min_frames] = np.where(again, self._sounding, self._silent) + start_now
            ending = self._sounding + end_now
            np.greater(ending, self._silent, out=ended)
            self._silent = np.where(ended, ending, self._silent)
            self._begun += sound_now
            self._sounding += sound_now
            oldest = self._begun[(self._frame + 1) % self._min_frames]
            np.greater(oldest, self._sounding, out=joined)
            self._sounding = np.where(joined, oldest, self._sounding)
            self._frame += 1
        self._history.append(history)

    def best(self) -> list[np.ndarray]:
        """First and last frames of the notes on the best path of each class, `(notes, 2)`."""
        sounding = self._sounding > self._silent
        history = np.concatenate(self._history, axis=1) if self._history else np.zeros((3, 0, len(sounding)), bool)
        return [self._trace(history[:, :, i], bool(sounding[i])) for i in range(len(sounding))]

    def _trace(self, history: np.ndarray, sounding: bool) -> np.ndarray:
        again, ended, joined = history
        ends, joins = np.flatnonzero(ended), np.flatnonzero(joined)
        spans = []
        frame = len(again) - 1  # the last one in which the path is in the state `sounding`
        while True:
            if not sounding:
                i = np.searchsorted(ends, frame, "right") - 1
                if i < 0:
                    break
                frame = ends[i] - 1
            i = np.searchsorted(joins, frame, "right") - 1  # what sounds began at some time
            first = joins[i] - self._min_frames + 1
            spans.append((first, frame))
            sounding, frame = again[first], first - 1
        return np.array(spans[::-1], np.int64).reshape(-1, 2)
