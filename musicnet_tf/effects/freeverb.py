"""Freeverb (Jezar at Dreampoint, public domain, 2000) with the parameters that SoX's `reverb` gives it."""

from __future__ import annotations

import numpy as np
from scipy import signal

_COMBS = (1116, 1188, 1277, 1356, 1422, 1491, 1557, 1617)  # samples at 44.1 kHz
_ALL_PASSES = (225, 341, 441, 556)
_RATE = 44100
_WET = 0.015
_FEEDBACK = (0.3, 0.98)  # at 0 and 100 percent


def freeverb(
    audio: np.ndarray,
    sample_rate: int,
    reverberance: float = 50.0,
    damping: float = 50.0,
    room_size: float = 100.0,
) -> np.ndarray:
    """A sound and its reverberation: float32 `(samples,)`.

    Args:
        audio: float `(samples,)`.
        sample_rate: of it.
        reverberance: percent, how long it lasts.
        damping: percent, how much sooner what is high dies away.
        room_size: percent, how far reflections are apart.
    """
    length = min(len(audio), _audible(sample_rate, reverberance, room_size))
    response = reverberation(sample_rate, length, reverberance, damping, room_size)
    if not response.any():
        return np.asarray(audio, np.float32)
    return np.asarray(audio + signal.oaconvolve(audio, response)[: len(audio)], np.float32)


def reverberation(
    sample_rate: int, length: int, reverberance: float = 50.0, damping: float = 50.0, room_size: float = 100.0
) -> np.ndarray:
    """The impulse response `(length,)` without the direct sound: eight combs side by side, then four all-passes."""
    scale = sample_rate / _RATE
    room = room_size / 100.0 * 0.9 + 0.1
    damped = damping / 100.0 * 0.3 + 0.2
    feedback = _feedback(reverberance)
    wet = np.zeros(length)
    for delay in _COMBS:
        wet += _comb(int(room * scale * delay + 0.5), length, feedback, damped)
    for delay in _ALL_PASSES:
        wet = _all_pass(wet, int(scale * delay + 0.5))
    return _WET * wet


def _feedback(reverberance: float) -> float:
    """From the least at 0 to the most at 100 percent, so that the time of decay grows evenly."""
    least, most = (float(np.log(1.0 - f)) for f in _FEEDBACK)
    return 1.0 - float(np.exp(least + (most - least) * reverberance / 100.0))


def _audible(sample_rate: int, reverberance: float, room_size: float) -> int:
    """Samples after which the longest comb is 80 dB below where it began."""
    rounds = np.log(1e-4) / np.log(_feedback(reverberance))
    return int((rounds + 2) * (room_size / 100.0 * 0.9 + 0.1) * sample_rate / _RATE * max(_COMBS))


def _comb(delay: int, length: int, feedback: float, damped: float) -> np.ndarray:
    """Response of a comb whose feedback goes through a low pass of first order, a round of the delay at a time."""
    delay = max(1, delay)
    rounds = np.zeros((-(-length // delay) + 1, delay))
    rounds[1, 0] = 1.0
    state = np.zeros(1)
    for k in range(1, len(rounds) - 1):
        back, state = signal.lfilter([1.0 - damped], [1.0, -damped], rounds[k], zi=state)
        rounds[k + 1] += feedback * back
    return rounds.ravel()[:length]


def _all_pass(sound: np.ndarray, delay: int) -> np.ndarray:
    """(-1 + 1.5 z^-delay) / (1 - 0.5 z^-delay): `delay` filters of first order, each over every so-many-th sample."""
    delay = max(1, delay)
    columns = np.pad(sound, (0, -len(sound) % delay)).reshape(-1, delay)
    return signal.lfilter([-1.0, 1.5], [1.0, -0.5], columns, axis=0).ravel()[: len(sound)]
