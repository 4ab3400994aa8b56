"""Activations of beats and downbeats → beats with their places in the bar, over frames that arrive piece by piece."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import pydantic

from musicnet_tf import rhythm, windowing
from musicnet_tf.decode import Decoding
from musicnet_tf.errors import ModelError
from musicnet_tf.events import UNKNOWN, Beats
from musicnet_tf.models import ModelSpec
from musicnet_tf.registry import DECODERS
from musicnet_tf.timebase import FrameClock

if TYPE_CHECKING:
    from musicnet_tf.decode.tracking.trackers import Tracked, Tracker
    from musicnet_tf.writers import Format


@DECODERS.register("beats")
class BeatDecoding(Decoding):
    """What the decoder may be told. Kept in a model's manifest.

    Attributes:
        method: `dbn`, the most probable path through tempo, phase and bar; `dbn_online`, the same model by what was
            heard so far; `peaks`, every peak of the activation; `autocorrelation` and `comb`, from beat to beat by the
            interval that they find.
        min_bpm, max_bpm: beats a minute that there may be. Not of `peaks`.
        transition_lambda: the greater, the steadier is the tempo of a `dbn`.
        observation_lambda: one in so many frames of a `dbn` is on the beat.
        beat_cost: taken from the log-probability of a `dbn` at each beat: see `StateSpace.of`.
        beats_per_bar: of a `dbn`, where the model tells downbeats.
        meter_change: probability of a `dbn` that a bar has another length than the one before.
        audible: activation from which a beat is heard; there are none before the first and after the last that is.
        threshold: activation of a peak, of the beats of `peaks` and of the downbeats of all but the `dbn`.
    """

    noun: ClassVar[str] = "beats"
    heads: ClassVar[tuple[str, ...]] = ("beat",)
    default_formats: ClassVar[tuple[str, ...]] = ("beats", "csv", "png")

    method: Literal["dbn", "dbn_online", "peaks", "autocorrelation", "comb"] = "dbn"
    min_bpm: float = pydantic.Field(55.0, gt=0)
    max_bpm: float = pydantic.Field(215.0, gt=0)
    transition_lambda: float = pydantic.Field(100.0, ge=0)
    observation_lambda: float = pydantic.Field(16.0, ge=2)
    beat_cost: float = pydantic.Field(1.0, ge=0)
    beats_per_bar: tuple[Annotated[int, pydantic.Field(ge=1, le=32)], ...] = (3, 4)
    meter_change: float = pydantic.Field(1e-3, ge=0, lt=1)
    audible: float = pydantic.Field(0.05, gt=0, le=1)
    threshold: float = pydantic.Field(0.5, gt=0, le=1)

    @pydantic.field_validator("max_bpm")
    @classmethod
    def _above_min_bpm(cls, max_bpm: float, info: pydantic.ValidationInfo) -> float:
        if max_bpm < info.data.get("min_bpm", 0.0):
            raise ValueError(f"must not be below min_bpm={info.data['min_bpm']:g}")
        return max_bpm

    @pydantic.field_validator("beats_per_bar")
    @classmethod
    def _each_once(cls, beats_per_bar: tuple[int, ...]) -> tuple[int, ...]:
        if not beats_per_bar or len(set(beats_per_bar)) < len(beats_per_bar):
            raise ValueError("must name lengths of bars, each once")
        return beats_per_bar

    def start(self, spec: ModelSpec) -> BeatDecoder:
        """Raises ConfigError where the model's frames are too far apart for `max_bpm`."""
        return BeatDecoder(windowing.recording_clock(spec), self, "downbeat" in spec.heads)

    def tracker(self, frame_rate: float, downbeats: bool) -> Tracker:
        """What finds the beats, at so many frames a second; and maybe downbeats, by a head of their own."""
        from musicnet_tf.decode.tracking import trackers  # brings numba, which a client need not know of

        if self.method == "peaks":
            return trackers.PeakTracker(frame_rate, self.threshold)
        bpm = {"min_bpm": self.min_bpm, "max_bpm": self.max_bpm}
        if self.method in ("autocorrelation", "comb"):
            return trackers.GreedyTracker(frame_rate, self.audible, **bpm, threshold=self.threshold, method=self.method)
        return trackers.ModelTracker(
            frame_rate,
            self.method == "dbn_online",
            self.audible,
            self.observation_lambda,
            **bpm,
            transition_lambda=self.transition_lambda,
            beat_cost=self.beat_cost,
            beats_per_bar=self.beats_per_bar if downbeats else (),
            meter_change=self.meter_change,
        )

    def live(self) -> BeatDecoding:
        """`dbn_online` for `dbn`, whose path is known many seconds later, or at the end."""
        return self.model_copy(update={"method": "dbn_online"}) if self.method == "dbn" else self

    def details(self, events: Beats) -> str:
        """Tempo and metre, as `rhythm.describe` tells them."""
        told = rhythm.describe(events)
        return f"; {told}" if told else ""

    @classmethod
    def formats(cls) -> Mapping[str, Format]:
        from musicnet_tf import beat_writers  # draws, too, which a decoder alone need not

        return beat_writers.FORMATS


def decode(heads: Mapping[str, np.ndarray], clock: FrameClock, params: BeatDecoding) -> Beats:
    """The beats of a whole recording's activations; see `BeatDecoder`.

    Args:
        heads: `beat` and maybe `downbeat` → activations `(frames, 1)`.
        clock: when each frame is.
        params: of the decoder.
    """
    decoder = BeatDecoder(clock, params, "downbeat" in heads)
    decoder.push(heads)
    return decoder.finish()


class BeatDecoder:
    """Turns activations into beats. However the frames are cut into pieces, the beats are the same.

    Head `beat` is needed. With a head `downbeat`, beats are numbered from each downbeat on; without, their places in
    the bar are unknown.

    Args:
        clock: when each frame is.
        params: of the decoder.
        downbeats: whether there is a head `downbeat`.
    """

    def __init__(self, clock: FrameClock, params: BeatDecoding, downbeats: bool = False) -> None:
        self._clock = clock
        self._names = ("beat", "downbeat") if downbeats else ("beat",)
        self._tracker = params.tracker(clock.frame_rate, downbeats)
        self._time: list[float] = []
        self._position: list[int] = []
        self._told = 0
        self._finished = False

    @property
    def look_ahead(self) -> float | None:
        """Seconds of activations that a row may have to wait for: see `Decoder.look_ahead`.

        A path of `dbn` is told when no other can win any more, for which there is no bound.
        """
        frames = self._tracker.look_ahead
        return None if frames is None else frames / self._clock.frame_rate

    def push(self, heads: Mapping[str, np.ndarray]) -> None:
        """Takes the next frames: head → activations `(frames, 1)`.

        Raises:
            ModelError: where a head is missing, shapes differ, or an activation is not a number.
        """
        columns = [_column(heads, name) for name in self._names]
        if len({len(column) for column in columns}) > 1:
            raise ModelError(
                f"heads {' and '.join(self._names)} have {' and '.join(str(len(c)) for c in columns)} frames"
            )
        self._take(self._tracker.push(columns[0], columns[1] if len(columns) > 1 else None))

    def live(self) -> list[dict[str, Any]]:
        """Beats that are sure, since the last call: `time` in seconds, and `position` in the bar where it is known."""
        new = slice(self._told, len(self._time))
        self._told = new.stop
        return [
            {"event": "beat", "time": time} | ({} if position == UNKNOWN else {"position": position})
            for time, position in zip(self._time[new], self._position[new], strict=True)
        ]

    def finish(self) -> Beats:
        """All beats up to the end."""
        if not self._finished:
            self._finished = True
            self._take(self._tracker.finish())
        return Beats(np.array(self._time), np.array(self._position, np.int64))

    def _take(self, beats: list[Tracked]) -> None:
        for beat in beats:
            time = max(0.0, float(self._clock.frame_to_time(beat.frame)))
            if not self._time or time > self._time[-1]:  # two beats of a path may take one peak
                self._time.append(time)
                self._position.append(beat.position)


def _column(heads: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    if name not in heads:
        raise ModelError(f"beats need a head {name!r}, the model gives {', '.join(heads) or 'none'}")
    values = np.asarray(heads[name], np.float32)
    if values.ndim != 2 or values.shape[1] != 1:
        raise ModelError(f"head {name!r} has shape {values.shape}, expected (frames, 1)")
    if not np.isfinite(values).all():
        raise ModelError(f"head {name!r} holds activations that are not numbers; the model is damaged")
    return values[:, 0].astype(np.float64)
