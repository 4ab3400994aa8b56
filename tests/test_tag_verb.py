"""The verb `tag` from end to end, with a model of loudness in NumPy in place of a trained one."""

import csv
import json
from pathlib import Path

import loud_stretches
import numpy as np
import pytest
import stand_in_models
import verb_checks
from loud_stretches import EMBEDDING, MANIFEST, SPEC, Loudness

from musicnet_tf import tag_writers
from musicnet_tf.decode.tags import TagDecoding


class BeatPredictor(Loudness):
    """The same, but it says that these are beats."""

    manifest = MANIFEST.model_copy(update={"task": "beats"})


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Puts that model where models are loaded; gives the names and runtimes that were asked for."""
    models = {"loudness": Loudness(), "own": Loudness(), "other": BeatPredictor()}
    return stand_in_models.put(monkeypatch, "tags", models)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    return loud_stretches.write(tmp_path / "étude.wav")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


def told(musicnet, recording: Path, *args: str) -> tuple[dict, str]:
    """The JSON of a recording, and the line that tells of it."""
    out = recording.parent / "told"
    outcome = musicnet("tag", recording, f"--output_dir={out}", "--formats=json", *args)
    assert outcome.status == 0, outcome.stderr
    return json.loads((out / f"{recording.stem}.json").read_text()), outcome.stdout.splitlines()[0]


def test_a_recording_becomes_all_files(musicnet, model, recording, tmp_path):
    out, kinds = tmp_path / "out", list(tag_writers.FORMATS)
    outcome = musicnet("tag", recording, f"--output_dir={out}", f"--formats={','.join(kinds)}")
    assert outcome.status == 0, outcome.stderr
    suffixes = ("csv", "embedding.npz", "jams", "json", "npz", "png")
    assert names(out) == [f"étude.{suffix}" for suffix in suffixes]
    tags = json.loads((out / "étude.json").read_text())
    # Of 3.75 s, 2.75 s have sound, 1.25 s loud sound.
    scores = {row["tag"]: row["score"] for row in tags["tags"]}
    assert scores == {"sound": 0.7333, "loud": 0.3333, "silence": 0.2667}
    assert tags["timeline"]["start"] == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5]
    assert tags["timeline"]["stop"][-1] == 3.75
    assert np.round(tags["timeline"]["scores"]["loud"]).tolist() == [1, 1, 0, 0, 0, 0, 0, 1]
    with (out / "étude.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [round(float(row["silence"])) for row in rows] == [0, 0, 0, 0, 0, 1, 1, 0]
    with np.load(out / "étude.embedding.npz") as arrays:
        levels = np.array([0.75, 0.75, 0.25, 0.25, 0.25, 0.0, 0.0, 0.45])
        np.testing.assert_allclose(arrays["embedding"], np.outer(levels, EMBEDDING), atol=1e-3)
    line, summary = outcome.stdout.splitlines()
    assert line == f"{recording}: 1 tag in 3.8 s of audio; sound .73"
    assert summary.startswith("1 transcribed; 1 tag in 3.8 s of audio; real-time factor ")


def test_what_is_written_where_nobody_chose(musicnet, model, recording, tmp_path):
    assert musicnet("tag", recording, f"--output_dir={tmp_path / 'out'}").status == 0
    assert names(tmp_path / "out") == ["étude.csv", "étude.json", "étude.png"]
    text = musicnet("tag", "--help").stdout
    assert f"Any of {', '.join(tag_writers.FORMATS)}." in text
    assert ",".join(TagDecoding.default_formats) in text


def test_flags_reach_the_decoder(musicnet, model, recording):
    tags, line = told(musicnet, recording, "--aggregate=vote")
    assert {row["tag"]: row["score"] for row in tags["tags"]} == {"sound": 0.7333, "loud": 0.3333, "silence": 0.2667}
    tags, line = told(musicnet, recording, "--aggregate=max", "--of=logits", "--threshold=0.9")
    assert line.endswith("; silence 1.00, sound 1.00, loud 1.00")
    tags, line = told(musicnet, recording, "--threshold=0.3", "--top=1")
    assert [row["tag"] for row in tags["tags"]] == list(tags["timeline"]["scores"]) == ["sound"]
    tags, line = told(musicnet, recording, "--threshold=0.8")
    assert line.endswith("0 tags in 3.8 s of audio; most likely sound .73")
    assert model == [("loudness", "auto")] * 4


def test_a_threshold_takes_the_place_of_those_of_single_tags(musicnet, model, recording, monkeypatch):
    chosen = MANIFEST.model_copy(update={"decoder": {"thresholds": {"loud": 0.3, "sound": 0.95}}})
    monkeypatch.setattr(Loudness, "manifest", chosen)
    assert told(musicnet, recording)[1].endswith("1 tag in 3.8 s of audio; loud .33")
    assert told(musicnet, recording, "--threshold=0.7")[1].endswith("; sound .73")


def test_the_embedding_is_written_where_it_is_asked_for(musicnet, model, recording, tmp_path):
    out = tmp_path / "out"
    assert musicnet("tag", recording, f"--output_dir={out}", "--embedding", "--formats=csv").status == 0
    assert names(out) == ["étude.csv", "étude.embedding.npz"]


def test_a_model_without_an_embedding_is_refused_once_and_before_it_is_loaded(
    musicnet, model, recording, tmp_path, monkeypatch
):
    spec = SPEC.to_dict()
    spec["heads"].pop("embedding")
    monkeypatch.setattr(Loudness, "manifest", MANIFEST.model_copy(update={"spec": spec}))
    outcome = musicnet("tag", recording, f"--output_dir={tmp_path / 'out'}", "--embedding")
    assert outcome.status == 1 and model == []
    (line,) = outcome.stderr.splitlines()
    assert "model 'loudness' gives no head 'embedding', which .embedding.npz files hold, only tag; choose" in line


def test_tags_that_exclude_one_another(musicnet, model, recording, monkeypatch):
    monkeypatch.setattr(Loudness, "manifest", MANIFEST.model_copy(update={"decoder": {"exclusive": True}}))
    tags, line = told(musicnet, recording)
    assert [row["present"] for row in tags["tags"]] == [True, False, False]
    assert line.endswith("1 tag in 3.8 s of audio; sound .73")


def test_model_runtime_and_batches_are_passed_on(musicnet, model, recording):
    one, _ = told(musicnet, recording, "--model=own", "--runtime=lite", "--batch_size=1")
    assert model == [("own", "lite")]
    assert one == told(musicnet, recording)[0]


def test_what_exists_is_skipped_and_a_bad_file_named(musicnet, model, recording, tmp_path):
    verb_checks.skips_what_exists_and_names_a_bad_file(musicnet, "tag", recording, "json", tmp_path, model)


REFUSED = {
    "--formats=midi": "unknown output format 'midi'; choose from json, csv, jams, npz, png, embedding",
    "--aggregate=median": "aggregate",
    "--threshold=1.5": "threshold",
    "--top=-1": "top",
    "--model=missing": "missing: no such model",
    "--model=other": "does task 'beats' with heads tag, embedding, which gives no tags; choose another",
    "--server_ca=a.pem": "is of use with --server alone",
}


@pytest.mark.parametrize("flag", REFUSED)
def test_arguments_are_checked_before_a_model_is_loaded(musicnet, model, recording, tmp_path, flag):
    verb_checks.refuses_before_a_model_is_loaded(musicnet, "tag", recording, flag, REFUSED[flag], tmp_path, model)
