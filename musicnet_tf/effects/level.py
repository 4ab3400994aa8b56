"""Transforms of level: gain, dynamics, clipping, and sound that is added. They leave every note where it is.

Audio is float `(samples,)` and comes back as float32 of the same length. Decibels are of amplitude against full
scale 1, ratios of two sounds those of their mean power. Defaults are those of the Audio Degradation Toolbox (Mauch
and Ewert, ISMIR 2013), where it has the transform.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy import fft, signal

from musicnet_tf.errors import AudioError

Colour = Literal["white", "pink", "brown"]
_SLOPES = {"white": 0.0, "pink": 0.5, "brown": 1.0}  # amplitude falls as 1 / frequency to this power
_CONTROL_SECONDS = 0.001
_SILENCE = 1e-10


def amplitude(decibels: float | np.ndarray) -> np.ndarray:
    """The factor that decibels stand for: 20 dB are 10."""
    return np.power(10.0, np.asarray(decibels, np.float64) / 20.0)


def gain(audio: np.ndarray, decibels: float = 10.0) -> np.ndarray:
    """Louder by `decibels`; -x undoes x."""
    return _float32(audio * amplitude(decibels))


def normalise(audio: np.ndarray, peak_db: float = 0.0) -> np.ndarray:
    """At the level at which the largest sample is `peak_db`; silence stays silence."""
    peak = float(np.abs(audio).max(initial=0.0))
    return _float32(audio * (amplitude(peak_db) / peak)) if peak > _SILENCE else _float32(audio)


def invert(audio: np.ndarray) -> np.ndarray:
    """The other polarity; twice is nothing."""
    return _float32(-np.asarray(audio))


def clip(audio: np.ndarray, decibels: float | None = None, percent: float = 0.0) -> np.ndarray:
    """What lies beyond a limit is cut off.

    Args:
        audio: the sound.
        decibels: so far below the largest sample lies the limit; where it is None, `percent` decides.
        percent: of the samples that are cut off.
    """
    magnitude = np.abs(audio)
    if decibels is not None:
        limit = float(magnitude.max(initial=0.0)) / float(amplitude(decibels))
    else:
        limit = float(np.quantile(magnitude, 1.0 - percent / 100.0)) if len(magnitude) else 0.0
    return _float32(np.clip(audio, -limit, limit))


def compress(
    audio: np.ndarray,
    sample_rate: int,
    threshold_db: float = -20.0,
    ratio: float = 4.0,
    attack_ms: float = 5.0,
    release_ms: float = 50.0,
) -> np.ndarray:
    """Dynamic range compression: what is louder than a threshold by x dB comes out louder than it by x / ratio.

    The level is the peak of each millisecond; the reduction follows it as a first-order system does, with a time
    constant for more reduction and one for less. No gain is made up.
    """
    if ratio < 1:
        raise AudioError(f"a compressor's ratio of {ratio:g} is below 1; give 1 or more")
    step = max(1, round(_CONTROL_SECONDS * sample_rate))
    blocks = np.pad(np.abs(audio), (0, -len(audio) % step)).reshape(-1, step).max(axis=1)
    over = np.maximum(20.0 * np.log10(np.maximum(blocks, _SILENCE)) - threshold_db, 0.0)
    wanted = over * (1.0 - 1.0 / ratio)
    seconds = step / sample_rate
    rise, fall = (float(np.exp(-seconds / max(ms / 1000.0, 1e-6))) for ms in (attack_ms, release_ms))
    reduction, last = np.empty_like(wanted), 0.0
    for k, target in enumerate(wanted.tolist()):
        last = target + (rise if target > last else fall) * (last - target)
        reduction[k] = last
    centres = (np.arange(len(blocks)) + 0.5) * step
    return _float32(audio / amplitude(np.interp(np.arange(len(audio)), centres, reduction)))


def mix(audio: np.ndarray, other: np.ndarray, snr_db: float = 20.0) -> np.ndarray:
    """With another sound added, whose mean power is `snr_db` below this one's.

    The other is repeated or cut to length. Where either is silent, nothing is added.
    """
    other = np.resize(other, len(audio))
    power, other_power = (float(np.mean(np.square(x, dtype=np.float64))) if len(x) else 0.0 for x in (audio, other))
    if min(power, other_power) < _SILENCE**2:
        return _float32(audio)
    return _float32(audio + other * float(np.sqrt(power / other_power) / amplitude(snr_db)))


def noise(audio: np.ndarray, rng: np.random.Generator, snr_db: float = 20.0, colour: Colour = "pink") -> np.ndarray:
    """With noise added at a ratio to the music's mean power; silence stays silence."""
    return mix(audio, coloured_noise(len(audio), rng, colour), snr_db)


def coloured_noise(length: int, rng: np.random.Generator, colour: Colour = "pink") -> np.ndarray:
    """Gaussian noise `(length,)` whose power falls by 0 (white), 3 (pink) or 6 dB (brown) an octave."""
    white = rng.standard_normal(length, np.float32)
    if colour == "white" or length < 2:
        return white
    size = fft.next_fast_len(length, real=True)
    spectrum = fft.rfft(white, size)
    falling = np.arange(len(spectrum), dtype=np.float32)
    falling[0] = np.inf  # no constant
    return fft.irfft(spectrum / falling ** _SLOPES[colour], size)[:length]


def echo(audio: np.ndarray, sample_rate: int, milliseconds: float = 200.0, volume: float = 0.5) -> np.ndarray:
    """Averaged with itself `milliseconds` later at `volume` (the "delay" of torchaudio-augmentations)."""
    late = min(round(milliseconds / 1000.0 * sample_rate), len(audio))
    heard = np.concatenate([np.zeros(late), np.asarray(audio)[: len(audio) - late]])
    return _float32((np.asarray(audio) + volume * heard) / 2.0)


def impulse_response(audio: np.ndarray, response: np.ndarray) -> np.ndarray:
    """As heard through a system's impulse response, whose largest sample is taken for the direct sound.

    What comes before the direct sound in the response comes before the note as well, so that notes stay where they
    are.
    """
    direct = int(np.argmax(np.abs(response)))
    return _float32(signal.oaconvolve(audio, response)[direct : direct + len(audio)])


def room(
    sample_rate: int,
    rng: np.random.Generator,
    rt60: float = 0.5,
    direct_to_reverberant_db: float = 6.0,
    early_reflections: int = 8,
) -> np.ndarray:
    """The impulse response of a made-up room: direct sound, early reflections, and noise that decays.

    Args:
        sample_rate: of the response.
        rng: draws the reflections and the noise.
        rt60: seconds in which the reverberation falls by 60 dB; the response is as long.
        direct_to_reverberant_db: energy of the direct sound, which is 1 at sample 0, against all that follows.
        early_reflections: how many single ones, within 5 to 80 ms and on the same decay as the rest.
    """
    length = max(2, round(rt60 * sample_rate))
    time = np.arange(length) / sample_rate
    decay = amplitude(-60.0 * time / rt60)
    late = rng.standard_normal(length) * decay * np.minimum(1.0, time / 0.03)  # grows denser until about 30 ms
    places = np.unique(np.round(rng.uniform(0.005, 0.08, early_reflections) * sample_rate).astype(int))
    places = places[places < length]
    late[places] += rng.choice([-1.0, 1.0], len(places)) * rng.uniform(2.0, 5.0, len(places)) * decay[places]
    late[0] = 0.0
    energy = float(np.sum(late**2))
    response = late / np.sqrt(energy) / amplitude(direct_to_reverberant_db) if energy else late
    response[0] = 1.0
    return response


def reverberate(
    audio: np.ndarray,
    sample_rate: int,
    rng: np.random.Generator,
    rt60: float = 0.5,
    direct_to_reverberant_db: float = 6.0,
) -> np.ndarray:
    """As it sounds in a `room`, whose direct sound comes at once."""
    response = room(sample_rate, rng, rt60, direct_to_reverberant_db)
    return _float32(signal.oaconvolve(audio, response)[: len(audio)])


def _float32(audio: np.ndarray) -> np.ndarray:
    return np.asarray(audio, np.float32)
