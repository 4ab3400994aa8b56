"""Configs: every file loads, every fault is told by its key, and what is written is read back."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

from musicnet_tf import config
from musicnet_tf.errors import ConfigError
from musicnet_tf.models import HeadSpec
from musicnet_tf.models.mlp import Mlp
from musicnet_tf.tasks.notes import Notes

CONFIGS = sorted([*(ROOT / "configs").glob("*.yaml"), *(ROOT / "configs/paper").glob("*.yaml")])
TINY = ROOT / "configs/tiny.yaml"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_loads_and_comes_back_from_what_it_writes(path, tmp_path):
    experiment = config.load(path, ["seed=5"])
    assert experiment.name == path.stem
    experiment.write(tmp_path)
    again = config.load(tmp_path / config.FILENAME)
    assert again == experiment
    assert again.to_yaml() == experiment.to_yaml()
    written = yaml.safe_load(experiment.to_yaml())
    assert written["seed"] == 5
    assert written["task"]["decoder"] == experiment.task.decoder.model_dump(mode="json")  # defaults too


def test_values_arrive_where_they_belong():
    tiny = config.load(TINY)
    assert (tiny.task.name, tiny.model.name, tiny.model.channels) == ("notes", "harmonic_cnn", 8)
    assert tiny.model.dilations == (1, 2)
    assert tiny.data.path(tiny.data.train[0]) == Path("data/records/tiny")
    assert (tiny.train.steps, tiny.train.epochs, tiny.train.optimizer) == (20, 2, "adam")
    assert config.load(TINY, ["train.steps=21"]).train.epochs == 3  # the last one whole


def test_paths_may_be_absolute_or_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    tiny = config.load(TINY, ["data.folder=~/sets", "data.train=[{records: a}, {records: /b}, {records: ~/c}]"])
    paths = [str(tiny.data.path(source)) for source in tiny.data.train]
    assert paths == ["/home/someone/sets/a", "/b", "/home/someone/c"]


FAULTS = {
    "train.stesp=5": r"unknown key 'train.stesp', did you mean 'steps'\?",
    "stepz=5": r"unknown key 'stepz'",
    "model.chanels=5": r"model: unknown key 'chanels', did you mean 'channels'\?",
    "task.decoder.onset_treshold=0.4": r"task: unknown key 'decoder.onset_treshold', did you mean 'onset_threshold'\?",
    "data.augmentation.gain=3": r"unknown key 'data.augmentation.gain', did you mean 'gain_db'\?",
    "data.train=[{record: a}]": (
        r"key 'data.train.0.records' is missing; unknown key 'data.train.0.record', did you mean 'records'\?"
    ),
    "train.steps=many": r"key 'train.steps': input should be a valid integer.*, got 'many'",
    "train.steps=-1": r"key 'train.steps': input should be greater than 0, got -1",
    "train.optimizer=adma": r"key 'train.optimizer': input should be 'adam' or 'sgd', got 'adma'",
    "model.hop_length=1.5": r"model: key 'hop_length': input should be a valid integer",
    "train=7": r"key 'train': .*, got 7",
    "data=null": r"key 'data': .*, got None",
    "name=../elsewhere": r"key 'name': string should match pattern .*, got '../elsewhere'",
    "seed=-1": r"key 'seed': .*, got -1",
    "seed=3000000000": r"key 'seed': .*, got 3000000000",
    "task.weights={onsets: 2}": r"task: key 'weights.onsets.*': input should be 'frame', 'onset', 'offset' or 'vel",
    "task.name=note": r"unknown task 'note', did you mean 'notes'\?; choose from: .*notes",
    "model.name=harmonic": r"unknown model 'harmonic'.*; choose from: .*harmonic_cnn.*linear_spectrogram.*mlp",
    "model={channels: 3, name: null}": r"model: needs a name; choose from: .*harmonic_cnn",
    "model=harmonic_cnn": r"key 'model': .*, got 'harmonic_cnn'",
}


@pytest.mark.parametrize("override", FAULTS)
def test_a_fault_is_told_by_its_key(override):
    with pytest.raises(ConfigError, match=FAULTS[override]) as caught:
        config.load(TINY, [override])
    assert str(caught.value).startswith(f"{TINY}: ")
    assert "\n" not in str(caught.value)


def test_all_faults_are_told_at_once():
    with pytest.raises(ConfigError, match=r"'train.steps'.*; .*'train.batch_size'"):
        config.load(TINY, ["train.steps=0", "train.batch_size=0"])


@pytest.mark.parametrize("key", ["name", "task", "model", "data"])
def test_a_missing_key_is_told(key, tmp_path):
    values = yaml.safe_load(TINY.read_text())
    del values[key]
    path = tmp_path / "x.yaml"
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(ConfigError, match=rf"x.yaml: key '{key}' is missing$"):
        config.load(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"- a\n- b\n", "x.yaml: must be a mapping of keys to values"),
        (b"", "x.yaml: must be a mapping of keys to values"),
        (b"a: [1\nb: 2", "x.yaml: not readable as YAML: "),
        (b"\xff\xfe\x00a", "x.yaml: not readable as YAML: "),
        (b"a: !!python/object/apply:os.getcwd []", "x.yaml: not readable as YAML: could not determine a constructor"),
    ],
)
def test_a_file_that_is_no_config_is_told(content, message, tmp_path):
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        config.load(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"absent.yaml: not found"):
        config.load(tmp_path / "absent.yaml")


def test_numbers_may_be_written_as_yaml_takes_for_text():
    assert config.load(TINY, ["train.learning_rate=1e-3"]).train.learning_rate == 0.001


def test_a_later_override_wins_over_the_file():
    tiny = config.load(TINY, ["model.channels=4", "model.channels=6", "data.augmentation={gain_db: 3}"])
    assert tiny.model.channels == 6
    assert tiny.model.window_frames == 50
    assert tiny.data.augmentation.gain_db == 3


def test_a_task_and_a_model_that_do_not_meet_are_both_named():
    spec = dataclasses.replace(Mlp().spec(), heads={"tags": HeadSpec(50), "melody": HeadSpec(360)})
    with pytest.raises(ConfigError, match=r"task 'notes' needs head 'frame', and model 'mlp' gives tags, melody"):
        Notes().check("mlp", spec)


def test_a_config_whose_task_and_model_do_not_meet_is_refused(monkeypatch, tmp_path):
    values = {**yaml.safe_load(TINY.read_text()), "model": {"name": "mlp"}}
    path = tmp_path / "x.yaml"
    path.write_text(yaml.safe_dump(values))
    assert config.load(path).model == Mlp()
    monkeypatch.setattr(Notes, "required_heads", ("frame", "onset"))
    with pytest.raises(ConfigError, match=r"x.yaml: task 'notes' needs head 'onset', and model 'mlp' gives frame$"):
        config.load(path)


def test_a_config_is_frozen():
    import pydantic

    tiny = config.load(TINY)
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        tiny.train.steps = 3


def test_patience_without_a_validation_loss_to_watch_is_refused():
    with pytest.raises(ConfigError, match="patience watches the validation loss"):
        config.load(TINY, ["train.keep=last", "train.patience=3"])
