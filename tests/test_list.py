"""`musicnet list`: every entry that there is, as tables for people and as JSON for programs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import yaml
from conftest import ROOT

from musicnet_tf import catalogue, inference
from musicnet_tf.alignment.settings import Settings
from musicnet_tf.errors import ConfigError, ModelError
from musicnet_tf.manifest import Manifest
from musicnet_tf.registry import DATASETS, MODELS, TASKS

pytest_plugins = ["tiny_models"]


@pytest.fixture(scope="module")
def models():
    return {row["name"]: row for row in catalogue.models()}


def test_models_tell_parameters_input_and_heads(models):
    assert list(models) == MODELS.names()
    linear = models["linear_spectrogram"]
    assert linear["parameters"] == 4096 * 128
    assert (linear["sample_rate"], linear["window_length"], linear["heads"]) == (44100, 8192, {"frame": 128})
    assert models["mlp"]["parameters"] == 500 * (2048 + 128)
    harmonic = models["harmonic_cnn"]
    assert harmonic["parameters"] < 1_000_000
    assert harmonic["heads"] == {"onset": 88, "frame": 88, "velocity": 88}
    assert harmonic["summary"].startswith("Log-frequency spectra")
    tagger = models["instrument_cnn"]
    assert tagger["parameters"] == 982_635
    assert (tagger["sample_rate"], tagger["window_length"]) == (16000, 8 * 16000)
    assert tagger["heads"] == {"tag": 11, "embedding": 256}


def test_tasks_and_corpora_are_all_there():
    assert [row["name"] for row in catalogue.tasks()] == TASKS.names()
    (notes,) = [row for row in catalogue.tasks() if row["name"] == "notes"]
    assert (notes["required_heads"], notes["optional_heads"]) == (["frame"], ["onset", "offset", "velocity"])
    rows = {row["name"]: row for row in catalogue.corpora()}
    assert list(rows) == DATASETS.names()
    assert rows["maps"]["licence"] == "CC BY-NC-SA"
    assert "TASLP 2010" in rows["maps"]["source"]


def test_configs_are_read_from_their_folder(tmp_path):
    rows = {row["name"]: row for row in catalogue.configs(ROOT / "configs")}
    assert len(rows) == len(list((ROOT / "configs").glob("*.yaml")))
    tiny = rows["tiny"]
    assert (tiny["task"], tiny["model"], tiny["records"]) == ("notes", "harmonic_cnn", ["tiny"])
    assert tiny["summary"].startswith("A model small enough")
    with pytest.raises(ConfigError, match="no such folder"):
        catalogue.configs(tmp_path / "none")
    assert catalogue.configs(tmp_path) == []


def test_ways_to_align_are_told_with_what_they_leave_to_the_defaults(tmp_path):
    rows = {row["name"]: row for row in catalogue.alignments(ROOT / "configs/alignment")}
    assert {"best", "paper"} <= rows.keys()
    assert (rows["paper"]["features"], rows["paper"]["norm"], rows["paper"]["method"]) == ("spectrogram", "l2", "exact")
    assert rows["paper"]["summary"].startswith("The MusicNet paper, section 3")
    assert rows["best"]["features"] == Settings().features.kind
    assert "spectrogram" in catalogue.table("alignments", list(rows.values()))
    assert catalogue.alignments(tmp_path / "none") == []
    (tmp_path / "broken.yaml").write_text("norm: l3")
    with pytest.raises(ConfigError, match=r"broken\.yaml.*norm"):
        catalogue.alignments(tmp_path)


@pytest.mark.parametrize("text", ["a: [", "- a list", "name: x\ntask: notes", "", "name: x"])
def test_a_file_that_is_no_config_is_named(tmp_path, text):
    (tmp_path / "broken.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"broken\.yaml: no config of an experiment"):
        catalogue.configs(tmp_path)


def test_a_file_that_is_no_text_is_named(tmp_path):
    (tmp_path / "broken.yaml").write_bytes(b"name: \xff")
    with pytest.raises(ConfigError, match=r"broken\.yaml: no config of an experiment"):
        catalogue.configs(tmp_path)


@pytest.fixture
def one_shipped(make_run, tmp_path, monkeypatch):
    monkeypatch.setattr(inference, "PRETRAINED", tmp_path)
    return make_run(tmp_path / "tiny")


def test_shipped_models_tell_size_licences_and_scores(one_shipped):
    (row,) = catalogue.shipped()
    assert row["name"] == "tiny"
    assert row["bytes"] == sum(p.stat().st_size for p in one_shipped.iterdir()) > 10_000
    assert row["parameters"] == Manifest.read(one_shipped).num_parameters > 1000
    assert row["training_data"] == [{"corpus": "maps", "licence": "CC BY-NC-SA"}]
    text = catalogue.table("shipped", [row])
    assert "maps: CC BY-NC-SA" in text
    assert "maps/validation: onset/f1 0.500" in text
    assert f"{row['bytes'] / 1e6:.2f} MB" in text


def test_a_damaged_shipped_model_is_an_error(one_shipped):
    (one_shipped / "manifest.json").write_text("{")
    with pytest.raises(ModelError, match="not a manifest"):
        catalogue.shipped()


def test_tables_are_aligned_and_long_cells_go_on_below():
    rows = [
        {"name": "a", "description": "short", "licence": "", "source": "x"},
        {"name": "longer", "description": "seven bit " * 8, "licence": "MIT", "source": "y"},
    ]
    assert catalogue.table("corpora", rows).splitlines() == [
        "  name    description                              licence  source",
        "  a       short                                    -        x",
        "  longer  seven bit seven bit seven bit seven bit  MIT      y",
        "          seven bit seven bit seven bit seven bit",
    ]
    assert catalogue.table("corpora", []) == "  (none)"


def test_the_verb_prints_what_it_is_asked_for(musicnet, tmp_path, monkeypatch):
    outcome = musicnet("list", "corpora", "configs", f"--configs={ROOT / 'configs'}", "--json")
    assert outcome.status == 0
    found = json.loads(outcome.stdout)
    assert list(found) == ["corpora", "configs"]
    assert found["corpora"] == catalogue.corpora()
    assert {row["name"] for row in found["configs"]} >= {"tiny"}
    monkeypatch.chdir(tmp_path)
    assert musicnet("list", "configs").stdout == "configs\n  (none)\n"
    assert musicnet("list", "configs", "--configs=configs").status == 1, "a folder that was named must be there"


def test_the_verb_prints_everything_by_default(musicnet, monkeypatch):
    monkeypatch.chdir(ROOT)
    outcome = musicnet("list", "--json")
    found = json.loads(outcome.stdout)
    assert list(found) == ["models", "tasks", "corpora", "configs", "alignments", "shipped"]
    assert [row["name"] for row in found["models"]] == MODELS.names()
    assert {row["name"] for row in found["shipped"]} == set(inference.shipped())
    names = [yaml.safe_load(path.read_text())["name"] for path in (ROOT / "configs").glob("*.yaml")]
    assert sorted(row["name"] for row in found["configs"]) == sorted(names)


def test_an_unknown_kind_is_a_usage_error(musicnet):
    outcome = musicnet("list", "corpus")
    assert outcome.status == 2
    assert "no kind 'corpus', did you mean 'corpora'?" in outcome.stderr


def test_what_needs_no_tensorflow_imports_none():
    code = """
import sys
from musicnet_tf.bin.main import main
assert main(["list", "corpora", "configs", "alignments", "shipped"]) == 0
assert not {"tensorflow", "keras"} & set(sys.modules)
"""
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert outcome.returncode == 0, outcome.stderr
    assert "musicnet" in outcome.stdout
