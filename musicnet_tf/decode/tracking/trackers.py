"""Activations of the beat head, and maybe of the downbeat head → beats, piece by piece."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

import numpy as np

from musicnet_tf.decode.tracking import tempo
from musicnet_tf.decode.tracking.evidence import Upsampler, evidence, upsampling_of
from musicnet_tf.decode.tracking.forward import Forward
from musicnet_tf.decode.tracking.greedy import greedy
from musicnet_tf.decode.tracking.peaks import PeakPicker
from musicnet_tf.decode.tracking.placement import Placement
from musicnet_tf.decode.tracking.state_space import StateSpace, intervals_of
from musicnet_tf.decode.tracking.viterbi import Segment, Viterbi
from musicnet_tf.events import UNKNOWN

PEAK_SECONDS = 0.07
"""A peak is the greatest activation so far to either side, and a downbeat is a beat with a downbeat's peak as near."""
_UNHEARD_BEATS = 2
"""So many beats in a row are told on line where no activation is audible: then the music is taken to have stopped."""


class Tracked(NamedTuple):
    """A beat: when, in fractional frames, and its place in the bar, or `UNKNOWN`."""

    frame: float
    position: int


class Tracker(Protocol):
    """Finds the beats of one recording. Nothing that it gave is taken back."""

    look_ahead: float | None
    """Frames after a beat that it may need to see; None where there is no bound."""

    def push(self, beat: np.ndarray, downbeat: np.ndarray | None) -> list[Tracked]:
        """Takes the next frames, `(frames,)` each, and gives the beats that are now sure."""

    def finish(self) -> list[Tracked]:
        """The other beats, once the last frame was pushed."""


class PeakTracker:
    """Every peak of the activation is a beat."""

    def __init__(self, frame_rate: float, threshold: float) -> None:
        reach = max(1, round(PEAK_SECONDS * frame_rate))
        self._picker = PeakPicker(threshold, reach)
        self._near = Placement(threshold)
        self._bars = _Bars(threshold, reach)
        self.look_ahead: float | None = self._picker.look_ahead

    def push(self, beat: np.ndarray, downbeat: np.ndarray | None) -> list[Tracked]:
        self._near.push(beat)
        self._bars.push(downbeat)
        return self._tracked(self._picker.push(beat))

    def finish(self) -> list[Tracked]:
        return self._tracked(self._picker.finish())

    def _tracked(self, peaks: list[float]) -> list[Tracked]:
        exact = [self._near.place(_at(peak), reach=0)[0] if peak.is_integer() else peak for peak in peaks]
        if peaks:
            self._near.forget(int(peaks[-1]))
        return self._bars.count(exact)


class GreedyTracker:
    """Beats from one to the next by the interval around them; see `greedy`. They are known at the end alone."""

    look_ahead: float | None = None

    def __init__(
        self,
        frame_rate: float,
        audible: float,
        min_bpm: float,
        max_bpm: float,
        threshold: float,
        method: tempo.Method,
    ) -> None:
        self._factor = _factor_of(frame_rate, min_bpm, max_bpm)
        self._method, self._audible = method, audible
        self._rate = self._factor * frame_rate
        self._upsampler = Upsampler(self._factor)
        self._intervals = intervals_of(self._rate, min_bpm, max_bpm)
        self._bars = _Bars(threshold, max(1, round(PEAK_SECONDS * frame_rate)))
        self._pieces: list[np.ndarray] = []

    def push(self, beat: np.ndarray, downbeat: np.ndarray | None) -> list[Tracked]:
        self._pieces.append(self._upsampler.push(beat[:, np.newaxis])[:, 0])
        self._bars.push(downbeat)
        return []

    def finish(self) -> list[Tracked]:
        activation = np.concatenate([np.zeros(0), *self._pieces])
        frames = greedy(activation, self._rate, self._intervals, self._method)
        heard = np.flatnonzero(activation[frames] >= self._audible)
        frames = frames[heard[0] : heard[-1] + 1] if len(heard) else frames[:0]
        return self._bars.count((frames / self._factor).tolist())


class ModelTracker:
    """Beats of a hidden Markov model of tempo and bar; see `StateSpace`.

    A path goes on through silence. Its beats that are not heard are kept between two that are, and on line after one
    that is, if they are no more than `_UNHEARD_BEATS` in a row.

    Args:
        frame_rate: frames a second.
        online: tell beats by what came before them, and not by the most probable path of all.
        audible: activation from which a beat is heard.
        observation_lambda, space: as of `StateSpace.of`.
    """

    def __init__(
        self, frame_rate: float, online: bool, audible: float, observation_lambda: float, **space: Any
    ) -> None:
        self._factor = _factor_of(frame_rate, space["min_bpm"], space["max_bpm"])
        states = StateSpace.of(self._factor * frame_rate, observation_lambda=observation_lambda, **space)
        self._model: Viterbi | Forward = Forward(states) if online else Viterbi(states)
        self._online, self._lambda = online, observation_lambda
        self._upsampler, self._placement = Upsampler(self._factor), Placement(audible, self._factor)
        self._waiting: list[Segment] = []  # for frames around them
        self._unheard: list[Tracked] = []
        self._any_heard = False
        self._end = 0
        width = int(states.widths[-1])  # a beat may lie as much before its first frame
        self.look_ahead: float | None = (width + self._sees(width) + 1) / self._factor if online else None

    def push(self, beat: np.ndarray, downbeat: np.ndarray | None) -> list[Tracked]:
        heads = self._upsampler.push(np.stack([beat] if downbeat is None else [beat, downbeat], axis=1))
        self._placement.push(heads[:, 0])
        self._end += len(heads)
        ratios = evidence(heads[:, 0], None if downbeat is None else heads[:, 1], self._lambda)
        self._waiting += self._model.push(ratios)
        return self._tracked(self._end)

    def finish(self) -> list[Tracked]:
        if isinstance(self._model, Viterbi):
            self._waiting += self._model.finish()
        return self._tracked(None)

    def _sees(self, width: int) -> int:
        """How far after its first frame the activation is looked at for a beat of a width."""
        return (width if self._online else 2 * width) + self._factor

    def _tracked(self, end: int | None) -> list[Tracked]:
        beats: list[Tracked] = []
        while self._waiting and (end is None or self._waiting[0].start + self._sees(self._waiting[0].width) < end):
            segment = self._waiting.pop(0)
            frame, heard = self._placement.place(segment, segment.width if self._online else None)
            self._placement.forget(segment.start - segment.width - self._factor)
            if frame >= 0:
                beats += self._kept(Tracked(frame / self._factor, segment.position), heard)
        return beats

    def _kept(self, beat: Tracked, heard: bool) -> list[Tracked]:
        """The beats that are certain to stay once it is known of this one whether it is heard."""
        if heard:
            between, self._unheard, self._any_heard = self._unheard, [], True
            return [beat] if self._online else [*between, beat]
        if not self._any_heard:
            return []
        self._unheard.append(beat)
        return [beat] if self._online and len(self._unheard) <= _UNHEARD_BEATS else []


class _Bars:
    """Numbers beats from each that is near a peak of the downbeat head."""

    def __init__(self, threshold: float, reach: int) -> None:
        self._near, self._reach = Placement(threshold), reach
        self._known, self._position = False, UNKNOWN

    def push(self, downbeat: np.ndarray | None) -> None:
        if downbeat is not None:
            self._known = True
            self._near.push(downbeat)

    def count(self, frames: Iterable[float]) -> list[Tracked]:
        beats = []
        for frame in frames:
            if self._known and self._near.place(_at(frame), self._reach)[1]:
                self._position = 1
            elif self._position != UNKNOWN:
                self._position += 1
            beats.append(Tracked(frame, self._position))
            self._near.forget(round(frame) - self._reach)
        return beats


def _factor_of(frame_rate: float, min_bpm: float, max_bpm: float) -> int:
    """As `upsampling_of`; but frames of a model that are too far apart for the tempi are refused."""
    intervals_of(frame_rate, min_bpm, max_bpm)
    return upsampling_of(frame_rate)


def _at(frame: float) -> Segment:
    return Segment(round(frame), 1, 1, UNKNOWN)
