"""The verb from end to end: notes that are played into a pipe or a growing file, by a small model."""

import contextlib
import io
import json
import os
import signal
import struct
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from absl import flags
from test_transcribe import MANIFEST, RATE, SPEC, TRUTH, SinePredictor, f1, render

from musicnet_tf import audio, inference, live_audio, scores, streaming, windowing, writers
from musicnet_tf.events import Note, Notes

pytest_plugins = ["tiny_models", "serving_backends"]
SOUND = render(TRUTH, RATE)
DATA = b"data" + struct.pack("<I", 2 * len(SOUND))
TOGETHER = 19  # frames of 16 ms: the first of them waits 0.3 s, rounded down, for the last


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Puts the sine transcriber where models are loaded; gives the names and frames that were asked for."""
    asked: list[tuple[str, int]] = []

    def load(name: str, kept: int) -> SinePredictor:
        asked.append((name, kept))
        return SinePredictor()

    monkeypatch.setattr(streaming, "load", load)
    monkeypatch.setattr(inference, "read_manifest", lambda name: MANIFEST)
    monkeypatch.setattr(inference, "load", lambda name, runtime: SinePredictor())  # of `transcribe`
    return asked


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Puts bytes, or the reading end of a pipe, where standard input is."""
    with contextlib.ExitStack() as stack:

        def put(content: bytes | int) -> str:
            if isinstance(content, int):
                file = stack.enter_context(os.fdopen(content))
            else:
                file = stack.enter_context(tempfile.TemporaryFile("w+"))
                os.pwrite(file.fileno(), content, 0)
            monkeypatch.setattr(sys, "stdin", file)
            return "-"

        yield put


def raw(sound: np.ndarray = SOUND, encoding: str = "<i2") -> bytes:
    return audio.quantise(sound).astype(encoding).tobytes() if encoding == "<i2" else sound.astype(encoding).tobytes()


def write(path: Path, sound: np.ndarray = SOUND, rate: int = RATE) -> Path:
    soundfile.write(path, sound, rate, subtype="PCM_16")
    return path


def rows_of(outcome) -> list[dict]:
    assert outcome.status == 0, outcome.stderr
    return [json.loads(line) for line in outcome.stdout.splitlines()]


def ended(rows: list[dict]) -> list[tuple]:
    return sorted((row["pitch"], row["onset"], row["offset"]) for row in rows if row["event"] == "note")


def within(outcome) -> float:
    """The latency that was stated, in seconds."""
    return float(outcome.stderr.partition("by at most ")[2].partition(" s")[0])


def test_notes_of_a_pipe_are_told_while_they_are_played(musicnet, model, pipe) -> None:
    outcome = musicnet("listen", pipe(raw()), "--sample_rate=16000")
    rows = rows_of(outcome)
    assert f1(scores_of(rows)) == 1.0
    assert model == [(inference.DEFAULT_MODEL, TOGETHER)]
    latency = within(outcome)
    for row in rows:
        told_of = row["offset"] if row["event"] == "note" else row["time"]
        # What the decoder waits for: a note of min_duration, max_gap of silence, and 7 frames.
        assert row["heard"] - told_of <= latency + 0.1 + 0.04 + 7 * 0.016 + 1e-3
    heard = [row["heard"] for row in rows]
    assert heard == sorted(heard) and heard[0] < 1.2 and heard[-1] <= 3.0
    assert "sines hears stdin; rows come after what they tell by at most " in outcome.stderr
    assert "of real time" in outcome.stderr and outcome.stderr.splitlines()[-1].endswith("5 notes in 3.0 s of audio")


def scores_of(rows: list[dict]):
    notes = [Note(r["onset"], r["offset"], r["pitch"], r["velocity"]) for r in rows if r["event"] == "note"]
    return Notes.from_list(notes)


SOURCES = {
    "raw": (raw, ["--sample_rate=16000"]),
    "raw floats": (lambda: raw(SOUND, "<f4"), ["--sample_rate=16000", "--encoding=f32le"]),
    "two channels": (lambda: raw(np.repeat(SOUND, 2)), ["--sample_rate=16000", "--channels=2"]),
    "another rate": (lambda: raw(render(TRUTH, 44100)), ["--sample_rate=44100"]),
    "wav": (lambda: wav(SOUND), []),
    "wav of unknown length": (lambda: wav(SOUND).replace(DATA, b"data\xff\xff\xff\xff"), []),
}


def wav(sound: np.ndarray) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, sound, RATE, format="WAV", subtype="PCM_16")
    return file.getvalue()


@pytest.mark.parametrize("case", SOURCES)
def test_whatever_is_piped_in(musicnet, model, pipe, case: str) -> None:
    make, options = SOURCES[case]
    found = scores_of(rows_of(musicnet("listen", pipe(make()), *options)))
    assert f1(found) == 1.0
    np.testing.assert_allclose(np.sort(found.onset), TRUTH.onset, atol=0.02)


def test_the_files_are_those_of_the_whole_recording(musicnet, model, pipe, tmp_path: Path) -> None:
    """Whatever way the sound comes, byte for byte what `musicnet transcribe` writes of the whole file."""
    path = write(tmp_path / "five.wav", render(TRUTH, 44100), 44100)
    formats = "--formats=midi,csv,jams"
    assert musicnet("transcribe", path, f"--output_dir={tmp_path / 'whole'}", formats).status == 0
    for way, args in {
        "file": [path],
        "follow": [path, "--follow", "--idle_seconds=0"],
        "pipe": [pipe(path.read_bytes())],
        "quick": [path, "--latency=0.7"],
    }.items():
        outcome = musicnet("listen", *args, f"--output_dir={tmp_path / way}", formats)
        assert outcome.status == 0, outcome.stderr
        for whole in (tmp_path / "whole").iterdir():
            name = whole.name.replace("five", "stdin" if way == "pipe" else "five")
            written = (tmp_path / way / name).read_bytes()
            assert written == whole.read_bytes() or (way, whole.suffix) == ("pipe", ".jams")  # its title
        assert len(list((tmp_path / way).iterdir())) == 3


def test_activations_are_kept_where_they_are_wanted(musicnet, model, pipe, tmp_path: Path) -> None:
    outcome = musicnet("listen", pipe(raw()), "--sample_rate=16000", f"--output_dir={tmp_path}", "--formats=npz")
    assert outcome.status == 0, outcome.stderr
    heads, clock, _ = writers.read_npz(tmp_path / "stdin.npz")
    sound = (audio.quantise(SOUND) / 32768).astype(np.float32)
    whole = windowing.posteriorgram(sound, SPEC, SinePredictor())
    assert clock == windowing.recording_clock(SPEC)
    np.testing.assert_allclose(heads["velocity"], whole["velocity"], atol=1e-3)


def test_a_growing_file_is_heard_as_it_grows(musicnet, model, tmp_path: Path, monkeypatch) -> None:
    """The second half is written once the model has heard of the first, so neither waits for the end."""
    path, data, grown, looks = tmp_path / "take.wav", wav(SOUND), threading.Event(), 0
    path.write_bytes(data[:60_000].replace(DATA, b"data\0\0\0\0"))
    windows = []

    def hear(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        windows.append(batch)
        if len(windows) == 6:  # four to learn what it costs, two of the recording
            with path.open("ab") as file:
                file.write(data[60_000:])
            grown.set()
        return call(self, batch)

    def follow(path: str, idle_seconds: float, wait):
        def look_later(seconds: float) -> object:
            nonlocal looks
            looks += grown.is_set()
            return wait(seconds)

        return of_growing_file(path, idle_seconds, look_later, clock=lambda: looks)

    call, of_growing_file = SinePredictor.__call__, live_audio.of_growing_file
    monkeypatch.setattr(SinePredictor, "__call__", hear)
    monkeypatch.setattr(live_audio, "of_growing_file", follow)  # a second is a look, so that no machine is too slow
    outcome = musicnet("listen", path, "--follow", "--idle_seconds=3", f"--output_dir={tmp_path / 'out'}")
    assert f1(scores_of(rows_of(outcome))) == 1.0
    assert f1(scores.read(tmp_path / "out/take.mid")) == 1.0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_recording_there(musicnet, model, tmp_path: Path, monkeypatch, number: int) -> None:
    path = write(tmp_path / "five.wav")
    windows = []

    def hear(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        windows.append(batch)
        if len(windows) == 9:
            signal.raise_signal(number)
        return call(self, batch)

    call, before = SinePredictor.__call__, signal.getsignal(number)
    monkeypatch.setattr(SinePredictor, "__call__", hear)
    outcome = musicnet("listen", path, "--follow", f"--output_dir={tmp_path / 'out'}", "--formats=midi")
    rows = rows_of(outcome)
    assert signal.getsignal(number) == before
    assert "stopped, and " in outcome.stderr and "that had come were not heard" in outcome.stderr
    heard = rows[-1]["heard"]
    assert 1.0 < heard < 2.5
    assert f1(scores.read(tmp_path / "out/five.mid"), TRUTH[TRUTH.onset < heard - 0.3]) == 1.0


def test_a_signal_before_any_sound_ends_it(musicnet, model, pipe, monkeypatch) -> None:
    read_end, write_end = os.pipe()

    def load(name: str, kept: int) -> SinePredictor:
        signal.raise_signal(signal.SIGINT)
        return SinePredictor()

    monkeypatch.setattr(streaming, "load", load)
    try:
        outcome = musicnet("listen", pipe(read_end), "--sample_rate=16000")
    finally:
        os.close(write_end)
    assert (outcome.status, outcome.stdout) == (0, "")
    assert "stopped before anything was heard" in outcome.stderr


def test_a_signal_amid_a_header_ends_it(musicnet, model, pipe) -> None:
    read_end, write_end = os.pipe()
    os.write(write_end, wav(SOUND)[:20])
    main_thread = threading.get_ident()

    def interrupt() -> None:
        signal.pthread_kill(main_thread, signal.SIGTERM)

    of_pipe = live_audio.of_pipe

    def hanging(descriptor: int) -> Iterator[bytes]:
        for block in of_pipe(descriptor):
            yield block
            interrupt()  # the header's beginning was taken, and nothing more will come

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live_audio, "of_pipe", hanging)
        try:
            outcome = musicnet("listen", pipe(read_end))
        finally:
            os.close(write_end)
    assert (outcome.status, outcome.stdout, model) == (0, "", [])
    assert "stopped before anything was heard" in outcome.stderr


def test_rows_for_people(musicnet, model, pipe) -> None:
    outcome = musicnet("listen", pipe(raw()), "--sample_rate=16000", "--format=text")
    first = outcome.stdout.splitlines()[0].split()
    assert first[1:3] == ["s", "onset"] and first[3::2] == ["time", "pitch", "velocity"]
    assert (float(first[4]), first[6]) == (pytest.approx(0.3, abs=0.02), "60")
    assert float(first[0]) > 0.3


def test_what_was_heard_is_written_though_the_source_fails(musicnet, model, pipe, tmp_path: Path) -> None:
    broken = np.concatenate([SOUND, np.full(RATE, np.nan)])
    options = ["--sample_rate=16000", "--encoding=f32le", "--formats=midi", f"--output_dir={tmp_path}"]
    outcome = musicnet("listen", pipe(raw(broken, "<f4")), *options)
    assert outcome.status == 1
    error = "musicnet listen: error: stdin: sample at 3.000 s is not a finite number; mend what plays it"
    assert outcome.stderr.splitlines()[-1] == error
    assert f1(scores.read(tmp_path / "stdin.mid")) == 1.0


def test_a_reader_that_goes_ends_it_with_what_was_heard(musicnet, model, pipe, tmp_path: Path) -> None:
    class Gone(io.StringIO):
        rows = 0

        def write(self, text: str) -> int:
            self.rows += text.count("event")
            if self.rows > 4:
                raise BrokenPipeError
            return len(text)

    import musicnet_tf.bin.listen as listen

    args = [pipe(raw()), "--sample_rate=16000", f"--output_dir={tmp_path}", "--formats=midi"]
    flags.FLAGS.set_gnu_getopt(True)
    with contextlib.redirect_stdout(Gone()), pytest.raises(BrokenPipeError):  # which `musicnet` itself meets quietly
        listen.main(flags.FLAGS(["musicnet listen", *args]))
    assert 1 <= len(scores.read(tmp_path / "stdin.mid")) < 5


def test_a_machine_that_cannot_keep_up_is_told(musicnet, model, pipe, monkeypatch) -> None:
    monkeypatch.setattr(streaming, "cost", lambda predictor, kept: 1.25)
    monkeypatch.setattr(streaming.Lag, "grew", lambda self, heard: 2.5 if heard > 2 else 0.0)
    error = musicnet("listen", pipe(raw()), "--sample_rate=16000").stderr
    assert "takes 125% of real time, and so falls behind; allow more --latency" in error
    assert "warning: 2.5 s of sound wait to be heard" in error


REFUSED = {
    "name one recording": [],
    "not 2": ["a.wav", "b.wav"],
    "give --model or --server": ["a.wav", "--model=x", "--server=grpc://localhost/x"],
    "give their --sample_rate, too": ["-", "--channels=2"],
    "--follow is for files": ["-", "--follow"],
    "name their folder with --output_dir": ["a.wav", "--formats=midi"],
    "a.wav: not found": ["a.wav"],
    "a.raw: cannot be read (No such file": ["a.raw", "--sample_rate=16000", "--model=here"],
    "b.wav: cannot be read (No such file": ["b.wav", "--follow"],
    "sample rate 5 Hz is not in": ["-", "--sample_rate=5"],
    "99 channels": ["-", "--sample_rate=16000", "--channels=99"],
    "stdin: is empty": ["-"],
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_makes_no_sense_is_refused(musicnet, model, pipe, message: str) -> None:
    pipe(b"")
    outcome = musicnet("listen", *REFUSED[message])
    assert outcome.status in (1, 2) and outcome.stdout == ""
    error = outcome.stderr.splitlines()[-1]
    assert error.startswith("musicnet listen: error: ") and message in error


def test_a_window_as_short_as_it_may_be_hears_the_same(tiny_run: Path, tiny_export: Path, rising_tone) -> None:
    long, short = inference.load(tiny_run), streaming.load(tiny_run, 8)
    wide, narrow = long.manifest.geometry, short.manifest.geometry
    assert narrow.num_frames == 2 * narrow.margin + 8 < wide.num_frames
    assert streaming.look_ahead(narrow, 8) == streaming.look_ahead(wide, 8)
    sound = rising_tone[:20_000]
    whole = windowing.posteriorgram(sound, wide, long)
    for head, values in join(windowing.posteriorgrams([sound], narrow, short, 1, kept=8)).items():
        np.testing.assert_allclose(values, whole[head], atol=1e-5)
    assert inference.read_manifest(tiny_run) == inference.read_manifest(tiny_export) == long.manifest


def test_an_export_is_heard_with_the_windows_that_it_has(tiny_export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "load", lambda folder: f"whole {folder}")
    assert streaming.load(tiny_export.parent, 3) == f"whole {tiny_export}"


def join(chunks) -> dict[str, np.ndarray]:
    chunks = list(chunks)
    return {head: np.concatenate([chunk[head] for chunk in chunks]) for head in chunks[0]}


def test_a_model_on_a_server_hears_the_same(musicnet, backend, tmp_path: Path, rising_tone) -> None:
    path, server = write(tmp_path / "tone.wav", rising_tone), f"--server={backend.address('grpc')}"
    heard = []
    for verb, *more in (("transcribe",), ("listen", "--latency=1.2")):
        outcome = musicnet(verb, path, server, *more, f"--output_dir={tmp_path / verb}", "--formats=npz")
        assert outcome.status == 0, outcome.stderr
        heard.append(writers.read_npz(tmp_path / verb / "tone.npz")[0])
    assert "tiny hears" in outcome.stderr
    for head, values in heard[0].items():
        assert values.std() > 1e-3
        np.testing.assert_allclose(values, heard[1][head], rtol=2e-3)  # kept as float16


def test_a_latency_that_no_model_has_is_refused(musicnet, model, pipe) -> None:
    outcome = musicnet("listen", pipe(raw()), "--sample_rate=16000", "--latency=0.1")
    assert outcome.status == 1
    assert "latency=0.1: this model's rows take up to 0." in outcome.stderr
    assert not model  # told before it was loaded
