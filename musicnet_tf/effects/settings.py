"""What a recording may have gone through before it is heard, drawn at random: settings and `apply`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
import pydantic

from musicnet_tf.effects import level, spectrum

_FIT = 0.45  # of the sample rate: no filter is put higher
Range = tuple[float, float]


def _ascending(value: Range) -> Range:
    if value[0] > value[1]:
        raise ValueError("a range is [low, high]")
    return value


Span = Annotated[Range, pydantic.AfterValidator(_ascending)]
"""Lowest and highest value of what is drawn evenly."""


class Chance(pydantic.BaseModel):
    """One effect: how often it is there. Its other fields are ranges that are drawn from.

    Attributes:
        probability: share of recordings that have it.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    probability: float = pydantic.Field(0.0, ge=0, le=1)


class Equaliser(Chance):
    """Some bands, each at a place drawn evenly in octaves."""

    bands: int = pydantic.Field(3, ge=1)
    frequency: Span = (60.0, 7000.0)
    gain_db: Span = (-6.0, 6.0)
    bandwidth: Span = (0.7, 2.5)


class Filter(Chance):
    """A low or high pass, whose place is drawn evenly in octaves."""

    frequency: Span


class Compressor(Chance):
    """Dynamic range compression against the recording's own peak."""

    threshold_db: Span = (-30.0, -12.0)
    ratio: Span = (1.5, 5.0)
    attack_ms: Span = (3.0, 20.0)
    release_ms: Span = (50.0, 300.0)


class Clipping(Chance):
    """Samples cut off at the top."""

    percent: Span = (0.0, 0.5)


class Room(Chance):
    """A generated room."""

    rt60: Span = (0.2, 1.5)
    direct_to_reverberant_db: Span = (-2.0, 12.0)


class Noise(Chance):
    """Noise of a colour drawn among those named."""

    snr_db: Span = (20.0, 50.0)
    colours: tuple[level.Colour, ...] = pydantic.Field(("white", "pink", "brown"), min_length=1)


class Coding(Chance):
    """A lossy codec drawn among those named."""

    kinds: tuple[spectrum.Codec, ...] = pydantic.Field(("mp3", "ogg"), min_length=1)
    kilobits: tuple[int, ...] = pydantic.Field((32, 48, 64, 96), min_length=1)


class Level(Chance):
    """Where the largest sample comes to lie."""

    peak_db: Span = (-20.0, -1.0)


class Effects(pydantic.BaseModel):
    """Effects in the order in which `apply` puts them on, which is that of a recording: the room with its
    instruments, the microphone, the desk, the file. None moves time or pitch. The default changes nothing.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    room: Room = Room()
    noise: Noise = Noise()
    equaliser: Equaliser = Equaliser()
    high_pass: Filter = Filter(frequency=(25.0, 150.0))
    low_pass: Filter = Filter(frequency=(3000.0, 8000.0))
    compressor: Compressor = Compressor()
    clipping: Clipping = Clipping()
    polarity: Chance = Chance()
    level: Level = Level()
    codec: Coding = Coding()


RECORDED = Effects(
    room=Room(probability=0.7),
    noise=Noise(probability=0.6),
    equaliser=Equaliser(probability=0.7),
    high_pass=Filter(probability=0.3, frequency=(25.0, 150.0)),
    low_pass=Filter(probability=0.2, frequency=(3000.0, 8000.0)),
    compressor=Compressor(probability=0.3),
    clipping=Clipping(probability=0.05),
    polarity=Chance(probability=0.5),
    level=Level(probability=1.0),
    codec=Coding(probability=0.3),
)
"""What recordings are like, by ear: most in some room, some noisy, some coded, none at one level."""


def apply(audio: np.ndarray, sample_rate: int, settings: Effects, rng: np.random.Generator) -> np.ndarray:
    """A sound with effects drawn for it: float32 `(samples,)` in [-1, 1], as long as before and in time.

    Each effect has a stream of random numbers of its own, so that switching one on or off leaves the others as they
    are. A range that the sample rate cannot hold is cut.
    """
    streams = dict(zip(Effects.model_fields, rng.spawn(len(Effects.model_fields)), strict=True))
    audio = np.asarray(audio, np.float32)
    for name, steps in _STEPS.items():
        chance, stream = getattr(settings, name), streams[name]
        if stream.random() < chance.probability:
            audio = steps(audio, sample_rate, chance, stream)
    return np.clip(audio, -1.0, 1.0)


def _room(audio: np.ndarray, rate: int, room: Room, rng: np.random.Generator) -> np.ndarray:
    rt60, ratio = rng.uniform(*room.rt60), rng.uniform(*room.direct_to_reverberant_db)
    return level.reverberate(audio, rate, rng, rt60, ratio)


def _noise(audio: np.ndarray, rate: int, noise: Noise, rng: np.random.Generator) -> np.ndarray:
    colour = noise.colours[rng.integers(len(noise.colours))]
    return level.noise(audio, rng, rng.uniform(*noise.snr_db), colour)


def _equaliser(audio: np.ndarray, rate: int, equaliser: Equaliser, rng: np.random.Generator) -> np.ndarray:
    for _ in range(equaliser.bands):
        frequency = _octaves(equaliser.frequency, rate, rng)
        audio = spectrum.equalise(
            audio, rate, frequency, rng.uniform(*equaliser.gain_db), rng.uniform(*equaliser.bandwidth)
        )
    return audio


def _compressor(audio: np.ndarray, rate: int, compressor: Compressor, rng: np.random.Generator) -> np.ndarray:
    drawn = [rng.uniform(*getattr(compressor, key)) for key in ("threshold_db", "ratio", "attack_ms", "release_ms")]
    peak_db = 20.0 * np.log10(max(float(np.abs(audio).max(initial=0.0)), 1e-9))
    return level.compress(audio, rate, peak_db + drawn[0], *drawn[1:])


def _codec(audio: np.ndarray, rate: int, coding: Coding, rng: np.random.Generator) -> np.ndarray:
    kind = coding.kinds[rng.integers(len(coding.kinds))]
    return spectrum.codec(audio, rate, kind, coding.kilobits[rng.integers(len(coding.kilobits))])


def _octaves(span: Range, rate: int, rng: np.random.Generator) -> float:
    low, high = (min(frequency, _FIT * rate) for frequency in span)
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


_STEPS: dict[str, Callable[[np.ndarray, int, Any, np.random.Generator], np.ndarray]] = {
    "room": _room,
    "noise": _noise,
    "equaliser": _equaliser,
    "high_pass": lambda audio, rate, chance, rng: spectrum.high_pass(
        audio, rate, _octaves(chance.frequency, rate, rng)
    ),
    "low_pass": lambda audio, rate, chance, rng: spectrum.low_pass(audio, rate, _octaves(chance.frequency, rate, rng)),
    "compressor": _compressor,
    "clipping": lambda audio, rate, chance, rng: level.clip(audio, percent=rng.uniform(*chance.percent)),
    "polarity": lambda audio, rate, chance, rng: level.invert(audio),
    "level": lambda audio, rate, chance, rng: level.normalise(audio, rng.uniform(*chance.peak_db)),
    "codec": _codec,
}
