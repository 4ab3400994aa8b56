"""Effects that leave every note where it is, as settings: how often each happens, and ranges that it is drawn from.

`moving` has those that move notes. What each does to the sound, `level`, `spectrum` and `freeverb` say.
"""

from __future__ import annotations

import abc
import functools
from pathlib import Path
from typing import Annotated

import numpy as np
import pydantic

from musicnet_tf import audio as audio_files
from musicnet_tf.effects import level, spectrum
from musicnet_tf.effects.freeverb import freeverb
from musicnet_tf.effects.moved import Moved, unmoved

_FIT = 0.45  # of the sample rate: no filter is put higher
Range = tuple[float, float]


def _ascending(value: Range) -> Range:
    if value[0] > value[1]:
        raise ValueError("a range is [low, high]")
    return value


def _positive(value: Range) -> Range:
    if value[0] <= 0:
        raise ValueError("must be above 0")
    return value


Span = Annotated[Range, pydantic.AfterValidator(_ascending)]
"""Lowest and highest value of what is drawn evenly."""

PositiveSpan = Annotated[Span, pydantic.AfterValidator(_positive)]
"""Lowest and highest value of what has to be above 0."""


class Effect(pydantic.BaseModel, abc.ABC):
    """One effect: how often it is there. Its other fields are ranges that are drawn from.

    Attributes:
        probability: share of sounds that have it.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    probability: float = pydantic.Field(0.0, ge=0, le=1)

    @abc.abstractmethod
    def apply(self, audio: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
        """The sound with this effect, drawn by `rng`: float32 `(samples,)`. Its probability does not count here."""

    def play(self, audio: np.ndarray, rate: int, rng: np.random.Generator) -> Moved:
        """The same, with where everything went: here, nowhere."""
        return unmoved(self.apply(audio, rate, rng), rate)

    @property
    def moves(self) -> bool:
        """Whether notes may be elsewhere afterwards, in time or in pitch."""
        return False

    def reads(self, seconds: float) -> float:
        """Seconds of sound that it takes at most to give so many."""
        return seconds


class Room(Effect):
    """A generated room."""

    rt60: Span = (0.2, 1.5)
    direct_to_reverberant_db: Span = (-2.0, 12.0)

    def apply(self, audio: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
        rt60, ratio = rng.uniform(*self.rt60), rng.uniform(*self.direct_to_reverberant_db)
        return level.reverberate(audio, rate, rng, rt60, ratio)


class Reverb(Effect):
    """Freeverb, as SoX has it; each in percent."""

    reverberance: Span = (0.0, 100.0)
    damping: Span = (0.0, 100.0)
    room_size: Span = (0.0, 100.0)

    def apply(self, audio: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
        drawn = [rng.uniform(*span) for span in (self.reverberance, self.damping, self.room_size)]
        return freeverb(audio, rate, *drawn)


class ImpulseResponse(Effect):
    """As heard through a system whose impulse response is drawn among recorded ones."""

    files: tuple[Path, ...] = pydantic.Field(min_length=1)

    def apply(self, audio: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
        return level.impulse_response(audio, _sound(self.files[rng.integers(len(self.files))], rate))


class Noise(Effect):
    """Noise of a colour drawn among those named."""

    snr_db: Span = (20.0, 50.0)
    colours: tuple[level.Colour, ...] = pydantic.Field(("white", "pink", "brown"), min_length=1)

    def apply(self, audio: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
        colour = self.colours[rng.integers(len(self.colours))]
        return level.noise(audio, rng, rng.uniform(*self.snr_db), colour)


class WhiteNoise(Effect):
    """White noise whose amplitude is a share of the music's: 0.1 lies 20 dB below it."""

    share: PositiveSpan = (1e-4, 0.01)

    def apply(self, audio: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
        return level.noise(audio, rng, -20.0 * float(np.log10(rng.uniform(*self.share))), "white")


class Mix(Effect):
    """Another sound, drawn among files, from a place in it that is drawn evenly."""

    files: tuple[Path, ...] = pydantic.Field(min_length=1)
    snr_db: Span = (20.0, 20.0)

    def apply(self, audio: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
        other = _sound(self.files[rng.integers(len(self.files))], rate)
        start = int(rng.integers(max(len(other) - len(audio), 0) + 1))
        return level.mix(audio, other[start : start + len(audio)], rng.uniform(*self.snr_db))


class Equaliser(Effect):
    """Some bands, each at a place drawn evenly in octaves."""

    bands: int = pydantic.Field(3, ge=1)
    frequency: PositiveSpan = (60.0, 7000.0)
    gain_db: Span = (-6.0, 6.0)
    bandwidth: PositiveSpan = (0.7, 2.5)

    def apply(self, audio: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
        for _ in range(self.bands):
            frequency = _octaves(self.frequency, rate, rng)
            audio = spectrum.equalise(audio, rate, frequency, rng.uniform(*self.gain_db), rng.uniform(*self.bandwidth))
        return audio


class HighPass(Effect):
    """A high pass, whose place is drawn evenly in octaves."""

    frequency: PositiveSpan = (25.0, 150.0)

    def apply(self, audio: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
        return spectrum.high_pass(audio, rate, _octaves(self.frequency, rate, rng))


class LowPass(Effect):
    """A low pass, whose place is drawn evenly in octaves."""

    frequency: PositiveSpan = (3000.0, 8000.0)

    def apply(self, audio: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
        return spectrum.low_pass(audio, rate, _octaves(self.frequency, rate, rng))


class HighLowPass(Effect):
    """A high pass or a low pass, each as likely, whose place is drawn evenly in hertz."""

    high_pass: PositiveSpan = (200.0, 1200.0)
    low_pass: PositiveSpan = (2200.0, 4000.0)

    def apply(self, audio: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
        high = rng.random() < 0.5
        low_end, high_end = (min(f, _FIT * rate) for f in (self.high_pass if high else self.low_pass))
        return (spectrum.high_pass if high else spectrum.low_pass)(audio, rate, rng.uniform(low_end, high_end))


class Compressor(Effect):
    """Dynamic range compression against the sound's own peak."""

    threshold_db: Span = (-30.0, -12.0)
    ratio: Span = (1.5, 5.0)
    attack_ms: Span = (3.0, 20.0)
    release_ms: Span = (50.0, 300.0)

    def apply(self, audio: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
        drawn = [rng.uniform(*getattr(self, key)) for key in ("threshold_db", "ratio", "attack_ms", "release_ms")]
        peak_db = 20.0 * np.log10(max(float(np.abs(audio).max(initial=0.0)), 1e-9))
        return level.compress(audio, rate, peak_db + drawn[0], *drawn[1:])


class Clipping(Effect):
    """Samples cut off at the top."""

    percent: Span = (0.0, 0.5)

    def apply(self, audio: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
        return level.clip(audio, percent=rng.uniform(*self.percent))


class Polarity(Effect):
    """The other polarity."""

    def apply(self, audio: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
        return level.invert(audio)


class Gain(Effect):
    """Louder or softer."""

    gain_db: Span = (-20.0, -1.0)

    def apply(self, audio: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
        return level.gain(audio, rng.uniform(*self.gain_db))


class Level(Effect):
    """Where the largest sample comes to lie."""

    peak_db: Span = (-20.0, -1.0)

    def apply(self, audio: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
        return level.normalise(audio, rng.uniform(*self.peak_db))


class Echo(Effect):
    """The sound averaged with itself, later by one of the times named."""

    milliseconds: tuple[float, ...] = pydantic.Field((200.0, 250.0, 300.0, 350.0, 400.0, 450.0, 500.0), min_length=1)
    volume: Span = (0.5, 0.5)

    def apply(self, audio: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
        late = self.milliseconds[rng.integers(len(self.milliseconds))]
        return level.echo(audio, rate, late, rng.uniform(*self.volume))


class Resampling(Effect):
    """Through a lower sample rate and back, drawn evenly in octaves."""

    lower_rate: PositiveSpan = (4000.0, 16000.0)

    def apply(self, audio: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
        return spectrum.resample(audio, rate, round(_octaves(self.lower_rate, rate, rng)))


class Aliasing(Effect):
    """Through a lower sample rate without the filter before it, drawn evenly in octaves."""

    lower_rate: PositiveSpan = (8000.0, 8000.0)

    def apply(self, audio: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
        return spectrum.alias(audio, rate, round(_octaves(self.lower_rate, rate, rng)))


class Coding(Effect):
    """A lossy codec drawn among those named."""

    kinds: tuple[spectrum.Codec, ...] = pydantic.Field(("mp3", "ogg"), min_length=1)
    kilobits: tuple[int, ...] = pydantic.Field((32, 48, 64, 96), min_length=1)

    def apply(self, audio: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
        kind = self.kinds[rng.integers(len(self.kinds))]
        return spectrum.codec(audio, rate, kind, self.kilobits[rng.integers(len(self.kilobits))])


def _octaves(span: Range, rate: int, rng: np.random.Generator) -> float:
    low, high = (min(frequency, _FIT * rate) for frequency in span)
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


@functools.lru_cache(maxsize=64)
def _sound(path: Path, rate: int) -> np.ndarray:
    return audio_files.load(path, rate)
