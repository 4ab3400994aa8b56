"""Sound in a few frames a second: enough to tell where in a piece one is."""

from __future__ import annotations

import numpy as np
import scipy.ndimage

FRAME_RATE = 4.0
"""Frames a second at which the structure of a piece is told well; an hour against an hour takes 0.2 GiB."""

_WINDOW_SECONDS = 0.25
_PITCHES = np.arange(28, 100)
_FLOOR = 0.02  # of a frame's usual norm, in every band: silence becomes a frame that is equal in all bands


def low_rate_features(audio: np.ndarray, sample_rate: int, frame_rate: float = FRAME_RATE) -> np.ndarray:
    """Semitone bands at a few frames a second: peaks of the log magnitude, smoothed, of unit norm.

    Frame `i` is centred at `i / frame_rate` seconds. Silent frames are equal in all bands.

    Args:
        audio: mono `(samples,)`.
        sample_rate: its rate.
        frame_rate: of the result.

    Returns:
        Float32 `(frames, 72)`, MIDI pitches 28–99.
    """
    per_frame = 4
    size = 1 << round(np.log2(_WINDOW_SECONDS * sample_rate))
    bands = _semitone_bands(size, sample_rate)
    count = int(np.ceil(len(audio) / sample_rate * frame_rate)) + 1
    centres = np.round(np.arange(count * per_frame) * sample_rate / (frame_rate * per_frame)).astype(np.int64)
    padded = np.pad(np.asarray(audio, np.float32), (size // 2, size + sample_rate))
    window = np.hanning(size).astype(np.float32)
    energy = np.empty((len(centres), len(_PITCHES)), np.float32)
    for begin in range(0, len(centres), 256):
        rows = centres[begin : begin + 256, np.newaxis] + np.arange(size)
        rows = np.minimum(rows, len(padded) - 1)
        energy[begin : begin + 256] = np.abs(np.fft.rfft(padded[rows] * window)).astype(np.float32) @ bands
    level = np.percentile(energy.max(axis=1), 90) or 1.0
    compressed = np.log1p(10.0 * energy / level)
    # What rises above its surroundings of an octave: partials and reverberation are told from the notes.
    peaks = np.maximum(compressed - scipy.ndimage.uniform_filter1d(compressed, 13, axis=1), 0.0)
    kernel = np.hanning(3 * per_frame + 2)[1:-1]
    smooth = scipy.ndimage.convolve1d(peaks, kernel / kernel.sum(), axis=0)[::per_frame]
    return normalise(smooth)


def normalise(features: np.ndarray) -> np.ndarray:
    """Frames of unit norm, float32; those far below the usual level become equal in all bands."""
    norm = np.linalg.norm(features, axis=1)
    usual = np.median(norm[norm > 0]) if (norm > 0).any() else 1.0
    raised = features + _FLOOR * usual
    return (raised / np.linalg.norm(raised, axis=1, keepdims=True)).astype(np.float32)


def _semitone_bands(size: int, sample_rate: int) -> np.ndarray:
    """Triangles of a semitone to either side, at least two bins wide, float32 `(bins, pitches)`."""
    frequency = np.arange(size // 2 + 1) * sample_rate / size
    centre = 440.0 * 2.0 ** ((_PITCHES - 69) / 12)
    half = np.maximum(centre * (2 ** (1 / 12) - 1), 1.5 * sample_rate / size)
    weight = np.maximum(1.0 - np.abs(frequency[:, np.newaxis] - centre) / half, 0.0)
    return (weight / np.maximum(weight.sum(axis=0), 1e-9)).astype(np.float32)
