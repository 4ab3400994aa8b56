"""PCM that is still coming, from a pipe or a growing file → samples, as soon as they are there.

Bytes come in blocks of any sizes and leave in pieces of `PIECE_SECONDS`, so that what is heard, and when, does not
depend on how the source cut them. A thread reads ahead, as a recorder that is not read from loses sound; with
`MAX_AHEAD_BYTES` waiting it reads no more, and the source has to wait. Nothing that was read is left out, unless
the listener stops.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import fcntl
import io
import logging
import os
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import soundfile

from musicnet_tf import audio
from musicnet_tf.errors import AudioError

PIECE_SECONDS = 0.01
MAX_AHEAD_BYTES = 1 << 25
"""Three minutes of two channels of 16 bits at 44.1 kHz."""
POLL_SECONDS = 0.05
"""How often a growing file is looked at, and a wish to stop is noticed."""

ENCODINGS = {"s16le": "PCM_16", "f32le": "FLOAT"}
"""Encodings of raw samples, by FFmpeg's names, and what libsndfile calls them."""

_BYTES = {"PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8, "ULAW": 1, "ALAW": 1}
_READ_BYTES = 1 << 13
_PIPE_BYTES = 1 << 20  # what Linux allows anyone
_MAX_HEADER_BYTES = 1 << 20
_IN_DS64 = 0xFFFFFFFF  # what an RF64 states where its length takes more than 32 bits
_AFTER_DATA = {
    *(b"LIST", b"id3 ", b"ID3 ", b"bext", b"cue ", b"smpl", b"inst", b"fact", b"PEAK", b"iXML", b"JUNK", b"PAD "),
    *(b"_PMX", b"cart", b"levl", b"acid", b"afsp", b"plst", b"umid"),
}
"""What may follow the samples of a WAV; anything else there is more samples, of which its header does not tell."""

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Pcm:
    """How samples without a header are to be read.

    Attributes:
        sample_rate: in Hz.
        channels: interleaved.
        subtype: libsndfile's name of the encoding; little-endian.
    """

    sample_rate: int
    channels: int = 1
    subtype: str = "PCM_16"

    def __post_init__(self) -> None:
        """Raises AudioError where no sound is kept so."""
        if not audio.MIN_SAMPLE_RATE <= self.sample_rate <= audio.MAX_SAMPLE_RATE:
            limits = f"{audio.MIN_SAMPLE_RATE}–{audio.MAX_SAMPLE_RATE}"
            raise AudioError(f"sample rate {self.sample_rate} Hz is not in {limits} Hz")
        if not 1 <= self.channels <= audio.MAX_CHANNELS:
            raise AudioError(f"{self.channels} channels; 1 to {audio.MAX_CHANNELS} can be mixed down")
        if self.subtype not in _BYTES:
            raise AudioError(f"{self.subtype} is not PCM; convert it, as by `ffmpeg -i … -f wav -`")

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of every channel."""
        return self.channels * _BYTES[self.subtype]

    def seconds(self, num_bytes: int) -> float:
        """How long so many bytes sound."""
        return num_bytes / self.frame_bytes / self.sample_rate

    def decode(self, data: bytes) -> np.ndarray:
        """Whole frames → float32 `(samples, channels)`, as libsndfile decodes those of a file."""
        rate, channels = self.sample_rate, self.channels
        form = {"format": "RAW", "subtype": self.subtype, "endian": "LITTLE", "samplerate": rate, "channels": channels}
        return soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True, **form)[0]


def of_pipe(descriptor: int) -> Iterator[bytes]:
    """What comes out of an open file descriptor, as it comes.

    Not by way of a buffered file: a thread that hangs in one keeps its lock, over which the program would fail to end.
    A pipe is made to hold more where the system lets us, as nobody reads while Python is busy importing.
    """
    with contextlib.suppress(OSError, AttributeError):  # no pipe, or no Linux
        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return iter(lambda: os.read(descriptor, _READ_BYTES), b"")


def of_growing_file(
    path: str | Path, idle_seconds: float, wait: Callable[[float], object], clock: Callable[[], float] = time.monotonic
) -> Iterator[bytes]:
    """The bytes of a file that is being written, until it has not grown for `idle_seconds`.

    Args:
        path: of the file.
        idle_seconds: without growth, after which it is taken to be finished; 0 takes it as it is.
        wait: called with the seconds until the next look; tells whether to stop. `Event.wait` is one.
        clock: the time in seconds.

    Raises:
        AudioError: where it cannot be read, or becomes shorter than what was read of it.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            grew = clock()
            while True:
                if block := file.read(_READ_BYTES):
                    yield block
                    grew = clock()
                elif os.fstat(file.fileno()).st_size < file.tell():
                    raise AudioError(f"{path}: was cut while it was listened to; begin again")
                elif clock() - grew >= idle_seconds or wait(POLL_SECONDS):
                    return
    except OSError as error:
        raise AudioError(f"{path}: cannot be read ({error.strerror or error}); give the path of a recording") from error


class ReadAhead:
    """Blocks of bytes that a thread takes as they come, kept until they are asked for.

    Iterating gives them, and raises what the source raised. It ends with the source, or once `stop` is set.

    Args:
        blocks: the source.
        stop: leaves the source, and what waits, alone.
        max_bytes: with so many waiting, no further block is taken.
        clock: the time in seconds.
    """

    def __init__(
        self,
        blocks: Iterable[bytes],
        stop: threading.Event,
        max_bytes: int = MAX_AHEAD_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.waiting = 0
        """Bytes that came and were not asked for yet."""
        self._blocks, self._stop, self._max_bytes, self._clock = blocks, stop, max_bytes, clock
        self._held: collections.deque[bytes] = collections.deque()
        self._changed = threading.Condition()
        self._first: float | None = None
        self._last = 0.0
        self._error: BaseException | None = None
        self._ended = False
        threading.Thread(target=self._read, name="read-ahead", daemon=True).start()  # may hang in a pipe for ever

    @property
    def took(self) -> float:
        """Seconds from the first bytes that came to the last."""
        return 0.0 if self._first is None else self._last - self._first

    def __iter__(self) -> Iterator[bytes]:
        while (block := self._next()) is not None:
            yield block

    def _next(self) -> bytes | None:
        with self._changed:
            self._wait_until(lambda: bool(self._held) or self._ended)
            if self._stop.is_set():
                return None
            if not self._held:
                if self._error is not None:
                    raise self._error
                return None
            block = self._held.popleft()
            self.waiting -= len(block)
            self._changed.notify_all()
            return block

    def _read(self) -> None:
        try:
            for block in self._blocks:
                self._keep(block)
                if self._stop.is_set():
                    return
        except BaseException as error:  # told where the blocks are asked for
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _keep(self, block: bytes) -> None:
        with self._changed:
            self._last = self._clock()
            self._first = self._last if self._first is None else self._first
            self._wait_until(lambda: self.waiting < self._max_bytes)
            self._held.append(block)
            self.waiting += len(block)
            self._changed.notify_all()

    def _wait_until(self, come: Callable[[], bool]) -> None:
        while not come() and not self._stop.is_set():
            self._changed.wait(POLL_SECONDS)  # a signal handler can set `stop`, but must not wait for a lock


def decode(blocks: Iterable[bytes], name: str, raw: Pcm | None = None) -> tuple[Pcm, Iterator[np.ndarray]]:
    """Samples as their bytes come.

    The length that a WAV states is not believed, as it is written before the end is known: samples go on to the end
    of the stream, or to one of the chunks that may follow them.

    Args:
        blocks: bytes in blocks of any sizes.
        name: of the source, for messages.
        raw: how to read it where it has no header; a WAV by default.

    Returns:
        How the samples are kept, and mono float32 `(samples,)`, channels averaged, of `PIECE_SECONDS` each but for
        the last.

    Raises:
        AudioError: where it is no WAV of PCM; with the pieces where what was told to be raw is a WAV, or a sample is
            not finite.
    """
    reader = _Reader(blocks)
    if raw is not None:
        return raw, _pieces(name, raw, _raw_bytes(name, reader))
    pcm, stated = _wav_header(name, reader)
    return pcm, _pieces(name, pcm, _wav_bytes(reader, stated))


class _Reader:
    """Bytes by count, out of blocks as they come."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._blocks = iter(blocks)
        self._held = bytearray()

    def peek(self, count: int) -> bytes:
        """The next `count` bytes, fewer at the end alone."""
        while len(self._held) < count and (block := next(self._blocks, None)) is not None:
            self._held += block
        return bytes(self._held[:count])

    def take(self, count: int) -> bytes:
        """As `peek`, and moves past them."""
        taken = self.peek(count)
        del self._held[: len(taken)]
        return taken


Take = Callable[[int], bytes]
"""Up to so many bytes of samples; fewer where they end, and then none."""


def _pieces(name: str, pcm: Pcm, take: Take) -> Iterator[np.ndarray]:
    size, heard = max(1, round(PIECE_SECONDS * pcm.sample_rate)) * pcm.frame_bytes, 0
    while data := take(size):
        if odd := len(data) % pcm.frame_bytes:
            _log.warning("%s: its last %d bytes are no whole sample of %d channels", name, odd, pcm.channels)
        mono = pcm.decode(data[: len(data) - odd]).mean(axis=1, dtype=np.float32)
        if not np.isfinite(mono).all():
            at = (heard + int(np.argmin(np.isfinite(mono)))) / pcm.sample_rate
            raise AudioError(f"{name}: sample at {at:.3f} s is not a finite number; mend what plays it")
        heard += len(mono)
        yield mono


def _raw_bytes(name: str, reader: _Reader) -> Take:
    checked = False

    def take(count: int) -> bytes:
        nonlocal checked
        if not checked and _is_wav(reader.peek(12)):
            raise AudioError(f"{name}: is a WAV, which tells rate and channels itself; leave --sample_rate out")
        checked = True
        return reader.take(count)

    return take


def _wav_bytes(reader: _Reader, stated: int) -> Take:
    left, padding = float(stated), stated % 2

    def take(count: int) -> bytes:
        nonlocal left
        data = reader.take(int(min(count, left)))
        left -= len(data)
        if len(data) < count and left == 0 and reader.peek(padding + 4)[padding:] not in _AFTER_DATA:
            left = float("inf")
            data += reader.take(count - len(data))
        return data

    return take


def _wav_header(name: str, reader: _Reader) -> tuple[Pcm, int]:
    """How the samples are kept, and how many bytes of them are stated; the reader is left at the first."""
    if not (start := reader.peek(12)):
        raise AudioError(f"{name}: is empty (0 bytes); give a WAV, or raw samples and --sample_rate")
    if not _is_wav(start):
        raise AudioError(
            f"{name}: is no WAV, and no other file can be heard while it comes; give raw samples and --sample_rate, as"
            " of `ffmpeg -i … -f s16le -ar 44100 -ac 1 -`"
        )
    header, large = bytearray(reader.take(12)), 0
    while len(header) < _MAX_HEADER_BYTES and len(chunk := reader.take(8)) == 8:
        header += chunk
        kind, size = struct.unpack("<4sI", chunk)
        if kind == b"data":
            return _told_by(name, bytes(header)), large if size == _IN_DS64 and large else size
        if len(header) + size > _MAX_HEADER_BYTES:
            break
        body = reader.take(size + size % 2)
        header += body
        if kind == b"ds64" and len(body) >= 16:
            large = struct.unpack_from("<Q", body, 8)[0]
    raise AudioError(f"{name}: a WAV without samples; is it damaged?")


def _told_by(name: str, header: bytes) -> Pcm:
    """What libsndfile reads in a WAV's header, up to and with that of its samples."""
    try:
        with soundfile.SoundFile(io.BytesIO(header)) as sound:
            return Pcm(sound.samplerate, sound.channels, sound.subtype)
    except soundfile.SoundFileError as error:
        raise AudioError(f"{name}: not a WAV that can be read ({error}); is it damaged?") from error
    except AudioError as error:
        raise AudioError(f"{name}: {error}") from error


def _is_wav(start: bytes) -> bool:
    return start[:4] in (b"RIFF", b"RF64") and start[8:12] == b"WAVE"
