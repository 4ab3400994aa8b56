"""The verb `beats` from end to end, with a tracker of clicks in NumPy in place of a trained model."""

import csv
from pathlib import Path

import click_tracks
import jams
import mir_eval
import numpy as np
import pytest
import soundfile
import stand_in_models
import verb_checks
from click_tracks import FRAMES, HOP, RATE, SPEC, TRUTH

from musicnet_tf import beat_writers, windowing, writers
from musicnet_tf.decode.beats import BeatDecoding
from musicnet_tf.events import UNKNOWN, Beats
from musicnet_tf.manifest import Manifest
from musicnet_tf.scores.beats import read_beats

MANIFEST = Manifest(name="clicks", task="beats", spec=SPEC.to_dict(), decoder={"beats_per_bar": [3, 4]})


class ClickPredictor:
    """A frame with anything loud in it is a beat, one with anything louder a downbeat."""

    manifest = MANIFEST

    def __call__(self, windows: np.ndarray) -> dict[str, np.ndarray]:
        loudest = np.abs(windows).reshape(len(windows), FRAMES, HOP).max(axis=2)[..., np.newaxis]
        return {"beat": (loudest > 0.25) * 0.98, "downbeat": (loudest > 0.7) * 0.98}


class NotePredictor(ClickPredictor):
    """The same, but it says that these are notes."""

    manifest = MANIFEST.model_copy(update={"task": "notes"})


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Puts the click tracker where models are loaded; gives the names and runtimes that were asked for."""
    models = {"clicks": ClickPredictor(), "own": ClickPredictor(), "other": NotePredictor()}
    return stand_in_models.put(monkeypatch, "beats", models)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    return click_tracks.write(tmp_path / "waltz.wav", TRUTH)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


def found(musicnet, recording: Path, *args: str) -> tuple[Beats, str]:
    """The beats of a recording, and what is printed of it."""
    out = recording.parent / "found"
    outcome = musicnet("beats", recording, f"--output_dir={out}", "--formats=beats", *args)
    assert outcome.status == 0, outcome.stderr
    return read_beats(out / f"{recording.stem}.beats"), outcome.stdout


def test_a_recording_becomes_all_files(musicnet, model, recording, tmp_path):
    out, kinds = tmp_path / "out", list(beat_writers.FORMATS)
    outcome = musicnet("beats", recording, f"--output_dir={out}", f"--formats={','.join(kinds)}")
    assert outcome.status == 0, outcome.stderr
    assert names(out) == [f"waltz.{suffix}" for suffix in ("beats", "click.wav", "csv", "jams", "npz", "png")]
    beats = read_beats(out / "waltz.beats")
    assert mir_eval.beat.f_measure(TRUTH.time, beats.time) == 1.0
    np.testing.assert_allclose(beats.time, TRUTH.time, atol=HOP / RATE)
    assert beats.position.tolist() == TRUTH.position.tolist()
    with (out / "waltz.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["time"]) for row in rows] == beats.time.tolist()
    assert float(rows[4]["tempo"]) == pytest.approx(120, abs=6)  # frames are 20 ms apart
    (annotation,) = jams.load(str(out / "waltz.jams")).annotations
    assert [o.value for o in annotation.data] == beats.position.tolist()
    heads, clock, _ = writers.read_npz(out / "waltz.npz")
    assert clock == windowing.recording_clock(SPEC)
    assert np.flatnonzero(heads["downbeat"][:, 0] > 0.5) / clock.frame_rate == pytest.approx(TRUTH.downbeats, abs=0.02)
    clicks, rate = soundfile.read(out / "waltz.click.wav")
    samples, _ = soundfile.read(recording)
    assert (rate, len(clicks)) == (RATE, len(samples))
    told, summary = outcome.stdout.splitlines()
    assert told == (
        f"{recording}: 18 beats in 10.0 s of audio; 120 beats a minute, mostly 115 to 125; 3 beats a bar"
    ), "intervals of 24, 25 and 26 frames"
    assert summary.startswith("1 transcribed; 18 beats in 10.0 s of audio; real-time factor ")


def test_what_is_written_where_nobody_chose(musicnet, model, recording, tmp_path):
    assert musicnet("beats", recording, f"--output_dir={tmp_path / 'out'}").status == 0
    assert names(tmp_path / "out") == ["waltz.beats", "waltz.csv", "waltz.png"]
    text = musicnet("beats", "--help").stdout
    assert f"Any of {', '.join(beat_writers.FORMATS)}." in text
    assert ",".join(BeatDecoding.default_formats) in text


def test_the_line_tells_how_common_the_metre_is_and_of_no_tempo_where_there_is_none(musicnet, model, tmp_path):
    bars = Beats(0.3 + 0.5 * np.arange(16), [1, 2, 3, 4] * 2 + [1, 2, 3] + [1, 2, 3, 4] + [1])
    mixed = click_tracks.write(tmp_path / "mixed.wav", bars, 9.0)
    _, told = found(musicnet, mixed, "--formats=beats")
    assert "4 beats a bar in 75% of bars\n" in told
    silent = click_tracks.write(tmp_path / "silent.wav", Beats.empty(), 2.0)
    outcome = musicnet("beats", silent, f"--output_dir={tmp_path}", "--formats=beats,csv,jams,click,npz,png")
    assert outcome.stdout.splitlines()[0] == f"{silent}: 0 beats in 2.0 s of audio"
    assert (tmp_path / "silent.beats").read_text() == ""


def test_flags_reach_the_decoder(musicnet, model, recording):
    halves, told = found(musicnet, recording, "--min_bpm=40", "--max_bpm=80", "--beats_per_bar=3")
    assert len(halves) < len(TRUTH)
    assert np.median(np.diff(halves.time)) > 0.7
    assert "60 beats a minute" in told
    in_twos, told = found(musicnet, recording, "--beats_per_bar=2", "--transition_lambda=300")
    assert set(in_twos.position.tolist()) == {1, 2}
    assert "2 beats a bar" in told
    for method in ("dbn_online", "peaks", "autocorrelation", "comb"):
        beats, _ = found(musicnet, recording, f"--method={method}")
        assert mir_eval.beat.f_measure(TRUTH.time, beats.time) > 0.85, method
    assert model == [("clicks", "auto")] * 6


def test_model_runtime_and_batches_are_passed_on(musicnet, model, recording):
    one, _ = found(musicnet, recording, "--model=own", "--runtime=lite", "--batch_size=1")
    assert model == [("own", "lite")]
    assert one == found(musicnet, recording)[0]


def test_a_model_without_downbeats_tells_no_places(musicnet, model, recording, monkeypatch):
    spec = SPEC.to_dict()
    spec["heads"].pop("downbeat")
    monkeypatch.setattr(ClickPredictor, "manifest", MANIFEST.model_copy(update={"spec": spec}))
    hear = ClickPredictor.__call__
    monkeypatch.setattr(ClickPredictor, "__call__", lambda self, windows: {"beat": hear(self, windows)["beat"]})
    beats, told = found(musicnet, recording)
    assert set(beats.position.tolist()) == {UNKNOWN}
    assert "120 beats a minute" in told and "bar" not in told


def test_what_exists_is_skipped_and_a_bad_file_named(musicnet, model, recording, tmp_path):
    told = verb_checks.skips_what_exists_and_names_a_bad_file(musicnet, "beats", recording, "beats", tmp_path, model)
    assert "0 transcribed, 1 skipped, 1 failed; 0 beats" in told


REFUSED = {
    "--formats=midi": "unknown output format 'midi'; choose from beats, csv, jams, click, npz, png",
    "--method=viterbi": "method",
    "--min_bpm=250": "max_bpm=215.0: value error, must not be below min_bpm=250",
    "--max_bpm=0": "max_bpm",
    "--max_bpm=20000": "20000",
    "--beats_per_bar=3,four": "beats_per_bar=four: input should be a valid integer",
    "--beats_per_bar=4,4": "must name lengths of bars, each once",
    "--transition_lambda=-1": "transition_lambda",
    "--model=missing": "missing: no such model",
    "--model=other": "does task 'notes' with heads beat, downbeat, which gives no beats; choose another",
    "--server_ca=a.pem": "is of use with --server alone",
}


@pytest.mark.parametrize("flag", REFUSED)
def test_arguments_are_checked_before_a_model_is_loaded(musicnet, model, recording, tmp_path, flag):
    verb_checks.refuses_before_a_model_is_loaded(musicnet, "beats", recording, flag, REFUSED[flag], tmp_path, model)
