"""Sound that is still coming: bytes in any blocks, headers that do not know the end, files that grow, a thread."""

import io
import os
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from musicnet_tf import audio, live_audio
from musicnet_tf.errors import AudioError
from musicnet_tf.live_audio import Pcm, ReadAhead

RATE = 8000
NOISE = np.random.default_rng(3).uniform(-1, 1, (1001, 2))
SUBTYPES = ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"]


def wav(samples: np.ndarray = NOISE, subtype: str = "PCM_16", kind: str = "WAV") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format=kind, subtype=subtype)
    return file.getvalue()


def data_at(file: bytes) -> int:
    """Where the samples of a WAV begin."""
    return file.index(b"data") + 8


def stating(file: bytes, length: int) -> bytes:
    """The same WAV, whose header states another length of its samples, in bytes."""
    at = data_at(file)
    return file[: at - 4] + struct.pack("<I", length) + file[at:]


def cut(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    """Blocks of these sizes, and the rest."""
    for size in sizes:
        yield data[:size]
        data = data[size:]
    yield data


def heard(data: bytes, raw: Pcm | None = None, sizes: tuple[int, ...] = ()) -> np.ndarray:
    _, pieces = live_audio.decode(cut(data, list(sizes)), "stdin", raw)
    return np.concatenate(list(pieces))


@pytest.mark.parametrize("subtype", SUBTYPES)
@pytest.mark.parametrize("kind", ["WAV", "WAVEX", "RF64"])
def test_a_wav_is_heard_as_the_file_is_read(kind: str, subtype: str) -> None:
    file = wav(subtype=subtype, kind=kind)
    pcm, pieces = live_audio.decode([file], "stdin")
    assert (pcm.sample_rate, pcm.channels, pcm.subtype) == (RATE, 2, subtype)
    pieces = list(pieces)
    assert [len(piece) for piece in pieces] == [80] * 12 + [41]  # of 10 ms
    np.testing.assert_array_equal(np.clip(np.concatenate(pieces), -1, 1), audio.load(file))


@given(sizes=st.lists(st.integers(0, 600), max_size=20), channels=st.integers(1, 3), raw=st.booleans())
def test_blocks_of_any_sizes_are_heard_alike(sizes: list[int], channels: int, raw: bool) -> None:
    samples = np.random.default_rng(channels).integers(-30000, 30000, (700, channels)).astype("<i2")
    whole = samples.tobytes() if raw else wav(samples)
    _, pieces = live_audio.decode(cut(whole, sizes), "stdin", Pcm(RATE, channels) if raw else None)
    pieces = list(pieces)
    assert [len(piece) for piece in pieces] == [80] * 8 + [60]
    np.testing.assert_array_equal(np.concatenate(pieces), (samples / 32768).mean(axis=1, dtype=np.float32))


def test_raw_floats_are_samples_as_they_are() -> None:
    samples = np.array([0.25, -1.5, 0.5, 1.5], "<f4")
    np.testing.assert_array_equal(heard(samples.tobytes(), Pcm(RATE, 2, "FLOAT")), np.float32([-0.625, 1.0]))


@pytest.mark.parametrize("stated", [0, 8, 1000, 4003, 4005, 0x7FFFF000, 0xFFFFFFFF])
def test_the_length_that_a_header_states_is_not_believed(stated: int) -> None:
    file = wav()
    assert len(file) - data_at(file) == 4004
    np.testing.assert_array_equal(heard(stating(file, stated)), audio.load(file))


@pytest.mark.parametrize("tag", [b"LIST", b"id3 ", b"bext", b"cue "])
@pytest.mark.parametrize("samples", [500, 501])
def test_what_follows_the_samples_is_not_heard(tag: bytes, samples: int) -> None:
    file = wav(NOISE[:samples, :1], "PCM_U8")  # of an odd length, 501 samples are padded
    assert len(file) - data_at(file) == samples + samples % 2
    tagged = file + tag + struct.pack("<I", 4000) + bytes(range(250)) * 16
    assert len(heard(tagged)) == samples
    np.testing.assert_array_equal(heard(tagged), audio.load(file))


def test_a_length_beyond_32_bits_is_read() -> None:
    file = wav(kind="RF64") + b"LIST" + struct.pack("<I", 4) + b"INFO"
    assert struct.unpack("<I", file[data_at(file) - 4 : data_at(file)]) == (0xFFFFFFFF,)
    assert len(heard(file)) == 1001


def test_a_sample_that_breaks_off_is_told(caplog: pytest.LogCaptureFixture) -> None:
    assert len(heard(b"\1\2\3\4" * 10 + b"\1\2\3", Pcm(RATE, 2))) == 10
    assert "stdin: its last 3 bytes are no whole sample of 2 channels" in caplog.text
    caplog.clear()
    assert len(heard(b"\1\2\3\4" * 10, Pcm(RATE, 2))) == 10
    assert not caplog.text


REFUSED = {
    "empty": (b"", "stdin: is empty"),
    "flac": (wav(kind="FLAC"), "stdin: is no WAV, .* --sample_rate, as of `ffmpeg"),
    "raw": (b"\1\2" * 1000, "stdin: is no WAV"),
    "no samples": (wav()[:30], "stdin: a WAV without samples"),
    "endless header": (wav()[:12] + b"junk\xff\xff\xff\xff" + bytes(2_000_000), "stdin: a WAV without samples"),
    "many headers": (wav()[:12] + b"junk\0\0\0\0" * 200_000, "stdin: a WAV without samples"),
    "no format": (wav()[:12] + wav()[36:], r"stdin: not a WAV that can be read \("),
    "compressed": (wav(NOISE[:, :1], "IMA_ADPCM"), "stdin: IMA_ADPCM is not PCM; convert it"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_heard_is_refused(case: str) -> None:
    data, message = REFUSED[case]
    with pytest.raises(AudioError, match=message):
        live_audio.decode([data], "stdin")


@settings(max_examples=100)
@given(
    kind=st.sampled_from(["WAV", "WAVEX", "RF64"]),
    changes=st.lists(st.tuples(st.integers(0, 100), st.integers(0, 255)), max_size=6),
    length=st.integers(0, 400),
)
def test_a_damaged_header_is_refused_or_heard_and_does_nothing_worse(kind, changes, length) -> None:
    data = bytearray(wav(NOISE[:50], kind=kind))
    for at, value in changes:
        data[at] = value
    try:
        samples = [sample for piece in live_audio.decode([bytes(data[:length])], "stdin")[1] for sample in piece]
    except AudioError as error:
        assert str(error).startswith("stdin: ")
    else:
        assert len(samples) <= length and np.isfinite(samples).all()


def test_what_contradicts_itself_is_refused() -> None:
    with pytest.raises(AudioError, match=r"stdin: is a WAV, .*leave --sample_rate out"):
        heard(wav(), Pcm(RATE))
    nan = np.zeros(200, "<f4")
    nan[150] = np.nan
    with pytest.raises(AudioError, match=r"stdin: sample at 0.019 s is not a finite number"):
        heard(nan.tobytes(), Pcm(RATE, 1, "FLOAT"))
    with pytest.raises(AudioError, match="sample rate 999 Hz is not in 1000"):
        Pcm(999)
    with pytest.raises(AudioError, match="65 channels; 1 to 64"):
        Pcm(RATE, 65)


def test_a_pipe_gives_what_there_is() -> None:
    """Each block is there before the next is written: nothing waits for a buffer to be full."""
    read_end, write_end = os.pipe()
    blocks = live_audio.of_pipe(read_end)
    for data in (b"a", b"bcd", b"ef"):
        os.write(write_end, data)
        assert next(blocks) == data
    os.close(write_end)
    assert list(blocks) == []
    os.close(read_end)


class Script:
    """Time that passes only while a growing file is waited for, and what happens meanwhile."""

    def __init__(self, *steps: Callable[[], object]) -> None:
        self.now, self.steps = 0.0, list(steps)

    def wait(self, seconds: float) -> object:
        self.now += seconds
        return self.steps.pop(0)() if self.steps else False

    def clock(self) -> float:
        return self.now


def test_a_file_is_followed_until_it_rests(tmp_path: Path) -> None:
    path = tmp_path / "growing.raw"
    path.write_bytes(b"one")

    def append(data: bytes) -> None:
        with path.open("ab") as file:
            file.write(data)

    def rest() -> None:
        script.now += 1.9

    script = Script(lambda: append(b"two"), rest, lambda: append(b"three"), rest, lambda: None)
    blocks = live_audio.of_growing_file(path, 2.0, script.wait, script.clock)
    assert list(blocks) == [b"one", b"two", b"three"]
    assert script.now == pytest.approx(2 * 1.9 + 6 * live_audio.POLL_SECONDS, abs=live_audio.POLL_SECONDS)


def test_following_ends_at_a_wish_or_at_once(tmp_path: Path) -> None:
    path = tmp_path / "growing.raw"
    path.write_bytes(b"one")
    script = Script(lambda: False, lambda: True)
    assert list(live_audio.of_growing_file(path, 1e9, script.wait, script.clock)) == [b"one"]
    assert list(live_audio.of_growing_file(path, 0.0, pytest.fail)) == [b"one"]  # type: ignore[arg-type]


def test_a_file_that_is_cut_or_missing_is_told(tmp_path: Path) -> None:
    path = tmp_path / "growing.raw"
    path.write_bytes(b"one")
    script = Script(lambda: path.write_bytes(b"o") and None)
    with pytest.raises(AudioError, match=r"growing.raw: was cut while it was listened to"):
        list(live_audio.of_growing_file(path, 9.0, script.wait, script.clock))
    with pytest.raises(AudioError, match=r"gone.raw: cannot be read \(No such file"):
        list(live_audio.of_growing_file(tmp_path / "gone.raw", 9.0, script.wait))


def test_reading_ahead_gives_all_in_order() -> None:
    blocks = [bytes([n]) * n for n in range(1, 200)]
    ahead = ReadAhead(blocks, threading.Event(), max_bytes=300)
    assert list(ahead) == blocks
    assert ahead.waiting == 0


def test_what_waits_is_bounded_and_the_source_has_to_wait() -> None:
    """With 10 bytes allowed, blocks of 4 are taken until 12 wait, and one more is in the reader's hand."""
    taken, fifth = [], threading.Event()

    def source() -> Iterator[bytes]:
        for n in range(10):
            taken.append(n)
            if n == 4:
                fifth.set()
            yield b"1234"

    ahead = ReadAhead(source(), threading.Event(), max_bytes=10)
    blocks = iter(ahead)
    assert next(blocks) == b"1234"  # so that there is room for the fifth, and for no sixth
    assert fifth.wait(60)
    assert len(taken) == 5 and ahead.waiting <= 12
    assert sum(map(len, blocks)) == 36
    assert len(taken) == 10


def test_an_error_of_the_source_comes_after_what_came_before() -> None:
    def source() -> Iterator[bytes]:
        yield b"one"
        raise AudioError("the cable is out")

    blocks = iter(ReadAhead(source(), threading.Event()))
    assert next(blocks) == b"one"
    with pytest.raises(AudioError, match="the cable is out"):
        next(blocks)


def test_a_wish_to_stop_is_heard_while_the_source_hangs() -> None:
    stop, hangs, never = threading.Event(), threading.Event(), threading.Event()

    def source() -> Iterator[bytes]:
        yield b"one"
        hangs.set()
        never.wait(60)

    blocks = iter(ReadAhead(source(), stop))
    assert next(blocks) == b"one"
    assert hangs.wait(60)
    threading.Timer(0.0, stop.set).start()
    assert list(blocks) == []
    never.set()


def test_how_long_the_source_took_is_counted_from_its_first_bytes() -> None:
    times = iter([100.0, 100.5, 103.0])
    ahead = ReadAhead([b"1", b"2", b"3"], threading.Event(), clock=lambda: next(times))
    assert list(ahead) == [b"1", b"2", b"3"]
    assert ahead.took == 3.0
