"""Where do notes of each pitch begin in a sound? Evidence to judge labels by, which shares nothing with the warp.

A constant-Q spectrum every 8 ms, its rises over 48 ms, and two readings of these rises that fail in different
ways: how much of each pitch's harmonic template explains them (non-negative factorisation, so that a chord's notes
share them out), and how far the pitch's first four harmonics rise by themselves. Their geometric mean, relative to
the pitch's own average, peaks where a note begins. No warp, no score and no trained model has a part in it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from musicnet_tf import audio as sounds
from musicnet_tf.errors import AudioError
from musicnet_tf.timebase import FrameClock

CLOCK = FrameClock(16000, 128)
LOWEST, HIGHEST = 21, 108
"""MIDI numbers of a piano's keys, the only pitches that are looked for."""

_BINS_PER_SEMITONE = 3
_MAX_HERTZ = 7000.0
_WINDOW = 2048  # of the lowest bins; higher ones take as many periods as tell semitones apart
_MIN_WINDOW = 256
_QUALITY = 34.0
_RISE_FRAMES = 3
_TEMPLATE_HARMONICS, _TEMPLATE_DECAY = 10, 0.75
_SUMMED_HARMONICS, _SUM_DECAY = 4, 0.8
_ITERATIONS = 30
_BLOCK_FRAMES = 4096
_LEAST_STRENGTH = 0.05  # of a pitch's average: less is no peak
_SILENCE = 1e-5
_SIDE_LOBE = 10 ** (-30 / 20)  # of a Hann window, about: less may be but the side lobe of another tone


class Peaks(NamedTuple):
    """Places where notes may begin, by pitch and then by time.

    Attributes:
        time: seconds, float64 `(n,)`.
        pitch: MIDI numbers, int64 `(n,)`.
        strength: relative to the average of the pitch in this sound, float32 `(n,)`.
    """

    time: np.ndarray
    pitch: np.ndarray
    strength: np.ndarray

    def of(self, pitch: int) -> Peaks:
        """Those of one pitch."""
        first, after = np.searchsorted(self.pitch, [pitch, pitch + 1])
        return Peaks(*(column[first:after] for column in self))


def onset_peaks(audio: np.ndarray, sample_rate: int) -> Peaks:
    """Every place at which some note may begin.

    Args:
        audio: mono `(n,)`.
        sample_rate: Hz.

    Raises:
        AudioError: for silence, or what `audio.resample` refuses.
    """
    if sample_rate != CLOCK.sample_rate:
        audio = sounds.resample(np.asarray(audio), sample_rate, CLOCK.sample_rate)
    strength = _strength(np.asarray(audio, np.float32))
    before, here, after = strength[:-2], strength[1:-1], strength[2:]
    pitch, frame = np.nonzero(((here >= before) & (here > after) & (here > _LEAST_STRENGTH)).T)
    before, here, after = before[frame, pitch], here[frame, pitch], after[frame, pitch]
    vertex = 0.5 * (before - after) / np.minimum(before - 2 * here + after, -1e-9)  # of the parabola through the three
    time = CLOCK.frame_to_time(frame + 1 + np.clip(vertex, -0.5, 0.5))
    return Peaks(time, pitch + LOWEST, here)


def has_fundamental(
    audio: np.ndarray, sample_rate: int, onset: np.ndarray, pitch: np.ndarray, seconds: float = 0.1
) -> np.ndarray:
    """Whether the spectrum of the 0.1 s from each onset (in seconds) on peaks at the fundamental, bool `(n,)`.

    A peak is a maximum within half a semitone (or within the half width of the window's main lobe, which is more
    for low notes) that stands 6 dB above the median of the octave around it and no more than 30 dB below the
    strongest. What is not wholly in the sound has none.
    """
    length = round(seconds * sample_rate)
    window = np.hanning(length + 2)[1:-1]
    size = 8 * (1 << (length - 1).bit_length())
    hertz = np.fft.rfftfreq(size, 1 / sample_rate)
    found = np.zeros(len(onset), bool)
    for index, (time, note) in enumerate(zip(onset.tolist(), pitch.tolist(), strict=True)):
        start = round(time * sample_rate)
        if 0 <= start <= len(audio) - length:
            magnitude = np.abs(np.fft.rfft(audio[start : start + length] * window, size))
            found[index] = _peaks_at(magnitude, hertz, 440.0 * 2.0 ** ((note - 69) / 12), 2.0 / seconds)
    return found


def _peaks_at(magnitude: np.ndarray, hertz: np.ndarray, fundamental: float, half_lobe: float) -> bool:
    half = max(fundamental * (2 ** (1 / 24) - 1), 0.5 * half_lobe)
    first, after = np.searchsorted(hertz, [fundamental - half, fundamental + half])
    low, high = np.searchsorted(hertz, [fundamental / 2**0.5, fundamental * 2**0.5])
    if first < 1 or after >= len(hertz) or after <= first:
        return False
    top = first + int(np.argmax(magnitude[first:after]))
    is_maximum = magnitude[top] >= max(magnitude[top - 1], magnitude[top + 1])
    floor = max(2 * np.median(magnitude[low:high]), _SIDE_LOBE * magnitude.max())
    return bool(is_maximum and magnitude[top] > floor)


def _strength(audio: np.ndarray) -> np.ndarray:
    """How much speaks for a note of each pitch at each frame, float32 `(frames, 88)`."""
    frames = _frames(audio)
    loudest = np.abs(_spectrum(frames[::8])).max(axis=1)
    reference = float(np.quantile(loudest, 0.95))
    if reference < _SILENCE:
        raise AudioError("the recording is silent, so that no label can be checked against it")
    explained, risen = zip(*_readings(frames, reference), strict=True)
    product = _relative(np.concatenate(explained)) * _relative(np.concatenate(risen))
    return np.sqrt(product, out=product)


def _readings(frames: np.ndarray, reference: float) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Both readings of the rises, block by block, so that memory does not grow with 288 bins a frame."""
    for start in range(0, len(frames), _BLOCK_FRAMES):
        stop = min(start + _BLOCK_FRAMES, len(frames))
        around = np.clip(np.arange(start - _RISE_FRAMES, stop + _RISE_FRAMES), 0, len(frames) - 1)
        spectrum = _spectrum(frames[around]) / reference
        yield _shared_out(_rise(np.sqrt(spectrum))), _summed(_rise(np.log1p(100 * spectrum)))


def _frames(audio: np.ndarray) -> np.ndarray:
    """A view of `(frames, window)` centred on the clock's frames."""
    padded = np.pad(audio, (_WINDOW // 2, _WINDOW // 2))
    return np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[: len(audio) : CLOCK.hop_length]


def _spectrum(frames: np.ndarray) -> np.ndarray:
    """Amplitudes of the constant-Q bins, float32 `(frames, bins)` (Brown and Puckette's method)."""
    kernel = _kernel()
    blocks = np.array_split(frames, range(1024, len(frames), 1024))
    return np.concatenate([np.abs(np.fft.rfft(block, axis=1).astype(np.complex64) @ kernel) for block in blocks])


def _rise(values: np.ndarray) -> np.ndarray:
    return np.maximum(values[2 * _RISE_FRAMES :] - values[: -2 * _RISE_FRAMES], 0)


def _shared_out(rise: np.ndarray) -> np.ndarray:
    """Weights of the templates whose sum is nearest in Kullback–Leibler divergence (Lee and Seung's updates)."""
    templates = _templates()
    weights = np.full((len(rise), len(templates)), 0.01, np.float32)
    for _ in range(_ITERATIONS):
        weights *= (rise / (weights @ templates + 1e-6)) @ templates.T  # the templates sum to 1
    return weights


def _summed(rise: np.ndarray) -> np.ndarray:
    """Sum over the first harmonics of each pitch."""
    total = np.zeros((len(rise), HIGHEST - LOWEST + 1), np.float32)
    for harmonic in range(1, _SUMMED_HARMONICS + 1):
        first = round(12 * _BINS_PER_SEMITONE * np.log2(harmonic))
        at_harmonic = rise[:, first::_BINS_PER_SEMITONE][:, : total.shape[1]]
        total[:, : at_harmonic.shape[1]] += _SUM_DECAY ** (harmonic - 1) * at_harmonic
    return total


def _relative(values: np.ndarray) -> np.ndarray:
    """To the mean of the pitch; pitches that hardly occur, to a share of the mean of all."""
    return values / (values.mean(axis=0) + 0.3 * values.mean() + 1e-9)


@functools.cache
def _bin_hertz() -> np.ndarray:
    lowest = 440.0 * 2.0 ** ((LOWEST - 69) / 12)
    count = int(12 * _BINS_PER_SEMITONE * np.log2(_MAX_HERTZ / lowest)) + 1
    return lowest * 2.0 ** (np.arange(count) / (12 * _BINS_PER_SEMITONE))


@functools.cache
def _kernel() -> np.ndarray:
    """Fourier transforms of the windowed waves, complex64 `(window // 2 + 1, bins)`."""
    kernel = np.zeros((_WINDOW // 2 + 1, len(_bin_hertz())), np.complex64)
    for index, hertz in enumerate(_bin_hertz()):
        length = int(np.clip(_QUALITY * CLOCK.sample_rate / hertz, _MIN_WINDOW, _WINDOW))
        window = np.hanning(length + 2)[1:-1]
        start = (_WINDOW - length) // 2
        wave = np.zeros(_WINDOW, np.complex128)
        wave[start : start + length] = window * np.exp(2j * np.pi * hertz / CLOCK.sample_rate * np.arange(length))
        kernel[:, index] = np.conj(np.fft.fft(wave)[: _WINDOW // 2 + 1]) * 2 / (_WINDOW * window.sum())
    return kernel


@functools.cache
def _templates() -> np.ndarray:
    """What a note of each pitch looks like to `_spectrum`, square root of amplitudes, float32 `(88, bins)`."""
    time = np.arange(2 * _WINDOW) / CLOCK.sample_rate
    templates = np.zeros((HIGHEST - LOWEST + 1, len(_bin_hertz())), np.float32)
    for index in range(len(templates)):
        fundamental = 440.0 * 2.0 ** ((index + LOWEST - 69) / 12)
        for harmonic in range(1, _TEMPLATE_HARMONICS + 1):
            if harmonic * fundamental > _MAX_HERTZ:
                break
            wave = np.sin(2 * np.pi * harmonic * fundamental * time).astype(np.float32)
            amplitude = _spectrum(wave[np.newaxis, _WINDOW // 2 : -_WINDOW // 2])[0]
            templates[index] += np.sqrt(amplitude) * _TEMPLATE_DECAY ** (harmonic - 1)
    return templates / templates.sum(axis=1, keepdims=True)
