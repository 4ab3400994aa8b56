"""Transforms that move time or pitch, and say by how much, so that labels can follow.

Each gives a `Moved`. Audio is float `(samples,)`, the result's float32. Defaults are those of the Audio Degradation
Toolbox (Mauch and Ewert, ISMIR 2013), where it has the transform.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import soxr

from musicnet_tf.errors import AudioError
from musicnet_tf.events import NUM_PITCHES, Beats, Notes, TagSpans


@dataclasses.dataclass(frozen=True)
class Moved:
    """A sound after a transform that moved it.

    Attributes:
        audio: float32 `(samples,)`.
        time: seconds in the sound before → seconds in this one, rising, for arrays.
        semitones: by which pitches are higher.
        seconds: the length of this one.
    """

    audio: np.ndarray
    time: Callable[[np.ndarray], np.ndarray]
    semitones: float
    seconds: float

    def follow(self, notes: Notes) -> Notes:
        """The notes as they sound here; those outside the sound or of MIDI's pitches are left out.

        A note keeps an onset before the beginning, unless silence was put there, and ends no later than the sound.
        Pitches move by the nearest whole number of semitones.
        """
        onset, offset = self.begins(notes.onset), np.minimum(self.time(notes.offset), self.seconds)
        pitch = notes.pitch + round(self.semitones)
        kept = (offset > np.maximum(onset, 0.0)) & (onset < self.seconds) & (pitch >= 0) & (pitch < NUM_PITCHES)
        moved = {"onset": onset[kept], "offset": offset[kept], "pitch": pitch[kept]}
        return dataclasses.replace(notes[kept], **moved)

    def follow_beats(self, beats: Beats) -> Beats:
        """The beats as they fall here; those outside the sound are left out."""
        time = self.time(beats.time)
        kept = (time >= 0.0) & (time < self.seconds)
        return Beats(time[kept], beats.position[kept])

    def follow_tags(self, spans: TagSpans) -> TagSpans:
        """The stretches that bear a tag here; those outside the sound are left out. A stretch to infinity stays one."""
        start, stop = self.begins(spans.start), spans.stop.copy()
        told = np.isfinite(stop)
        stop[told] = np.minimum(self.time(stop[told]), self.seconds)
        kept = (stop > np.maximum(start, 0.0)) & (start < self.seconds)
        return TagSpans(start[kept], stop[kept], spans.tag[kept])

    def begins(self, start: np.ndarray) -> np.ndarray:
        """Where what begins at `start` is heard from: no earlier than the sound, if that begins late."""
        first = self.time(np.zeros(()))
        return np.where((start < 0) & (first > 0), first, self.time(start))

    def then(self, later: Moved) -> Moved:
        """This transform and, after it, another one, whose sound it is."""
        return Moved(
            later.audio,
            lambda seconds: later.time(self.time(seconds)),
            self.semitones + later.semitones,
            later.seconds,
        )


def unmoved(audio: np.ndarray, sample_rate: int) -> Moved:
    """A sound in which everything is where it was."""
    return _moved(audio, sample_rate, lambda seconds: seconds)


def delay(audio: np.ndarray, sample_rate: int, num_samples: int) -> Moved:
    """With silence before it, or, where `num_samples` is negative, without its beginning.

    What was before the sound is before the silence.
    """
    audio, by = np.asarray(audio, np.float32), num_samples / sample_rate
    if num_samples < 0:
        return _moved(audio[-num_samples:], sample_rate, lambda seconds: seconds + by)
    return _moved(
        np.pad(audio, (num_samples, 0)), sample_rate, lambda seconds: seconds + np.where(seconds < 0, 0.0, by)
    )


def trim(audio: np.ndarray, sample_rate: int, start_ms: float = 100.0, end_ms: float = 0.0) -> Moved:
    """Without so many milliseconds at its beginning and its end."""
    first, last = (round(ms / 1000.0 * sample_rate) for ms in (start_ms, end_ms))
    kept = np.asarray(audio, np.float32)[: max(0, len(audio) - last)]
    return delay(kept, sample_rate, -min(first, len(kept)))


def random_resized_crop(audio: np.ndarray, sample_rate: int, num_samples: int, rng: np.random.Generator) -> Moved:
    """A stretch of `num_samples` that begins at an evenly drawn place.

    Raises:
        AudioError: where there are not so many.
    """
    if not 0 < num_samples <= len(audio):
        raise AudioError(f"a crop of {num_samples} samples is not to be had from {len(audio)}")
    start = int(rng.integers(len(audio) - num_samples + 1))
    return delay(np.asarray(audio)[: start + num_samples], sample_rate, -start)


def speed_up(audio: np.ndarray, sample_rate: int, factor: float = 1.03) -> Moved:
    """Played faster by `factor`, and higher with it, as a tape is."""
    faster = soxr.resample(np.asarray(audio, np.float32), sample_rate * factor, sample_rate)
    return _moved(faster, sample_rate, lambda seconds: seconds / factor, float(12.0 * np.log2(factor)))


def pitch_shift(audio: np.ndarray, sample_rate: int, semitones: float = 12.0) -> Moved:
    """Higher by `semitones`, as long as before (librosa's phase vocoder).

    Within seven semitones either way, attacks are heard within 16 ms of their place.
    """
    import librosa  # brings numba

    size = _vocoder_size(sample_rate)
    higher = librosa.effects.pitch_shift(np.asarray(audio, np.float32), sr=sample_rate, n_steps=semitones, n_fft=size)
    return _moved(higher, sample_rate, lambda seconds: seconds, semitones)


def time_stretch(audio: np.ndarray, sample_rate: int, factor: float = 1.1) -> Moved:
    """Faster by `factor`, as high as before (librosa's phase vocoder).

    Within a quarter either way, attacks are heard within 8 ms of their place.
    """
    import librosa  # brings numba

    size = _vocoder_size(sample_rate)
    faster = librosa.effects.time_stretch(np.asarray(audio, np.float32), rate=factor, n_fft=size)
    return _moved(faster, sample_rate, lambda seconds: seconds / factor)


def _vocoder_size(sample_rate: int) -> int:
    """The power of two nearest to 40 ms.

    A phase vocoder spreads attacks over its window: with librosa's 2048 samples, at 16 kHz, they come up to 60 ms late.
    """
    return 2 ** round(math.log2(0.04 * sample_rate))


def wow_flutter(audio: np.ndarray, sample_rate: int, percent: float = 1.5, frequency: float = 0.5) -> Moved:
    """Played at a speed that swings by `percent` either way, `frequency` times a second, as a bad tape's does.

    Nothing is further from its place than `percent / 100 / pi / frequency` seconds, 10 ms by default.
    """
    length = len(audio)
    time = np.arange(length) / sample_rate
    swing = percent / 100.0 / (2.0 * np.pi * frequency)
    read = time + swing * (1.0 - np.cos(2.0 * np.pi * frequency * time))
    # Linear interpolation takes what is high, so it is done on five times as many samples, as the toolbox does.
    fine = soxr.resample(np.asarray(audio, np.float32), sample_rate, 5 * sample_rate)
    swung = np.interp(read, np.arange(len(fine)) / (5 * sample_rate), fine)

    def heard(seconds: np.ndarray) -> np.ndarray:
        """Outside the sound, time goes on as it did."""
        beyond = np.minimum(seconds, 0.0) + np.maximum(seconds - read[-1], 0.0)
        return np.interp(seconds, read, time) + beyond

    return _moved(swung, sample_rate, heard)


def _moved(
    audio: np.ndarray, sample_rate: int, time: Callable[[np.ndarray], np.ndarray], semitones: float = 0.0
) -> Moved:
    return Moved(np.asarray(audio, np.float32), time, semitones, len(audio) / sample_rate)
