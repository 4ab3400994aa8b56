from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import soundfile
import synthetic

from musicnet_tf.events import Notes
from musicnet_tf.scores import format_musicnet_csv

RATE = 16000
SECONDS = 40.0


def melody() -> Notes:
    """A note every 0.4 s, no pitch twice within three seconds; half of them on another instrument."""
    onset = np.arange(0.5, SECONDS - 1, 0.4)
    pitch = 48 + (7 * np.arange(len(onset))) % 36
    return Notes(onset, onset + 0.35, pitch, instrument=np.where(np.arange(len(onset)) % 2, 40, 0))


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A recording, its labels with 10 of 97 late by 0.2 s, and which those are."""
    folder = tmp_path_factory.mktemp("pair")
    notes = melody()
    soundfile.write(folder / "tune.flac", synthetic.synthesise(notes, RATE, SECONDS), RATE)
    late = np.arange(5, len(notes), 9)[:10]
    onset = notes.onset.copy()
    onset[late] += 0.2
    labels = Notes(onset, onset + 0.35, notes.pitch, instrument=notes.instrument)
    (folder / "tune.csv").write_text(format_musicnet_csv(labels))
    return folder / "tune.flac", folder / "tune.csv", onset[late]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """MusicNet's layout: a piano and a violin recording, the first with labels 0.2 s early throughout."""
    root = tmp_path_factory.mktemp("corpus")
    for folder in ("train_data", "train_labels"):
        (root / folder).mkdir()
    for name, program, early in (("1", 0, 0.2), ("2", 40, 0.0)):
        notes = melody()
        notes = Notes(notes.onset, notes.offset, notes.pitch, instrument=np.full(len(notes), program))
        soundfile.write(root / "train_data" / f"{name}.wav", synthetic.synthesise(notes, RATE, SECONDS), RATE)
        (root / "train_labels" / f"{name}.csv").write_text(format_musicnet_csv(notes.shift(-early)))
    return root


def test_a_pair_is_judged_label_by_label(musicnet, pair, tmp_path):
    audio, labels, late = pair
    outcome = musicnet("check-labels", audio, labels, f"--output_dir={tmp_path}", "--clip_seconds=20")
    assert outcome.status == 0, outcome.stderr
    found = json.loads((tmp_path / "label_check.json").read_text())
    assert found["pooled"]["labels"] == len(melody())
    assert found["pooled"]["error_rate"] == pytest.approx(10 / len(melody()), abs=0.02)
    assert (
        found["pooled"]["optimistic"] <= found["pooled"]["error_rate"] + 0.01 <= found["pooled"]["pessimistic"] + 0.01
    )
    assert found["pooled"]["clips"] == 2
    assert [*found["instruments"]] == ["Piano", "Violin"]
    with (tmp_path / "label_check.csv").open() as file:
        rows = list(csv.DictReader(file))
    wrong = [row for row in rows if row["verdict"] == "misaligned"]
    assert {round(float(row["onset"]), 2) for row in wrong} == {round(t, 2) for t in late}
    assert all(float(row["displacement"]) == pytest.approx(-0.2, abs=0.03) for row in wrong)
    assert f"{100 * found['pooled']['error_rate']:.1f}%" in outcome.stdout.splitlines()[-3]


def test_clips_are_written_for_the_ear(musicnet, pair, tmp_path):
    audio, labels, _ = pair
    flags = ["--num_clips=1", "--clip_seconds=4", "--seed=3"]
    assert musicnet("check_labels", audio, labels, f"--output_dir={tmp_path}", *flags).status == 0
    (clip,) = tmp_path.glob("*.flac")
    sound, rate = soundfile.read(clip)
    assert (sound.shape, rate) == ((4 * RATE, 2), RATE)
    (drawn,) = json.loads((tmp_path / "label_check.json").read_text())["clips"]
    first = melody().onset[melody().onset >= drawn["start"]][0] - drawn["start"]
    tones = np.abs(sound[:, 1])
    assert tones[: round((first - 0.001) * RATE)].max(initial=0) == 0.0
    assert tones[round(first * RATE) : round((first + 0.3) * RATE)].max() > 0.1


@pytest.mark.slow
def test_slow_clips_keep_pitch_and_place(musicnet, pair, tmp_path):
    audio, labels, _ = pair
    flags = ["--num_clips=1", "--clip_seconds=4", "--seed=3", "--slow"]
    assert musicnet("check-labels", audio, labels, f"--output_dir={tmp_path}", *flags).status == 0
    (clip,) = tmp_path.glob("*.flac")
    sound, _ = soundfile.read(clip)
    assert len(sound) == pytest.approx(16 * RATE, rel=0.01)
    (drawn,) = json.loads((tmp_path / "label_check.json").read_text())["clips"]
    inside = np.flatnonzero(melody().onset >= drawn["start"])[1]
    start = round(4 * (melody().onset[inside] - drawn["start"]) * RATE)
    hertz = 440.0 * 2.0 ** ((melody().pitch[inside] - 69) / 12)
    tone = sound[start + 800 : start + 800 + 4096]
    for channel in (0, 1):
        spectrum = np.abs(np.fft.rfft(tone[:, channel] * np.hanning(4096)))
        assert np.argmax(spectrum) * RATE / 4096 == pytest.approx(hertz, abs=1.5 * RATE / 4096)


def test_a_corpus_is_checked_and_its_constant_shift_told(musicnet, corpus, tmp_path):
    flags = ["--dataset=musicnet", f"--data_dir={corpus}", "--clip_seconds=10", "--num_clips=4"]
    outcome = musicnet("check-labels", *flags, f"--output_dir={tmp_path}")
    assert outcome.status == 0, outcome.stderr
    found = json.loads((tmp_path / "label_check.json").read_text())
    assert found["recordings"]["1"]["offset_seconds"] == pytest.approx(0.2, abs=0.015)
    assert found["recordings"]["2"]["offset_seconds"] == pytest.approx(0.0, abs=0.015)
    assert [row["clips"] for row in found["recordings"].values()] == [2, 2]
    assert found["pooled"]["error_rate"] < 0.02
    assert found["pooled"]["interval"][0] <= found["pooled"]["error_rate"] <= found["pooled"]["interval"][1]
    assert "1: the sound comes" in outcome.stdout and "later than the labels throughout" in outcome.stdout
    kept = musicnet("check-labels", *flags, "--recordings=1", "--noremove_offset")
    assert float(kept.stdout.splitlines()[-1].split()[2].rstrip("%")) > 50
    assert musicnet("check-labels", *flags).stdout.splitlines()[:5] == outcome.stdout.splitlines()[:5]


def test_a_recording_that_cannot_be_read_is_named_and_the_others_go_on(musicnet, corpus, tmp_path):
    broken = tmp_path / "corpus"
    for path in corpus.rglob("*.*"):
        (broken / path.parent.name).mkdir(parents=True, exist_ok=True)
        (broken / path.parent.name / path.name).write_bytes(path.read_bytes())
    soundfile.write(broken / "train_data" / "1.wav", np.zeros(RATE), RATE)
    outcome = musicnet("check-labels", "--dataset=musicnet", f"--data_dir={broken}")
    assert outcome.status == 1
    assert "1: not checked: the recording is silent" in outcome.stderr
    assert outcome.stdout.splitlines()[1].startswith("2 ")
    (broken / "train_data" / "2.wav").write_bytes(b"no audio")
    outcome = musicnet("check-labels", "--dataset=musicnet", f"--data_dir={broken}")
    assert outcome.status == 1
    assert "no recording could be checked" in outcome.stderr


def test_wrong_usage_is_one_line(musicnet, pair, corpus):
    audio, labels, _ = pair
    for args, told in {
        (): "AUDIO and LABELS",
        (audio,): "AUDIO and LABELS",
        (audio, labels, "--dataset=maps"): "AUDIO and LABELS",
        (audio, labels, "--split=train"): "--split is of a corpus",
        (audio, labels, "--slow"): "--output_dir",
        ("--dataset=musicnet",): "--data_dir",
    }.items():
        outcome = musicnet("check-labels", *args)
        assert outcome.status == 2
        assert told in outcome.stderr
        assert len(outcome.stderr.strip().splitlines()) == 1
    for args, told in {
        (audio, labels, "--tolerance=3"): "tolerance",
        (audio, labels.with_name("none.csv")): "none.csv",
        (labels, labels): "not audio",
        ("--dataset=musicnet", f"--data_dir={corpus}", "--split=test"): "no recording in split 'test'",
        ("--dataset=musicnet", f"--data_dir={corpus}", "--recordings=9"): "no recording '9'",
        ("--dataset=musicnot", f"--data_dir={corpus}"): "musicnet",
    }.items():
        outcome = musicnet("check-labels", *args)
        assert outcome.status == 1
        assert told in outcome.stderr
        assert len(outcome.stderr.strip().splitlines()) == 1


def test_empty_labels_are_refused(musicnet, pair, tmp_path):
    (tmp_path / "empty.csv").write_text(format_musicnet_csv(Notes.empty()))
    for flags in ([], ["--num_clips=2"]):
        outcome = musicnet("check-labels", pair[0], tmp_path / "empty.csv", *flags)
        assert outcome.status == 1
        assert "no labels to check" in outcome.stderr
