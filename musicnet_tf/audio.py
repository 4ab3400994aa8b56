"""Sound in any container → float32 mono at a wanted rate, in memory that does not grow with length.

libsndfile (soundfile) decodes first, FFmpeg (PyAV) whatever it refuses: m4a, wma, video containers.
Channels are averaged and soxr resamples as a stream, so `blocks` of a day of audio costs as much
memory as `blocks` of a minute, and `load` is nothing but those blocks joined.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
import logging
import math
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

import numpy as np
import soundfile
import soxr

from musicnet_tf.errors import AudioError

Source = str | os.PathLike[str] | bytes | BinaryIO
"""A path, the bytes of a whole file, or an open binary file, which is read from its beginning."""

Encoding = Literal["flac", "pcm_s16le"]

LOSSLESS_SUFFIXES = (".wav", ".wave", ".flac", ".aif", ".aiff", ".au", ".caf", ".w64")
SUFFIXES = (*LOSSLESS_SUFFIXES, ".aac", ".m4a", ".mka", ".mp3", ".mp4", ".oga", ".ogg", ".opus", ".webm", ".wma")
"""What counts as audio where a folder is searched. A file that is named may have any suffix."""

MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = 1_000, 1_000_000
MAX_CHANNELS = 64
MAX_SECONDS = 24 * 3600.0
"""How long a source may last, unless the caller says otherwise: a day, which no recording of music reaches.

A compressed file of a few megabytes can hold years of silence, and would keep whoever decodes it busy for days.
"""

_CHUNK_SAMPLES = 1 << 14  # what a decoder loses at most where a file breaks off
_TRUNCATION_SECONDS = 0.1  # lossy formats round their stated length; a shortfall below this is no loss
_MISSCALED_PEAK = 2.0  # lossy decoders overshoot 1 a little; beyond this the file is scaled as something else
_INT16_SCALE = 32768.0
_UNKNOWN_LENGTH = 0x7FFF0000  # a wav written to a pipe states a length at or near the largest
_OGG_MAX_PAGE = 65307
_NO_LENGTH = 2**63 - 1  # what libsndfile says of a flac that states none

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class AudioInfo:
    """What a file says of itself before it is decoded.

    Attributes:
        sample_rate: samples a second.
        channels: number of channels.
        num_samples: samples of one channel, or None where only decoding would tell.
        duration: seconds, or None where only decoding would tell.
    """

    sample_rate: int
    channels: int
    num_samples: int | None
    duration: float | None


def probe(source: Source, max_seconds: float = MAX_SECONDS) -> AudioInfo:
    """Reads the header only. Raises AudioError as `blocks` does, as far as the header tells."""
    with _decoder(source, max_seconds) as (_, stream):
        return stream.info


def blocks(
    source: Source, sample_rate: int | None = None, block_seconds: float = 10.0, max_seconds: float = MAX_SECONDS
) -> Iterator[np.ndarray]:
    """Decodes, mixes to mono and resamples piece by piece.

    Args:
        source: path, bytes or binary file.
        sample_rate: of the result in Hz; None keeps the file's own.
        block_seconds: length of each block; the last one may be shorter.
        max_seconds: length of the source beyond which it is refused.

    Yields:
        Float32 `(samples,)` in [-1, 1]. Together `n * sample_rate / file's rate` samples of `n`, rounded.

    Raises:
        AudioError: on the first block if the source is missing, a folder, empty or not audio, has an absurd rate
            or channel count, says that it is too long, nothing in it decodes, or it is shorter than one sample at
            the wanted rate; later where a sample is not finite, or it is too long without having said so. A file
            that decodes in part yields that part and logs one warning.
    """
    if sample_rate is not None:
        _check_rate("requested", sample_rate)
    with _decoder(source, max_seconds) as (name, stream):
        rate = stream.info.sample_rate
        target = sample_rate or rate
        mono = _as_mono(name, stream, max_seconds)
        yield from _rebuffer(resample_stream(name, mono, rate, target), max(1, round(block_seconds * target)))


def load(source: Source, sample_rate: int | None = None, max_seconds: float = MAX_SECONDS) -> np.ndarray:
    """The whole source, equal to its `blocks` joined: float32 mono `(samples,)` in [-1, 1].

    With `sample_rate=None` the file keeps its own rate, which `probe` tells. Raises AudioError as `blocks` does.
    """
    return np.concatenate(list(blocks(source, sample_rate, max_seconds=max_seconds)))


def resample(samples: np.ndarray, source_rate: int, sample_rate: int, name: str = "audio") -> np.ndarray:
    """Mono samples `(n,)` that are in memory already, treated just as `load` treats those of a file.

    Raises:
        AudioError: naming `name`, where there is no sample at either rate, one is not finite, or a rate is absurd.
    """
    info = AudioInfo(source_rate, 1, len(samples), len(samples) / source_rate if source_rate else None)
    _check_header(name, info, math.inf)
    _check_rate("requested", sample_rate)
    mono = _as_mono(name, _Stream(info, iter([np.asarray(samples, np.float32)[:, np.newaxis]])), math.inf)
    return np.clip(np.concatenate(list(resample_stream(name, mono, source_rate, sample_rate))), -1.0, 1.0)


def quantise(audio: np.ndarray) -> np.ndarray:
    """Float in [-1, 1] → int16 of the same shape, full scale 32768, clipped."""
    return np.clip(np.rint(np.asarray(audio, np.float64) * _INT16_SCALE), -32768, 32767).astype(np.int16)


def encode(audio: np.ndarray, sample_rate: int, encoding: Encoding) -> bytes:
    """Mono audio `(samples,)` as 16-bit FLAC, or as headerless little-endian int16 (`pcm_s16le`).

    Both hold the integers of `quantise(audio)`, so that either decodes to the same samples.

    Raises:
        AudioError: for another encoding, or audio that is not one channel or that FLAC cannot hold.
    """
    audio = np.asarray(audio)
    if audio.ndim != 1 or not len(audio):
        raise AudioError(f"cannot encode audio of shape {audio.shape}; expected (samples,) with at least one sample")
    if encoding == "pcm_s16le":
        return quantise(audio).astype("<i2").tobytes()
    if encoding != "flac":
        raise AudioError(f"unknown audio encoding {encoding!r}; choose flac or pcm_s16le")
    buffer = io.BytesIO()
    try:
        soundfile.write(buffer, quantise(audio), sample_rate, format="FLAC", subtype="PCM_16")
    except soundfile.SoundFileError as error:
        raise AudioError(f"cannot encode {sample_rate} Hz audio as FLAC ({error}); choose pcm_s16le") from error
    return buffer.getvalue()


def decode(data: bytes, encoding: Encoding) -> np.ndarray:
    """Undoes `encode`: float32 mono `(samples,)` in [-1, 1). Raises AudioError where `data` is damaged."""
    if encoding == "flac":
        return load(data)
    if encoding != "pcm_s16le":
        raise AudioError(f"unknown audio encoding {encoding!r}; choose flac or pcm_s16le")
    if not data or len(data) % 2:
        raise AudioError(f"pcm_s16le audio of {len(data)} bytes is not a whole number of 16-bit samples")
    return (np.frombuffer(data, "<i2") / _INT16_SCALE).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class _Stream:
    """A file that is being decoded.

    Attributes:
        info: its header.
        chunks: `(samples, channels)` float32.
        promised: seconds that it was made with, where that can be told although they are not all there.
        damage, errors: what its bytes show to be wrong, or nothing; what its decoder raises.
    """

    info: AudioInfo
    chunks: Iterator[np.ndarray]
    promised: float | None = None
    damage: str = ""
    errors: tuple[type[Exception], ...] = (soundfile.SoundFileError, ValueError)


@contextlib.contextmanager
def _decoder(source: Source, max_seconds: float) -> Iterator[tuple[str, _Stream]]:
    """Gives a name for messages, and the stream."""
    with contextlib.ExitStack() as stack:
        name, file = stack.enter_context(_opened(source))
        try:
            stream = stack.enter_context(_soundfile_decoder(file))
        except (soundfile.SoundFileError, OSError):
            file.seek(0)
            stream = stack.enter_context(_av_decoder(name, file))
        _check_header(name, stream.info, max_seconds)
        yield name, stream


@contextlib.contextmanager
def _opened(source: Source) -> Iterator[tuple[str, BinaryIO]]:
    """Gives a name for messages and a seekable, non-empty binary file at its beginning."""
    with contextlib.ExitStack() as stack:
        if isinstance(source, bytes):
            name, file = f"<{len(source)} bytes>", cast(BinaryIO, io.BytesIO(source))
        elif isinstance(source, str | os.PathLike):
            name, file = os.fspath(source), stack.enter_context(_open_path(Path(source)))
            if not file.seekable():
                raise AudioError(f"{name}: is a pipe, which cannot be read twice; `musicnet listen -` hears what flows")
        else:
            name, file = str(getattr(source, "name", "<file>")), source
            if not file.seekable():
                pipe, file = file, cast(BinaryIO, stack.enter_context(tempfile.TemporaryFile()))
                shutil.copyfileobj(pipe, file)
        if not file.seek(0, os.SEEK_END):
            raise AudioError(f"{name}: is empty (0 bytes); give an audio file")
        file.seek(0)
        yield name, file


def _open_path(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except FileNotFoundError as error:
        raise AudioError(f"{path}: not found; give the path of an audio file") from error
    except IsADirectoryError as error:
        raise AudioError(f"{path}: is a folder; give an audio file") from error
    except (OSError, ValueError) as error:
        raise AudioError(f"{path}: cannot be opened ({getattr(error, 'strerror', None) or error})") from error


@contextlib.contextmanager
def _soundfile_decoder(file: BinaryIO) -> Iterator[_Stream]:
    damage = _ogg_damage(file)
    with soundfile.SoundFile(_descriptor_of_its_own(file)) as sound:
        rate, length = sound.samplerate, sound.frames
        if length == _NO_LENGTH:
            raise soundfile.SoundFileError("states no length")  # libsndfile would miss its end, FFmpeg does not
        seconds = length / rate if rate else None
        # libsndfile shortens a wav to what is there, and tells what the header said only in its log.
        stated = re.search(r"^data\s*: (\d+) \(should be (\d+)\)", sound.extra_info, re.MULTILINE)
        promised = seconds
        if seconds and stated and int(stated[1]) < _UNKNOWN_LENGTH:
            promised = seconds * int(stated[1]) / int(stated[2])

        def chunks() -> Iterator[np.ndarray]:
            while len(chunk := sound.read(_CHUNK_SAMPLES, dtype="float32", always_2d=True)):
                yield chunk

        yield _Stream(AudioInfo(rate, sound.channels, length, seconds), chunks(), promised, damage)


def _descriptor_of_its_own(file: BinaryIO) -> int | BinaryIO:
    """What libsndfile reads by itself, where that can be had.

    It takes an exception out of our `read`, Ctrl-C and errors of the disk included, for the end of the file.
    """
    name = getattr(file, "name", None)
    if not isinstance(name, str):
        return file
    try:
        same = Path(name).is_file() and os.path.samestat(Path(name).stat(), os.fstat(file.fileno()))
        return os.open(name, os.O_RDONLY) if same else file
    except (OSError, ValueError):
        return file


def _ogg_damage(file: BinaryIO) -> str:
    """What is wrong with the end of an Ogg file, whose length is nowhere but in its last page (RFC 3533)."""
    is_ogg = file.read(4) == b"OggS"
    file.seek(max(0, file.seek(0, os.SEEK_END) - _OGG_MAX_PAGE))
    tail = file.read() if is_ogg else b""
    file.seek(0)
    last = tail[tail.rfind(b"OggS") :] if is_ogg else b""
    if len(last) < 27:
        return "its last page is cut" if is_ogg else ""
    segments = last[26]
    whole = 27 + segments + sum(last[27 : 27 + segments])
    if len(last) < whole:
        return "its last page is cut"
    return "" if last[5] & 4 else "it has no last page"


@contextlib.contextmanager
def _av_decoder(name: str, file: BinaryIO) -> Iterator[_Stream]:
    import av  # all of FFmpeg, which most recordings do not need

    # No protocol is allowed: a playlist posing as audio must not make FFmpeg open other files or addresses.
    try:
        container = av.open(file, mode="r", options={"protocol_whitelist": "none"})
    except (av.FFmpegError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise AudioError(f"{name}: not audio that can be decoded ({why}); give wav, flac, ogg, mp3, m4a …") from error
    with container:
        if not container.streams.audio:
            raise AudioError(f"{name}: holds no audio track; give wav, flac, ogg, mp3, m4a …")
        stream = container.streams.audio[0]
        duration = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else None
        info = AudioInfo(stream.rate or 0, stream.channels, None, duration)
        errors = (av.FFmpegError, ValueError)  # the latter of odd frames
        yield _Stream(info, _av_chunks(av, container, stream), duration, errors=errors)


def _av_chunks(av: Any, container: Any, stream: Any) -> Iterator[np.ndarray]:

    rate = stream.rate  # the decoder changes the stream's own as it goes
    for _, frames in itertools.groupby(container.decode(stream), lambda f: (f.sample_rate, f.layout.name)):
        # One converter takes frames of one kind alone, and broadcasts join parts of several. Channels stay as they
        # are: FFmpeg would spread mono over two at less than its level.
        to_float = av.AudioResampler(format="fltp", rate=rate)
        for frame in itertools.chain(frames, [None]):
            for converted in to_float.resample(frame):
                yield converted.to_ndarray().T


def _check_header(name: str, info: AudioInfo, max_seconds: float) -> None:
    _check_rate(name, info.sample_rate)
    if not 1 <= info.channels <= MAX_CHANNELS:
        raise AudioError(f"{name}: {info.channels} channels; 1 to {MAX_CHANNELS} can be mixed down")
    if info.num_samples == 0:
        raise AudioError(f"{name}: holds no samples")
    _check_length(name, info.num_samples or 0, info.sample_rate, max_seconds)


def _check_length(name: str, num_samples: int, sample_rate: int, max_seconds: float) -> None:
    if num_samples > max_seconds * sample_rate:
        raise AudioError(f"{name}: lasts longer than {max_seconds:g} s, more than is decoded; cut it into parts")


def _check_rate(name: str, sample_rate: int) -> None:
    if not MIN_SAMPLE_RATE <= sample_rate <= MAX_SAMPLE_RATE:
        raise AudioError(f"{name}: sample rate {sample_rate} Hz is not in {MIN_SAMPLE_RATE}–{MAX_SAMPLE_RATE} Hz")


def _as_mono(name: str, stream: _Stream, max_seconds: float) -> Iterator[np.ndarray]:
    """Averages channels, refuses samples that are not numbers or too many, and says once what was lost."""
    count, peak, damage, rate = 0, 0.0, stream.damage, stream.info.sample_rate
    try:
        for chunk in stream.chunks:
            mono = chunk.mean(axis=1, dtype=np.float32)
            finite = np.isfinite(mono)
            if not finite.all():
                at = (count + int(np.argmin(finite))) / rate
                raise AudioError(f"{name}: sample at {at:.3f} s is not a finite number; repair or re-export the file")
            count += len(mono)
            _check_length(name, count, rate, max_seconds)
            peak = max(peak, float(np.abs(mono).max(initial=0.0)))
            yield mono
    except stream.errors as error:
        damage = getattr(error, "strerror", None) or str(error)
    if not count:
        raise AudioError(f"{name}: no sample could be decoded ({damage or 'it holds none'}); is the file damaged?")
    _warn_of_loss(name, count / rate, stream.promised, damage)
    if peak > _MISSCALED_PEAK:
        _log.warning("%s: samples reach %.3g and are clipped to 1; export the file with full scale 1", name, peak)


def _warn_of_loss(name: str, seconds: float, promised: float | None, damage: str) -> None:
    missing = promised is not None and promised - seconds > _TRUNCATION_SECONDS
    if missing or damage:
        of = f" of {promised:.2f} s" if missing else ""
        because = f" ({damage})" if damage else ""
        _log.warning("%s: truncated or damaged%s; read %.2f s%s", name, because, seconds, of)


def resample_stream(
    name: str, chunks: Iterable[np.ndarray], source_rate: int, target_rate: int
) -> Iterator[np.ndarray]:
    """Mono samples at another rate, piece by piece. Raises AudioError, naming `name`, where none are left."""
    if source_rate == target_rate:
        yield from chunks
        return
    stream = soxr.ResampleStream(source_rate, target_rate, 1, dtype="float32", quality="HQ")
    count = 0
    for chunk in itertools.chain(chunks, [None]):
        last = chunk is None
        resampled = stream.resample_chunk(np.zeros(0, np.float32) if last else chunk, last=last)
        count += len(resampled)
        yield resampled
    if not count:
        raise AudioError(f"{name}: is shorter than one sample at {target_rate} Hz; give a longer recording")


def _rebuffer(chunks: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """The same samples, clipped to [-1, 1], in blocks of `size`; only the last one may be shorter."""
    held: list[np.ndarray] = []
    length = 0
    for chunk in chunks:
        held.append(np.clip(chunk, -1.0, 1.0))
        length += len(chunk)
        if length >= size:
            joined = np.concatenate(held)
            whole = length - length % size
            yield from joined[:whole].reshape(-1, size)
            held, length = [joined[whole:]], length - whole
    if length:
        yield np.concatenate(held)
