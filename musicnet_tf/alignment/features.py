"""Sound → frames that a recording and a synthesised score are compared by."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import librosa
import numpy as np
import scipy.ndimage

from musicnet_tf import audio as sound
from musicnet_tf.alignment import hearing
from musicnet_tf.alignment.hearing import Heard
from musicnet_tf.alignment.settings import Features
from musicnet_tf.timebase import FrameClock

if TYPE_CHECKING:
    from musicnet_tf.inference import Predictor

LOWEST, PITCHES = 21, 88

_COMPRESSION = 1e4
"""Of energy against the loudest moments: log(1 + c x) keeps what is up to 40 dB below them."""
_FLOOR = 0.02
"""In every band, of a usual frame's norm: silence is then equal in all bands, like other silence."""
_LOG_FLOOR = 0.1
"""Of the root mean square: what is 20 dB below it counts little. 0.01 and 1 serve less on development pieces."""
_FADE_SECONDS = 0.1
_LOCAL_SECONDS = 1.0
_QUIET = 0.1
_OCTAVE = 13
_BLOCK_FRAMES = 4096
_HEARD_ONSETS = 2.0
"""Of a model's onset probabilities against the rises of the spectrum; 1 to 3 are alike on development pieces."""


class Frames(NamedTuple):
    """Features of one sound on a clock.

    Attributes:
        tonal: what sounds, float32 `(n, d)`.
        onsets: what begins, float32 `(n, e)`; `e` is 0 where the features have no such part.
        clock: when each frame is.
        heard: what a transcription model hears, where it has a part in the features.
    """

    tonal: np.ndarray
    onsets: np.ndarray
    clock: FrameClock
    heard: Heard | None = None

    def __len__(self) -> int:
        return len(self.tonal)


def extract(audio: np.ndarray, sample_rate: int, features: Features) -> Frames:
    """Frames of float32 mono audio `(n,)`, frame 0 centred on sample 0.

    Raises:
        ModelError: where the model of a posteriorgram cannot be loaded.
    """
    if features.kind == "posteriorgram":
        return _posteriorgram(audio, sample_rate, features)
    resampled = sound.resample(audio, sample_rate, features.sample_rate, "the recording")
    tonal, onsets = _KINDS[features.kind](resampled, features)
    clock, heard = FrameClock(features.sample_rate, features.hop_length), None
    if features.kind == "pitch_onset_posteriorgram":
        posteriorgram = _posteriorgram(audio, sample_rate, features)
        tonal, onsets = _beside(posteriorgram, tonal, onsets, clock.times(len(tonal)))
        heard = posteriorgram.heard
    return Frames(np.ascontiguousarray(tonal, np.float32), np.ascontiguousarray(onsets, np.float32), clock, heard)


def clock(features: Features) -> FrameClock:
    """When frames are that `extract` gives."""
    if features.kind != "posteriorgram":
        return FrameClock(features.sample_rate, features.hop_length)
    from musicnet_tf import windowing

    return windowing.recording_clock(_predictor(features.model).manifest.geometry)


def semitones(magnitudes: np.ndarray, sample_rate: int) -> np.ndarray:
    """Energy in 88 bands of a semitone, A0 to C8: `(frames, bins)` → `(frames, 88)`.

    Bands are triangles, a semitone or a bin to either side, whichever is wider.
    """
    frequencies = np.linspace(0, sample_rate / 2, magnitudes.shape[1])
    centres = librosa.midi_to_hz(LOWEST + np.arange(PITCHES))
    width = np.maximum(centres * (2 ** (1 / 12) - 1), frequencies[1])
    weights = np.maximum(0.0, 1.0 - np.abs(frequencies[:, np.newaxis] - centres) / width)
    return magnitudes**2 @ weights.astype(np.float32)


def unit(values: np.ndarray, usual: float | None = None) -> np.ndarray:
    """Rows of unit length, silent ones equal in all columns.

    Args:
        values: not negative, `(n, d)`.
        usual: length of a usual row, to tell silence by; None takes their median.
    """
    norms = np.linalg.norm(values, axis=1)
    if usual is None:
        usual = float(np.median(norms[norms > 0])) if (norms > 0).any() else 1.0
    raised = values + _FLOOR * usual
    return raised / np.linalg.norm(raised, axis=1, keepdims=True)


def rises(levels: np.ndarray, lag: int = 2) -> np.ndarray:
    """By how much each band grew over `lag` frames, never negative; the frame stands in their middle."""
    grown = np.maximum(levels[lag:] - levels[:-lag], 0.0) if len(levels) > lag else levels[:0]
    before = min(lag - lag // 2, len(levels) - len(grown))
    return np.pad(grown, ((before, len(levels) - len(grown) - before), (0, 0)))


def levels(audio: np.ndarray, features: Features, window_length: int) -> np.ndarray:
    """Log energy in semitone bands against the loudest moments, float32 `(frames, 88)`, 0 in silence."""
    blocks = _magnitudes(audio, features, window_length)
    energy = np.concatenate([semitones(block, features.sample_rate) for block in blocks])
    reference = float(np.quantile(energy.max(axis=1), 0.95)) + 1e-9
    return np.log1p(_COMPRESSION * energy / reference)


def _magnitudes(audio: np.ndarray, features: Features, window_length: int) -> Iterator[np.ndarray]:
    """Magnitude spectrogram in blocks `(frames, bins)`, as the whole one of a long piece takes gigabytes.

    Frame 0 is centred on sample 0; a full-scale sine peaks at 1.
    """
    hop = features.hop_length
    half = window_length // 2
    padded = np.pad(audio, (half, half + max(0, window_length - len(audio))))
    count = 1 + (len(padded) - window_length) // hop
    for first in range(0, count, _BLOCK_FRAMES):
        after = min(count, first + _BLOCK_FRAMES)
        block = padded[first * hop : (after - 1) * hop + window_length]
        spectrum = librosa.stft(block, n_fft=window_length, hop_length=hop, window="hann", center=False)
        yield np.abs(spectrum).T * (4.0 / window_length)


def _spectrogram(audio: np.ndarray, features: Features) -> tuple[np.ndarray, np.ndarray]:
    """The paper's: the lowest bins of a (log-)spectrogram, against their root mean square over the whole sound.

    The paper tells nothing of levels. Without it, a recording quieter than the synthesis lies far from it.
    """
    blocks = _magnitudes(audio, features, features.window_length)
    magnitudes = np.concatenate([block[:, : features.cutoff] for block in blocks])
    magnitudes /= np.sqrt(np.mean(magnitudes**2)) + 1e-9
    values = np.log(magnitudes + _LOG_FLOOR) if features.log else magnitudes
    return values, _nothing(values)


def _pitch_onset(audio: np.ndarray, features: Features) -> tuple[np.ndarray, np.ndarray]:
    tonal = _peaks(levels(audio, features, 2 * features.window_length))
    quick = levels(audio, features, features.window_length // 2)
    return unit(tonal), _decaying(rises(quick), features)


def _chroma(audio: np.ndarray, features: Features) -> tuple[np.ndarray, np.ndarray]:
    tonal = unit(_fold(_peaks(levels(audio, features, 2 * features.window_length))))
    return tonal, _nothing(tonal)


def _chroma_onset(audio: np.ndarray, features: Features) -> tuple[np.ndarray, np.ndarray]:
    tonal, _ = _chroma(audio, features)
    quick = levels(audio, features, features.window_length // 2)
    return tonal, _decaying(_fold(rises(quick)), features)


def _posteriorgram(audio: np.ndarray, sample_rate: int, features: Features) -> Frames:
    """What a transcription model hears: notes that sound, and notes that begin (NoteEM: Maman and Bermano 2022)."""
    heard = hearing.hear(audio, sample_rate, _predictor(features.model))
    return Frames(unit(heard.heads["frame"], usual=1.0), heard.heads["onset"], heard.clock, heard)


def _beside(heard: Frames, tonal: np.ndarray, onsets: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Spectral features with a model's beside them: tonal parts count alike, the model's onsets more."""

    def there(values: np.ndarray) -> np.ndarray:
        at = heard.clock.times(len(values))
        return np.stack([np.interp(times, at, column) for column in values.T], axis=1)

    both = np.concatenate([tonal, there(heard.tonal)], axis=1) / np.sqrt(2)  # of unit length again
    return both, np.concatenate([onsets, _HEARD_ONSETS * there(heard.onsets)], axis=1)


@functools.lru_cache(maxsize=2)
def _predictor(model: str | None) -> Predictor:
    from musicnet_tf import inference

    return inference.load(model or inference.DEFAULT_MODEL)


def _peaks(values: np.ndarray) -> np.ndarray:
    """What stands out of its surroundings of an octave: notes rather than resonance and noise."""
    return np.maximum(values - scipy.ndimage.uniform_filter1d(values, _OCTAVE, axis=1, mode="nearest"), 0.0)


def _fold(pitches: np.ndarray) -> np.ndarray:
    """88 pitches → 12 pitch classes, C first."""
    padded = np.pad(pitches, ((0, 0), (LOWEST % 12, -(LOWEST + PITCHES) % 12)))
    return padded.reshape(len(pitches), -1, 12).sum(axis=1)


def _decaying(onsets: np.ndarray, features: Features) -> np.ndarray:
    """Onsets against the strongest nearby, their peaks fading over 0.1 s (DLNCO: Ewert, Müller, Grosche 2009)."""
    frame_rate = features.sample_rate / features.hop_length
    strength = np.linalg.norm(onsets, axis=1)
    local = scipy.ndimage.maximum_filter1d(strength, max(3, round(frame_rate * _LOCAL_SECONDS)))
    normalised = onsets / (local + _QUIET * strength.max(initial=0.0) + 1e-9)[:, np.newaxis]
    peak = (normalised >= np.roll(normalised, 1, axis=0)) & (normalised >= np.roll(normalised, -1, axis=0))
    peaks = normalised * peak
    length = max(2, round(frame_rate * _FADE_SECONDS))
    faded = peaks.copy()
    for k in range(1, min(length, len(peaks))):
        faded[k:] = np.maximum(faded[k:], peaks[:-k] * np.sqrt(1 - k / length))
    return faded


def _nothing(values: np.ndarray) -> np.ndarray:
    return np.zeros((len(values), 0), np.float32)


_KINDS: dict[str, Callable[[np.ndarray, Features], tuple[np.ndarray, np.ndarray]]] = {
    "spectrogram": _spectrogram,
    "chroma": _chroma,
    "chroma_onset": _chroma_onset,
    "pitch_onset": _pitch_onset,
    "pitch_onset_posteriorgram": _pitch_onset,
}
