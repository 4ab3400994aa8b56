"""Effects that move notes in time or pitch, as settings. What each does to the sound, `moved` says.

Ranges of ratios are drawn evenly in their logarithm, so that twice as fast is as likely as half as fast.
"""

from __future__ import annotations

import abc

import numpy as np
import pydantic

from musicnet_tf.effects import moved
from musicnet_tf.effects.kinds import Effect, PositiveSpan, Range, Span
from musicnet_tf.effects.moved import Moved


class Moving(Effect):
    """An effect after which notes may be elsewhere."""

    @abc.abstractmethod
    def play(self, audio: np.ndarray, rate: int, rng: np.random.Generator) -> Moved: ...

    def apply(self, audio: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
        return self.play(audio, rate, rng).audio

    @property
    def moves(self) -> bool:
        return True


class Delay(Moving):
    """Silence before the sound."""

    milliseconds: Span = (0.0, 100.0)

    @pydantic.field_validator("milliseconds")
    @classmethod
    def _later(cls, value: Range) -> Range:
        if value[0] < 0:
            raise ValueError("must not be below 0; trim takes the beginning away")
        return value

    def play(self, audio: np.ndarray, rate: int, rng: np.random.Generator) -> Moved:
        return moved.delay(audio, rate, round(rng.uniform(*self.milliseconds) / 1000.0 * rate))


class Trim(Moving):
    """Without so many milliseconds at the beginning and the end."""

    start_ms: Span = (0.0, 100.0)
    end_ms: Span = (0.0, 0.0)

    def play(self, audio: np.ndarray, rate: int, rng: np.random.Generator) -> Moved:
        return moved.trim(audio, rate, rng.uniform(*self.start_ms), rng.uniform(*self.end_ms))

    def reads(self, seconds: float) -> float:
        return seconds + (self.start_ms[1] + self.end_ms[1]) / 1000.0


class SpeedUp(Moving):
    """Faster and higher, or slower and lower, as a tape."""

    factor: PositiveSpan = (0.97, 1.03)

    def play(self, audio: np.ndarray, rate: int, rng: np.random.Generator) -> Moved:
        return moved.speed_up(audio, rate, _ratio(self.factor, rng))

    def reads(self, seconds: float) -> float:
        return seconds * max(self.factor[1], 1.0)


class PitchShift(Moving):
    """Higher or lower by a whole number of semitones, each as likely; labels then tell exactly what is heard."""

    semitones: tuple[int, int] = (-7, 7)

    @pydantic.field_validator("semitones")
    @classmethod
    def _ascending(cls, value: tuple[int, int]) -> tuple[int, int]:
        if value[0] > value[1]:
            raise ValueError("a range is [low, high]")
        return value

    def play(self, audio: np.ndarray, rate: int, rng: np.random.Generator) -> Moved:
        low, high = self.semitones
        return moved.pitch_shift(audio, rate, int(rng.integers(low, high + 1)))


class TimeStretch(Moving):
    """Faster or slower, and as high as before."""

    factor: PositiveSpan = (0.8, 1.25)

    def play(self, audio: np.ndarray, rate: int, rng: np.random.Generator) -> Moved:
        return moved.time_stretch(audio, rate, _ratio(self.factor, rng))

    def reads(self, seconds: float) -> float:
        return seconds * max(self.factor[1], 1.0)


class WowFlutter(Moving):
    """At a speed that swings, as a bad tape's does."""

    percent: Span = (0.0, 1.5)
    frequency: PositiveSpan = (0.5, 0.5)

    def play(self, audio: np.ndarray, rate: int, rng: np.random.Generator) -> Moved:
        return moved.wow_flutter(audio, rate, rng.uniform(*self.percent), rng.uniform(*self.frequency))

    def reads(self, seconds: float) -> float:
        return seconds + self.percent[1] / 100.0 / np.pi / self.frequency[0]


def _ratio(span: Range, rng: np.random.Generator) -> float:
    return float(np.exp(rng.uniform(*np.log(span))))
