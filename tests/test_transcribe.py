"""The verb from end to end, with a small transcriber in NumPy in place of a trained model."""

import os
import re
import tracemalloc
from pathlib import Path

import jams
import mir_eval
import numpy as np
import pytest
import soundfile
import stand_in_models

from musicnet_tf import scores, transcription, windowing, writers
from musicnet_tf.bin import _summary
from musicnet_tf.decode import decoding_of
from musicnet_tf.decode.notes import NoteDecoding, decode
from musicnet_tf.errors import AudioError, ConfigError, ModelError, VersionGoneError
from musicnet_tf.events import Note, Notes
from musicnet_tf.manifest import Manifest
from musicnet_tf.models import HeadSpec, ModelSpec
from musicnet_tf.timebase import FrameClock
from musicnet_tf.transcription import Result

RATE, HOP, KERNEL, FRAMES = 16000, 256, 4096, 80
MARGIN = KERNEL // 2 // HOP + 1
FIRST_PITCH, CLASSES = 60, 37
SPEC = ModelSpec(
    clock=FrameClock(RATE, HOP),
    window_length=FRAMES * HOP,
    num_frames=FRAMES,
    margin=MARGIN,
    heads={name: HeadSpec(CLASSES, FIRST_PITCH) for name in ("frame", "onset", "velocity")},
)
MANIFEST = Manifest(
    name="sines",
    task="notes",
    spec=SPEC.to_dict(),
    decoder={"onset_threshold": 0.15, "frame_threshold": 0.5, "min_duration": 0.1},
)
TRUTH = Notes.from_list(
    [
        Note(0.30, 0.90, 60, 127),
        Note(0.50, 1.40, 64, 64),
        Note(0.50, 1.10, 72, 100),
        Note(1.70, 2.30, 60, 40),
        Note(1.90, 2.60, 79, 90),
    ]
)


def frequency(pitch: np.ndarray) -> np.ndarray:
    return 440.0 * 2 ** ((np.asarray(pitch) - 69) / 12)


class SinePredictor:
    """Amplitude of each pitch's sine under a Hann window, its rise, and twice its level.

    Half of the window is full when a note begins in its middle: there the rise is steepest, and twice
    the level is the note's. A frame sees 2,048 samples at either side, the rise one frame more: `MARGIN`
    covers it.
    """

    manifest = MANIFEST

    def __init__(self) -> None:
        instants = np.arange(KERNEL) / RATE
        waves = np.exp(-2j * np.pi * frequency(FIRST_PITCH + np.arange(CLASSES)) * instants[:, None])
        hann = np.hanning(KERNEL)[:, None]
        self._kernel = (waves * hann * 2 / hann.sum()).astype(np.complex64)

    def __call__(self, windows: np.ndarray) -> dict[str, np.ndarray]:
        padded = np.pad(windows, ((0, 0), (KERNEL // 2 + HOP, KERNEL // 2 + HOP)))
        frames = np.lib.stride_tricks.sliding_window_view(padded, KERNEL, axis=1)[:, ::HOP][:, : FRAMES + 2]
        level = np.abs(frames @ self._kernel) / 0.25  # full velocity has an amplitude of 0.25
        now, rise = level[:, 1:-1], level[:, 2:] - level[:, :-2]
        prominent = now > np.maximum(0.08, 0.2 * now.max(axis=2, keepdims=True))
        return {"frame": prominent * 1.0, "onset": np.clip(4 * rise, 0, 1), "velocity": np.clip(2 * now, 0, 1)}


def render(notes: Notes, rate: int, seconds: float = 3.0) -> np.ndarray:
    audio = np.zeros(round(rate * seconds))
    for note in notes:
        at = np.arange(round(note.onset * rate), round(note.offset * rate))
        audio[at] += 0.25 * note.velocity / 127 * np.sin(2 * np.pi * frequency(note.pitch) * at / rate)
    return audio


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Puts the sine transcriber where models are loaded; gives the names and runtimes that were asked for."""
    return stand_in_models.put(monkeypatch, "notes", {"sines": SinePredictor(), "own": SinePredictor()})


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "five notes.wav"
    soundfile.write(path, render(TRUTH, 44100), 44100)
    return path


def write(path: Path, audio: np.ndarray, rate: int = RATE) -> Path:
    soundfile.write(path, audio, rate)
    return path


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.rglob("*"))


def f1(estimate: Notes, reference: Notes = TRUTH) -> float:
    return mir_eval.transcription.precision_recall_f1_overlap(
        reference.intervals(),
        frequency(reference.pitch),
        estimate.intervals(),
        frequency(estimate.pitch),
        offset_ratio=None,
    )[2]


def test_a_recording_becomes_all_files(musicnet, model, recording: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    outcome = musicnet("transcribe", recording, f"--output_dir={out}", "--formats=midi,csv,jams,npz,png")
    assert outcome.status == 0, outcome.stderr
    assert names(out) == [f"five notes.{suffix}" for suffix in ("csv", "jams", "mid", "npz", "png")]
    midi, csv = scores.read(out / "five notes.mid"), scores.read(out / "five notes.csv")
    assert f1(midi) == 1.0
    np.testing.assert_allclose(np.sort(midi.onset), TRUTH.onset, atol=0.02)
    velocity = {(note.pitch, round(note.onset, 1)): note.velocity for note in midi}
    assert [velocity[n.pitch, round(n.onset, 1)] for n in TRUTH] == pytest.approx(TRUTH.velocity.tolist(), abs=8)
    np.testing.assert_allclose(csv.intervals(), midi.intervals(), atol=0.001)
    jam = jams.load(str(out / "five notes.jams"))
    assert [round(o.time, 3) for o in jam.annotations[0].data] == [round(t, 3) for t in midi.onset.tolist()]
    assert jam.file_metadata.duration == pytest.approx(3.0)
    heads, clock, first_pitch = writers.read_npz(out / "five notes.npz")
    assert (clock, len(heads["frame"])) == (FrameClock(RATE, HOP), clock.num_frames(3 * RATE))
    again = decode(heads, clock, decoding_of(MANIFEST), first_pitch)
    np.testing.assert_allclose(again.onset, midi.onset, atol=0.005)  # float16 and a tick
    assert "5 notes in 3.0 s of audio" in outcome.stdout
    summary = (
        rf"1 transcribed; 5 notes in 3\.0 s of audio; real-time factor \d+\.\d{{3}}; outputs in {re.escape(str(out))}"
    )
    assert re.fullmatch(summary, outcome.stdout.splitlines()[-1])


def test_the_last_line_counts_what_became_of_recordings() -> None:
    done = [Result(Path("a"), 5, 3.0, 0.75), Result(Path("b"), 2, 7.0, 1.75)]
    others = [Result(Path("c"), skipped=True), Result(Path("d"), error="d: is empty"), Result(Path("e"), error="e: no")]
    told = "2 transcribed, 1 skipped, 2 failed; 7 notes in 10.0 s of audio; real-time factor 0.250; outputs in OUT"
    assert _summary.of([*done, *others], "notes", 2.5, "OUT") == told
    assert _summary.of(others[:1], "beats", 0.0, "OUT") == (
        "0 transcribed, 1 skipped; 0 beats in 0.0 s of audio; outputs in OUT"
    )


def test_the_file_equals_the_model_in_one_piece(recording: Path, tmp_path: Path, model) -> None:
    from musicnet_tf import audio

    predictor = SinePredictor()
    for batch_size in (1, 3, None):
        npz = transcription.chosen_formats("notes", ["npz"])
        transcription.transcribe_file(recording, predictor, tmp_path / "out", npz, batch_size=batch_size)
        heads, _, _ = writers.read_npz(tmp_path / "out" / "five notes.npz")
        whole = windowing.posteriorgram(audio.load(recording, RATE), SPEC, predictor)
        np.testing.assert_allclose(heads["velocity"], whole["velocity"], atol=1e-3)


def test_thresholds_and_model_are_passed_on(musicnet, model, recording: Path, tmp_path: Path) -> None:
    def count(*flags: str) -> int:
        assert musicnet("transcribe", recording, f"--output_dir={tmp_path}", "--formats=midi", *flags).status == 0
        return len(scores.read(tmp_path / "five notes.mid"))

    assert count("--model=own", "--batch_size=2") == 5
    assert count("--onset_threshold=1") < 5
    assert model == [("own", "auto"), ("sines", "auto")]


def test_folders_are_read_one_level_deep(musicnet, model, recording: Path, tmp_path: Path) -> None:
    folder = tmp_path / "songs"
    (folder / "deeper").mkdir(parents=True)
    write(folder / "b.flac", render(TRUTH, RATE))
    write(folder / "A.WAV", render(TRUTH[:2], RATE))
    write(folder / "deeper" / "c.wav", render(TRUTH, RATE))
    (folder / "notes.txt").write_text("not audio")
    (folder / "._b.mp3").write_text("left by a file manager")
    outcome = musicnet("transcribe", folder, recording, f"--output_dir={tmp_path / 'out'}", "--formats=midi")
    assert outcome.status == 0, outcome.stderr
    assert names(tmp_path / "out") == ["A.mid", "b.mid", "five notes.mid"]
    assert "3 transcribed; 12 notes in 9.0 s" in outcome.stdout


def test_what_exists_is_skipped(musicnet, model, recording: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    args = ("transcribe", recording, f"--output_dir={out}", "--skip_existing")
    assert musicnet(*args, "--formats=midi").status == 0
    (out / "five notes.mid").write_bytes(b"mine")
    outcome = musicnet(*args, "--formats=midi")
    assert (outcome.status, len(model)) == (0, 1)  # no model was loaded for nothing
    assert "skipped" in outcome.stdout and "0 transcribed, 1 skipped" in outcome.stdout
    assert (out / "five notes.mid").read_bytes() == b"mine"
    assert musicnet(*args, "--formats=midi,csv").status == 0  # one output is missing: all are made
    assert len(scores.read(out / "five notes.mid")) == 5


@pytest.mark.parametrize("stem", [b"pr\xc3\xa9lude no. 1", b"caf\xe9 $5", b"-x"])
def test_any_file_name_will_do(musicnet, model, tmp_path: Path, stem: bytes) -> None:
    path = tmp_path / f"{os.fsdecode(stem)}.wav"
    with path.open("wb") as file:
        soundfile.write(file, render(TRUTH, RATE), RATE, format="WAV")
    outcome = musicnet("transcribe", path, f"--output_dir={tmp_path / 'out'}", "--formats=midi,jams,png")
    assert outcome.status == 0, outcome.stderr
    assert names(tmp_path / "out") == [f"{path.stem}{suffix}" for suffix in (".jams", ".mid", ".png")]
    outcome.stdout.encode()  # a terminal would refuse what cannot be encoded
    assert stem.decode("utf-8", "replace") in outcome.stdout


def test_help_names_every_format(musicnet) -> None:
    text = musicnet("transcribe", "--help").stdout
    assert f"Any of {', '.join(writers.FORMATS)}." in text


def test_silence_has_no_notes(musicnet, model, tmp_path: Path) -> None:
    path = write(tmp_path / "silence.wav", np.zeros(2 * RATE))
    outcome = musicnet("transcribe", path, f"--output_dir={tmp_path / 'out'}", "--formats=midi,csv,jams,npz,png")
    assert outcome.status == 0, outcome.stderr
    assert len(scores.read(tmp_path / "out/silence.mid")) == len(scores.read(tmp_path / "out/silence.csv")) == 0
    assert len(jams.load(str(tmp_path / "out/silence.jams")).annotations[0].data) == 0
    assert not writers.read_npz(tmp_path / "out/silence.npz")[0]["frame"].any()


@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (192_000, 1), (44100, 6), (22050, 2)])
def test_any_rate_and_channels(musicnet, model, tmp_path: Path, rate: int, channels: int) -> None:
    audio = np.tile(render(TRUTH, rate)[:, None], channels)
    path = write(tmp_path / "odd.wav", audio, rate)
    assert musicnet("transcribe", path, f"--output_dir={tmp_path}", "--formats=midi").status == 0
    assert f1(scores.read(tmp_path / "odd.mid")) == 1.0


def test_one_sample_is_enough(musicnet, model, tmp_path: Path) -> None:
    path = write(tmp_path / "click.wav", np.ones(1))
    outcome = musicnet("transcribe", path, f"--output_dir={tmp_path}", "--formats=midi,csv,jams,npz,png")
    assert outcome.status == 0, outcome.stderr
    assert len(writers.read_npz(tmp_path / "click.npz")[0]["frame"]) == 1


def test_a_truncated_file_gives_what_it_holds(musicnet, model, recording: Path, tmp_path: Path) -> None:
    whole = recording.read_bytes()
    recording.write_bytes(whole[: len(whole) // 2])
    assert musicnet("transcribe", recording, f"--output_dir={tmp_path}", "--formats=midi").status == 0
    found = scores.read(tmp_path / "five notes.mid")
    assert f1(found, TRUTH[TRUTH.onset < 1.4]) == 1.0


BAD = {
    "missing.wav": (None, "missing.wav: not found"),
    "empty.wav": (b"", "empty.wav: is empty (0 bytes)"),
    "text.mp3": (b"I am no music at all\n" * 100, "text.mp3: not audio that can be decoded"),
    "header.wav": (b"RIFF\x24\x00\x00\x00WAVEfmt ", "header.wav: "),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_audio_is_refused(musicnet, model, tmp_path: Path, name: str) -> None:
    content, message = BAD[name]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    outcome = musicnet("transcribe", tmp_path / name, f"--output_dir={tmp_path / 'out'}")
    assert outcome.status == 1
    (line,) = outcome.stderr.splitlines()
    assert line.startswith("musicnet transcribe: error: ") and message in line
    assert names(tmp_path / "out") == []
    assert model == []  # told before a model was loaded


def test_others_go_on_past_a_bad_file(musicnet, model, recording: Path, tmp_path: Path) -> None:
    bad = tmp_path / "nan.wav"
    soundfile.write(bad, np.full(RATE, np.nan, np.float32), RATE, subtype="FLOAT")
    out = tmp_path / "out"
    outcome = musicnet("transcribe", bad, tmp_path / "gone.wav", recording, f"--output_dir={out}", "--formats=npz,midi")
    assert outcome.status == 1
    assert names(out) == ["five notes.mid", "five notes.npz"]
    assert "nan.wav: sample at 0.000 s is not a finite number" in outcome.stderr
    assert "gone.wav: not found" in outcome.stderr
    assert "1 transcribed, 2 failed; 5 notes in 3.0 s" in outcome.stdout


def test_a_broken_model_leaves_nothing(musicnet, model, recording: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(
        SinePredictor, "__call__", lambda self, w: {n: np.full((len(w), 1, 1), np.nan) for n in SPEC.heads}
    )
    outcome = musicnet("transcribe", recording, f"--output_dir={tmp_path / 'out'}", "--formats=npz,midi")
    assert outcome.status == 1 and "'frame' has shape" in outcome.stderr
    assert names(tmp_path / "out") == []


def refused(musicnet, model, *args: object) -> str:
    """The one line with which a call is refused before a model is loaded."""
    outcome = musicnet("transcribe", *args)
    assert outcome.status in (1, 2) and model == [] and outcome.stdout == ""
    (line,) = outcome.stderr.splitlines()
    return line


def test_arguments_are_checked_first(musicnet, model, recording: Path, tmp_path: Path) -> None:
    out = f"--output_dir={tmp_path / 'out'}"
    assert "unknown output format 'mp3'; choose from midi, csv" in refused(
        musicnet, model, recording, out, "--formats=mp3"
    )
    assert "name at least one recording" in refused(musicnet, model, out)
    assert "onset_threshold" in refused(musicnet, model, recording, out, "--onset_threshold=1.5")
    assert "batch_size" in refused(musicnet, model, recording, out, "--batch_size=0")
    assert "input should be greater than 0" in refused(musicnet, model, recording, out, "--onset_threshold=0")
    assert "missing: no such model" in refused(musicnet, model, recording, out, "--model=missing")
    (tmp_path / "bare").mkdir()
    assert "bare: holds no audio file" in refused(musicnet, model, tmp_path / "bare", out)
    under_a_file = refused(musicnet, model, recording, f"--output_dir={recording}/out")
    assert "cannot write there" in under_a_file and "choose another output folder" in under_a_file


def test_the_same_name_twice_is_refused(musicnet, model, recording: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "five notes.flac", render(TRUTH, RATE))
    line = refused(musicnet, model, recording, other, f"--output_dir={tmp_path / 'out'}")
    assert str(recording) in line and str(other) in line and "five notes.*" in line
    assert not (tmp_path / "out").exists()
    assert transcription.find_recordings([recording, tmp_path / "." / "five notes.wav"]) == [recording]
    with pytest.raises(AudioError, match="no recording was named"):
        transcription.find_recordings([])


@pytest.mark.parametrize("seconds", [600, pytest.param(3600, marks=pytest.mark.slow)])
def test_memory_does_not_grow_with_the_recording(tmp_path: Path, seconds: int) -> None:
    class Ticking:
        """A note every window, at the cost of nothing."""

        manifest = MANIFEST

        def __call__(self, windows: np.ndarray) -> dict[str, np.ndarray]:
            heads = {name: np.zeros((len(windows), FRAMES, CLASSES), np.float32) for name in SPEC.heads}
            heads["frame"][:, MARGIN + 5 : MARGIN + 30, 3] = heads["onset"][:, MARGIN + 5, 3] = 1
            return heads

    path = tmp_path / "long.flac"
    with soundfile.SoundFile(path, "w", RATE, 1) as file:
        for _ in range(seconds // 60):
            file.write(np.zeros(60 * RATE))
    tracemalloc.start()
    result = transcription.transcribe_file(
        path, Ticking(), tmp_path / "out", transcription.chosen_formats("notes", ["midi", "npz"])
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert result.audio_seconds == seconds
    assert result.events == pytest.approx(seconds * RATE / HOP / (FRAMES - 2 * MARGIN), abs=1)
    assert peak < 30e6  # an hour of this audio has 230 MB, its activations 100


def test_decoding_comes_from_the_manifest() -> None:
    expected = NoteDecoding(onset_threshold=0.15, frame_threshold=0.4, min_duration=0.1)
    assert decoding_of(MANIFEST, frame_threshold=0.4, onset_threshold=None) == expected
    with pytest.raises(ConfigError, match="onset_threshold=0: input should be greater than 0"):
        decoding_of(MANIFEST, onset_threshold=0)
    with pytest.raises(ModelError, match="'sines': its manifest's decoder"):
        decoding_of(MANIFEST.model_copy(update={"decoder": {"threshold": 1}}))
    beats = SPEC.to_dict() | {"heads": {"beat": {"num_classes": 1, "first_pitch": 0}}}
    with pytest.raises(ModelError, match="does task 'dance', which this program cannot decode; it knows beats, notes"):
        decoding_of(MANIFEST.model_copy(update={"task": "dance"}))
    with pytest.raises(ModelError, match="gives no notes"):
        decoding_of(MANIFEST.model_copy(update={"spec": beats}))


class Swapped(SinePredictor):
    """On a server that lets a version go in the middle of the first recording, `times` times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times, self.renewed, self._calls = times, 0, 0

    def __call__(self, windows: np.ndarray) -> dict[str, np.ndarray]:
        self._calls += 1
        if self._calls % 2 == 0 and self.renewed < self.times:
            raise VersionGoneError("grpc://h/sines@1: gone")
        return super().__call__(windows)

    def renew(self) -> None:
        self.renewed, self._calls = self.renewed + 1, 0
        if self.renewed == self.times:
            self.manifest = MANIFEST.model_copy(update={"decoder": {**MANIFEST.decoder, "min_duration": 0.7}})


def test_a_recording_begins_again_where_its_models_version_is_gone(recording: Path, tmp_path: Path) -> None:
    midi = transcription.chosen_formats("notes", ["midi"])
    (result,) = transcription.transcribe_batch([recording], Swapped(3), tmp_path / "out", midi, batch_size=1)
    assert (result.error, result.events) == ("", 2)  # once each, and as the last version would have them
    found = scores.read(tmp_path / "out" / "five notes.mid")
    assert f1(found, Notes.from_list([note for note in TRUTH if note.offset - note.onset >= 0.7])) == 1.0
    (result,) = transcription.transcribe_batch([recording], Swapped(21), tmp_path / "again", midi, batch_size=1)
    assert "gone" in result.error and not list((tmp_path / "again").iterdir())
