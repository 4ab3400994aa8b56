"""Transforms of the spectrum: filters, aliasing, lossy codecs. They leave every note where it is.

Audio is float `(samples,)` and comes back as float32 of the same length. Defaults are those of the Audio Degradation
Toolbox (Mauch and Ewert, ISMIR 2013).
"""

from __future__ import annotations

import io
from typing import Literal, cast

import av
import numpy as np
import soxr
from av.container import InputContainer
from scipy import signal

from musicnet_tf.errors import AudioError

Codec = Literal["mp3", "ogg"]
_ENCODERS = {"mp3": ("mp3", "libmp3lame"), "ogg": ("ogg", "libopus")}
_OPUS_RATE = 48000
_MAX_CODEC_DELAY = 4096
_CODEC_FRAME = 1152


def low_pass(audio: np.ndarray, sample_rate: int, frequency: float = 1000.0, order: int = 2) -> np.ndarray:
    """Butterworth filter that takes 3 dB at `frequency` and 6 dB an octave and order above it."""
    return _butterworth(audio, sample_rate, frequency, order, "lowpass")


def high_pass(audio: np.ndarray, sample_rate: int, frequency: float = 1000.0, order: int = 2) -> np.ndarray:
    """Butterworth filter that takes 3 dB at `frequency` and 6 dB an octave and order below it."""
    return _butterworth(audio, sample_rate, frequency, order, "highpass")


def equalise(
    audio: np.ndarray, sample_rate: int, frequency: float = 1000.0, gain_db: float = -3.0, bandwidth: float = 1.0
) -> np.ndarray:
    """One band of an equaliser: `gain_db` at `frequency`, half of it half of `bandwidth` octaves away.

    The peaking filter of R. Bristow-Johnson's "Cookbook formulae for audio EQ biquad filter coefficients".
    """
    _check_frequency(frequency, sample_rate)
    omega = 2.0 * np.pi * frequency / sample_rate
    root = 10.0 ** (gain_db / 40.0)
    alpha = np.sin(omega) * np.sinh(np.log(2.0) / 2.0 * bandwidth * omega / np.sin(omega))
    numerator = [1.0 + alpha * root, -2.0 * np.cos(omega), 1.0 - alpha * root]
    denominator = [1.0 + alpha / root, -2.0 * np.cos(omega), 1.0 - alpha / root]
    return np.asarray(signal.lfilter(numerator, denominator, audio), np.float32)


def alias(audio: np.ndarray, sample_rate: int, lower_rate: int = 8000) -> np.ndarray:
    """Through a lower sample rate without the filter that should be before it: what is too high folds down."""
    samples = np.asarray(audio, np.float64)
    positions = np.arange(0.0, len(samples), sample_rate / lower_rate)
    few = np.interp(positions, np.arange(len(samples)), samples)
    return _fit(soxr.resample(few, lower_rate, sample_rate), len(audio))


def resample(audio: np.ndarray, sample_rate: int, lower_rate: int = 8000) -> np.ndarray:
    """Through a lower sample rate and back, properly filtered: what is too high is lost."""
    few = soxr.resample(np.asarray(audio, np.float32), sample_rate, lower_rate)
    return _fit(soxr.resample(few, lower_rate, sample_rate), len(audio))


def codec(audio: np.ndarray, sample_rate: int, kind: Codec = "mp3", kilobits: int = 320) -> np.ndarray:
    """Encoded by a lossy codec and decoded again, in time to the sample.

    Args:
        audio: in [-1, 1]; what lies beyond is clipped.
        sample_rate: one that the codec takes; Opus is resampled to its own.
        kind: MP3, or Opus in Ogg.
        kilobits: a second, for one channel.

    Raises:
        AudioError: where the codec takes no such rate or bitrate.
    """
    rate = _OPUS_RATE if kind == "ogg" else sample_rate
    samples = np.asarray(np.clip(audio, -1.0, 1.0), np.float32)
    data = _encode(soxr.resample(samples, sample_rate, rate) if rate != sample_rate else samples, rate, kind, kilobits)
    decoded = soxr.resample(_decode(data), rate, sample_rate)
    late = _lateness(samples, decoded)
    return _fit(decoded[late:] if late >= 0 else np.pad(decoded, (-late, 0)), len(samples))


def _encode(samples: np.ndarray, rate: int, kind: Codec, kilobits: int) -> bytes:
    container_name, encoder = _ENCODERS[kind]
    buffer = io.BytesIO()
    try:
        with av.open(buffer, "w", format=container_name) as container:
            stream = cast(av.AudioStream, container.add_stream(encoder, rate=rate, layout="mono"))
            stream.bit_rate = 1000 * kilobits
            padded = np.pad(samples, (0, 2 * _CODEC_FRAME))  # so that the end comes out of the encoder as well
            frame = av.AudioFrame.from_ndarray(padded[np.newaxis], format="fltp", layout="mono")
            frame.sample_rate = rate
            to_encoder = av.AudioResampler(format=stream.format, layout="mono", rate=rate, frame_size=stream.frame_size)
            for part in [*to_encoder.resample(frame), *to_encoder.resample(None), None]:
                container.mux(stream.encode(part))
    except (av.FFmpegError, ValueError) as error:
        raise AudioError(f"{kind} at {rate} Hz and {kilobits} kbit/s cannot be encoded ({error})") from error
    return buffer.getvalue()


def _decode(data: bytes) -> np.ndarray:
    """By FFmpeg alone: libsndfile's decoder of MP3 tells of frames that are not wrong on the terminal."""
    with cast(InputContainer, av.open(io.BytesIO(data))) as container:
        to_float = av.AudioResampler(format="fltp", layout="mono")
        frames = [part for frame in container.decode(audio=0) for part in to_float.resample(frame)]
    return np.concatenate([frame.to_ndarray()[0] for frame in frames])


def _lateness(before: np.ndarray, after: np.ndarray) -> int:
    """Samples by which `after` lies behind `before`, where that is loudest, by cross-correlation."""
    span = 1 << 16
    centre = int(np.argmax(np.abs(before))) if len(before) else 0
    start = max(0, min(centre - span // 2, len(before) - span))
    reference = before[start : start + span]
    if not np.any(reference):
        return 0
    first = start - _MAX_CODEC_DELAY
    heard = np.pad(after, (max(0, -first), span + 2 * _MAX_CODEC_DELAY))[max(0, first) :]
    heard = heard[: len(reference) + 2 * _MAX_CODEC_DELAY]
    return int(np.argmax(signal.correlate(heard, reference, "valid", "fft"))) - _MAX_CODEC_DELAY


def _butterworth(audio: np.ndarray, sample_rate: int, frequency: float, order: int, kind: str) -> np.ndarray:
    _check_frequency(frequency, sample_rate)
    sections = signal.butter(order, frequency, kind, fs=sample_rate, output="sos")
    return np.asarray(signal.sosfilt(sections, audio), np.float32)


def _check_frequency(frequency: float, sample_rate: int) -> None:
    if not 0 < frequency < sample_rate / 2:
        raise AudioError(f"a filter at {frequency:g} Hz is not below half of {sample_rate} Hz; give a lower one")


def _fit(audio: np.ndarray, length: int) -> np.ndarray:
    audio = np.asarray(audio[:length], np.float32)
    return np.pad(audio, (0, length - len(audio)))
