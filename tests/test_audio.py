"""Audio: every container to the same samples, bounded memory, and one clear line for what is not audio."""

from __future__ import annotations

import io
import os
import threading
import tracemalloc
from fractions import Fraction
from pathlib import Path

import av
import librosa
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from musicnet_tf import audio
from musicnet_tf.errors import AudioError

RATE = 44100
FREQUENCY = 440.0
ONSET = 0.25

LOSSLESS = {
    "wav16": ("WAV", "PCM_16"),
    "wav24": ("WAV", "PCM_24"),
    "float": ("WAV", "FLOAT"),
    "flac": ("FLAC", "PCM_16"),
}
LOSSY = {"ogg": ("OGG", "VORBIS"), "mp3": ("MP3", "MPEG_LAYER_III")}


def tone(sample_rate: int = RATE, seconds: float = 2.0, level: float = 0.5) -> np.ndarray:
    """A sine that sets in at `ONSET`."""
    t = np.arange(round(seconds * sample_rate)) / sample_rate
    return (level * np.sin(2 * np.pi * FREQUENCY * (t - ONSET)) * (t >= ONSET)).astype(np.float32)


def packed(
    samples: np.ndarray, sample_rate: int = RATE, container: str = "WAV", subtype: str | None = "FLOAT"
) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, sample_rate, format=container, subtype=subtype)
    return buffer.getvalue()


def packed_m4a(samples: np.ndarray, sample_rate: int = RATE) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=sample_rate, layout="stereo")
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T), format="fltp", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = sample_rate, 0, Fraction(1, sample_rate)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def png() -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="image2pipe") as container:
        stream = container.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "rgb24"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def sine_frequency(samples: np.ndarray, sample_rate: int) -> float:
    """The strongest frequency, by a parabola through the log spectrum's peak."""
    power = np.log(np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) + 1e-12)
    k = int(np.argmax(power))
    a, b, c = power[k - 1 : k + 2]
    return (k + 0.5 * (a - c) / (a - 2 * b + c)) * sample_rate / len(samples)


@pytest.mark.parametrize("kind", [*LOSSLESS, *LOSSY, "m4a"])
def test_every_container_gives_the_same_sound(kind: str) -> None:
    stereo = np.stack([tone(level=0.6), tone(level=0.2)], axis=1)
    data = packed_m4a(stereo) if kind == "m4a" else packed(stereo, RATE, *(LOSSLESS | LOSSY)[kind])
    decoded = audio.load(data, 22050)
    want = librosa.resample(tone(level=0.4), orig_sr=RATE, target_sr=22050, res_type="soxr_hq")

    assert decoded.dtype == np.float32
    steady = decoded[int(0.5 * 22050) : int(1.5 * 22050)]
    assert sine_frequency(steady, 22050) == pytest.approx(FREQUENCY, rel=1e-3)
    assert np.sqrt(np.mean(steady**2)) == pytest.approx(0.4 / np.sqrt(2), rel=1e-2)
    # The delay of an encoder must be gone: to the sample by the sine's phase, and by its onset, since phases repeat.
    lags = np.arange(-12, 13)
    fit = [np.sum((decoded[200 + lag : 40000 + lag] - want[200:40000]) ** 2) for lag in lags]
    assert abs(lags[np.argmin(fit)]) <= 1
    rising = int(np.argmax(np.abs(decoded) > 0.1)) / 22050
    assert rising == pytest.approx(ONSET, abs=0.003)
    if kind in LOSSLESS:
        np.testing.assert_allclose(decoded, want, atol=5e-5)


@pytest.mark.parametrize("sample_rate", [8000, 96000, 192000])
@pytest.mark.parametrize("channels", [1, 6])
def test_any_rate_and_channel_count_is_mixed_and_resampled(sample_rate: int, channels: int) -> None:
    levels = 0.6 / 2.0 ** np.arange(channels)
    samples = np.stack([tone(sample_rate, level=level) for level in levels], axis=1)
    data = packed(samples, sample_rate)
    assert audio.probe(data) == audio.AudioInfo(sample_rate, channels, 2 * sample_rate, 2.0)
    decoded = audio.load(data, 16000)
    want = librosa.resample(samples.mean(axis=1), orig_sr=sample_rate, target_sr=16000, res_type="soxr_hq")
    assert len(decoded) == 32000
    np.testing.assert_allclose(decoded, want, atol=1e-5)


def test_path_file_bytes_and_pipe_are_read_alike(tmp_path: Path) -> None:
    data = packed(tone(), subtype="PCM_16")
    path = tmp_path / "tone.wav"
    path.write_bytes(data)
    want = audio.load(data, 16000)
    np.testing.assert_array_equal(audio.load(path, 16000), want)
    np.testing.assert_array_equal(audio.load(str(path), 16000), want)
    with path.open("rb") as file:
        file.read(7)
        np.testing.assert_array_equal(audio.load(file, 16000), want)
        assert not file.closed
    end, start = os.pipe()
    with os.fdopen(end, "rb") as pipe, os.fdopen(start, "wb") as feed:
        thread = threading.Thread(target=lambda: (feed.write(data), feed.close()))
        thread.start()
        np.testing.assert_array_equal(audio.load(pipe, 16000), want)
        thread.join()


def test_libsndfile_reads_files_by_itself_and_lets_go_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Called back, it would take Ctrl-C for the end of the file: half a recording, noted as done."""
    whole, damaged = tmp_path / "whole.wav", tmp_path / "damaged.wav"
    whole.write_bytes(packed(tone()))
    damaged.write_bytes(b"RIFF and nothing more")
    monkeypatch.setattr(soundfile.SoundFile, "_init_virtual_io", lambda *_: pytest.fail("it calls back"))
    before = len(list(Path("/proc/self/fd").iterdir()))
    np.testing.assert_array_equal(audio.load(whole), tone())
    with whole.open("rb") as file:
        np.testing.assert_array_equal(audio.load(file), tone())
    with pytest.raises(AudioError):
        audio.load(damaged)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_pipe_under_a_name_is_refused(tmp_path: Path) -> None:
    """As shells make of `<(…)`: a recording is looked at before it is read."""
    reads, writes = os.pipe()
    try:
        with pytest.raises(AudioError, match="is a pipe, which cannot be read twice"):
            audio.probe(f"/dev/fd/{reads}")
    finally:
        os.close(reads)
        os.close(writes)


def test_without_a_rate_the_file_keeps_its_own() -> None:
    samples = np.random.default_rng(0).uniform(-1, 1, 5000).astype(np.float32)
    np.testing.assert_array_equal(audio.load(packed(samples, 11025)), samples)


@settings(max_examples=25, deadline=None)
@given(
    samples=st.integers(1, 60000),
    seconds=st.floats(0.01, 3.0),
    rates=st.tuples(st.sampled_from([8000, 22050, 44100]), st.sampled_from([8000, 16000, 44100])),
)
def test_blocks_joined_are_the_whole(samples: int, seconds: float, rates: tuple[int, int]) -> None:
    source, target = rates
    data = packed(np.random.default_rng(samples).uniform(-0.5, 0.5, samples), source)
    if samples * target / source < 0.5:
        with pytest.raises(AudioError, match=f"shorter than one sample at {target} Hz"):
            audio.load(data, target)
        return
    pieces = list(audio.blocks(data, target, seconds))
    assert {len(piece) for piece in pieces[:-1]} <= {max(1, round(seconds * target))}
    np.testing.assert_array_equal(np.concatenate(pieces), audio.load(data, target))
    assert abs(sum(map(len, pieces)) - samples * target / source) <= 1


def test_samples_in_memory_are_resampled_as_those_of_a_file() -> None:
    samples = np.random.default_rng(3).uniform(-1, 1, 100_000).astype(np.float32)
    np.testing.assert_array_equal(audio.resample(samples, RATE, 16000), audio.load(packed(samples), 16000))


@pytest.mark.parametrize("read", [audio.load, lambda data, rate: next(audio.blocks(data, rate))])
def test_less_than_one_sample_is_refused_in_one_line(read: object) -> None:
    with pytest.raises(AudioError, match=r"^<.* bytes>: is shorter than one sample at 16000 Hz; give a longer"):
        read(packed(np.array([0.5])), 16000)  # type: ignore[operator]
    with pytest.raises(AudioError, match=r"^clip: is shorter than one sample at 16000 Hz"):
        audio.resample(np.array([0.5]), RATE, 16000, "clip")
    assert len(audio.load(packed(np.array([0.5])))) == 1
    assert len(audio.load(packed(np.array([0.5, 0.5])), 22050)) == 1


def packed_adts(samples: np.ndarray, sample_rate: int) -> bytes:
    """AAC as it is broadcast: every frame tells its own rate and channels, `samples` being (samples, channels)."""
    buffer, layout = io.BytesIO(), ("mono", "stereo")[samples.shape[1] - 1]
    with av.open(buffer, "w", format="adts") as container:
        stream = container.add_stream("aac", rate=sample_rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T), format="fltp", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = sample_rate, 0, Fraction(1, sample_rate)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


@pytest.mark.parametrize(("rate", "channels"), [(22050, 2), (RATE, 1), (22050, 1)])
def test_a_file_that_changes_rate_or_channels_midway_is_read_to_its_end(rate: int, channels: int) -> None:
    first = packed_adts(np.stack([tone()] * 2, axis=1), RATE)
    second = packed_adts(np.stack([tone(rate)] * channels, axis=1), rate)
    samples = audio.load(first + second)  # at the rate that it begins with
    assert len(samples) / RATE == pytest.approx(4.0, abs=0.2)  # AAC pads each half to whole frames
    for part in (samples[RATE // 2 : RATE], samples[3 * RATE : 3 * RATE + RATE // 2]):
        assert sine_frequency(part, RATE) == pytest.approx(FREQUENCY, abs=1)
        assert np.abs(part).max() == pytest.approx(0.5, abs=0.05)


def test_what_the_decoder_cannot_convert_ends_the_file_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Resampler:
        def __init__(self, **options: object) -> None:
            self.inner, self.left = converter(**options), 20

        def resample(self, frame: av.AudioFrame | None) -> list[av.AudioFrame]:
            self.left -= 1
            if self.left < 0:
                raise ValueError("Frame does not match AudioResampler setup.")
            return self.inner.resample(frame)

    converter = av.AudioResampler
    monkeypatch.setattr(av, "AudioResampler", Resampler)
    samples = audio.load(packed_adts(np.stack([tone()] * 2, axis=1), RATE))
    assert len(samples) == pytest.approx(20 * 1024, abs=1024)
    (record,) = caplog.records
    assert "truncated or damaged" in record.getMessage()
    assert "Frame does not match" in record.getMessage()


def test_an_hour_streams_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "hour.wav"
    soundfile.write(path, np.full(8, 0.25), 8000, subtype="PCM_16")
    header = bytearray(path.read_bytes()[:44])
    data_bytes = 3600 * 8000 * 2
    header[4:8], header[40:44] = (n.to_bytes(4, "little") for n in (36 + data_bytes, data_bytes))
    with path.open("wb") as file:
        file.write(header)
        file.truncate(44 + data_bytes)

    tracemalloc.start()
    try:
        length = sum(len(block) for block in audio.blocks(path, 16000))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert length == 3600 * 16000
    assert peak < 8e6  # the whole is 230 MB


@pytest.mark.parametrize("encoding", ["flac", "pcm_s16le"])
def test_encodings_give_back_the_quantised_samples(encoding: audio.Encoding) -> None:
    samples = np.random.default_rng(1).uniform(-1.2, 1.2, 30000).astype(np.float32)
    decoded = audio.decode(audio.encode(samples, 16000, encoding), encoding)
    np.testing.assert_array_equal(decoded * 32768, audio.quantise(samples))


def test_quantise_rounds_and_clips_at_full_scale() -> None:
    values = [0.0, 0.5, -0.5, 1.0, -1.0, 1.5, 1.4 / 32768, -1.6 / 32768]
    assert audio.quantise(np.array(values)).tolist() == [0, 16384, -16384, 32767, -32768, 32767, 1, -2]


def test_pcm_is_little_endian_without_header() -> None:
    assert audio.encode(np.array([1 / 32768, -1.0]), 16000, "pcm_s16le") == b"\x01\x00\x00\x80"


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: audio.encode(np.zeros((3, 2)), 16000, "flac"), r"shape \(3, 2\)"),
        (lambda: audio.encode(np.zeros(0), 16000, "flac"), "at least one sample"),
        (lambda: audio.encode(np.zeros(9), 16000, "mp3"), "'mp3'; choose flac or pcm_s16le"),
        (lambda: audio.encode(np.zeros(9), 2_000_000, "flac"), "2000000 Hz audio as FLAC"),
        (lambda: audio.decode(b"\0\0\0", "pcm_s16le"), "3 bytes is not a whole number"),
        (lambda: audio.decode(b"fLaC" + bytes(50), "flac"), "not audio that can be decoded"),
        (lambda: audio.decode(b"\0\0", "mp3"), "'mp3'; choose"),
    ],
)
def test_what_cannot_be_encoded_or_decoded_is_refused(act: object, message: str) -> None:
    with pytest.raises(AudioError, match=message):
        act()  # type: ignore[operator]


def silence(container: str, subtype: str, seconds: int) -> bytes:
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", RATE, 1, subtype, format=container) as file:
        for _ in range(seconds):
            file.write(np.zeros(RATE, np.float32))
    return buffer.getvalue()


def without_length(flac: bytes) -> bytes:
    """The number of samples is the last 36 bits of the eighteen bytes from 8 on (RFC 9639, 8.2); 0 is unknown."""
    return flac[:21] + bytes([flac[21] & 0xF0, 0, 0, 0, 0]) + flac[26:]


@pytest.mark.parametrize("kind", ["stated", "unstated", "ogg"])
def test_a_small_file_of_long_silence_is_refused_before_it_is_all_decoded(kind: str) -> None:
    data = silence("OGG", "VORBIS", 40) if kind == "ogg" else silence("FLAC", "PCM_16", 600)
    assert len(data) < 600_000
    data = without_length(data) if kind == "unstated" else data
    message = "lasts longer than 10 s, more than is decoded; cut it into parts"
    if kind != "unstated":
        with pytest.raises(AudioError, match=message):
            audio.probe(data, max_seconds=10)
    seconds = 0.0
    with pytest.raises(AudioError, match=message) as caught:
        for block in audio.blocks(data, 16000, block_seconds=1.0, max_seconds=10):
            seconds += len(block) / 16000
    assert seconds <= 10 if kind == "unstated" else seconds == 0
    assert "\n" not in str(caught.value)
    with pytest.raises(AudioError, match=message):
        audio.load(data, max_seconds=10)


def test_a_file_may_last_as_long_as_the_limit_and_by_default_a_day() -> None:
    data = silence("FLAC", "PCM_16", 3)
    assert len(audio.load(data, max_seconds=3.0)) == 3 * RATE
    with pytest.raises(AudioError, match=r"longer than 2\.9999 s"):
        audio.load(data, max_seconds=2.9999)
    header = bytearray(packed(np.zeros(10), 8000, "FLAC", "PCM_16"))
    for seconds, refused in ((24 * 3600, False), (24 * 3600 + 1, True)):
        header[21:26] = (int(header[21] & 0xF0) << 32 | seconds * 8000).to_bytes(5, "big")
        if refused:
            with pytest.raises(AudioError, match="longer than 86400 s"):
                audio.probe(bytes(header))
        else:
            assert audio.probe(bytes(header)).duration == seconds


def test_a_flac_that_states_no_length_is_read_to_its_end(caplog: pytest.LogCaptureFixture) -> None:
    data = packed(tone(8000, 6.25), 8000, "FLAC", "PCM_16")
    assert audio.probe(without_length(data)).num_samples is None
    np.testing.assert_allclose(audio.load(without_length(data)), audio.load(data), atol=1e-6)
    assert not caplog.records


def test_silence_is_audio() -> None:
    np.testing.assert_array_equal(audio.load(packed(np.zeros(800), 8000), 8000), np.zeros(800))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"Not a sound, but a letter.\n" * 50, "not audio that can be decoded"),
        (png(), "holds no audio track"),
        (np.random.default_rng(0).bytes(20000), "not audio that can be decoded"),
        (packed(np.zeros(0)), "holds no samples"),
        (packed(tone())[:30], "not audio that can be decoded"),
        (packed(tone(), container="FLAC", subtype="PCM_16")[:600], "no sample could be decoded|not audio"),
        (packed(np.zeros(99), 200), "sample rate 200 Hz is not in"),
        (packed(np.zeros(99), 5_000_000), "sample rate 5000000 Hz is not in"),
        (packed(np.zeros((99, 65), np.float32), 8000), "65 channels; 1 to 64"),
        (packed(np.array([0, 0.5, np.nan, 0], np.float32), 8000), r"sample at 0\.000 s is not a finite number"),
        (packed(np.r_[np.zeros(20000), np.inf, np.zeros(9)].astype("f4"), 8000), r"at 2\.500 s is not a finite"),
        (b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\ntone.ts\n#EXT-X-ENDLIST\n", "not audio that can be decoded"),
        (b"ffconcat version 1.0\nfile tone.wav\n", "not audio that can be decoded"),
    ],
)
def test_bad_files_are_named_with_what_is_wrong(tmp_path: Path, content: bytes, message: str) -> None:
    """Playlists among them: they would make the decoder open whatever file or address they name."""
    (tmp_path / "tone.wav").write_bytes(packed(tone()))
    (tmp_path / "tone.ts").write_bytes(packed(tone(), container="MP3", subtype="MPEG_LAYER_III"))
    path = tmp_path / "bad.audio"
    path.write_bytes(content)
    with pytest.raises(AudioError, match=message) as caught:
        audio.load(path, 16000)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_path_that_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"none\.wav: not found"):
        audio.load(tmp_path / "none.wav", 16000)
    with pytest.raises(AudioError, match=f"{tmp_path.name}: is a folder"):
        audio.probe(tmp_path)


@pytest.mark.parametrize("sample_rate", [0, -16000, 10**9])
def test_an_absurd_wanted_rate_is_refused(sample_rate: int) -> None:
    with pytest.raises(AudioError, match="requested: sample rate"):
        audio.load(packed(tone()), sample_rate)


@pytest.mark.parametrize("kind", [*LOSSLESS, *LOSSY])
def test_a_cut_file_gives_what_is_there_and_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    noise = np.random.default_rng(5).uniform(-0.5, 0.5, 10 * RATE)
    data = packed(noise, RATE, *(LOSSLESS | LOSSY)[kind])
    path = tmp_path / f"cut.{kind}"
    path.write_bytes(data[: len(data) // 2])
    seconds = len(audio.load(path)) / RATE
    assert 4.0 < seconds < 5.2
    (record,) = caplog.records
    assert record.getMessage().startswith(f"{path}: truncated or damaged")
    assert f"read {seconds:.2f} s" in record.getMessage()


@pytest.mark.parametrize("kind", [*LOSSLESS, *LOSSY])
def test_a_whole_file_gives_no_warning(caplog: pytest.LogCaptureFixture, kind: str) -> None:
    audio.load(packed(tone(), RATE, *(LOSSLESS | LOSSY)[kind]), 16000)
    assert not caplog.records


def test_a_cut_m4a_without_its_index_is_refused() -> None:
    data = packed_m4a(np.stack([tone(), tone()], axis=1))
    with pytest.raises(AudioError, match="not audio that can be decoded"):
        audio.load(data[: len(data) // 2])


def test_samples_beyond_full_scale_are_clipped_and_told(caplog: pytest.LogCaptureFixture) -> None:
    scaled = packed(tone() * 32768)
    assert np.abs(audio.load(scaled)).max() == 1.0
    (record,) = caplog.records
    assert "clipped to 1" in record.getMessage()
