"""Trained models found by name or folder and loaded, and what is said of those that cannot be."""

from __future__ import annotations

import gc
import json
import shutil

import numpy as np
import pytest

from musicnet_tf import inference, runs
from musicnet_tf.errors import ModelError
from musicnet_tf.manifest import Manifest

pytest_plugins = ["tiny_models"]
WINDOW = 16000


@pytest.fixture
def copied(tiny_run, tmp_path):
    """A run that may be damaged."""
    return shutil.copytree(tiny_run, tmp_path / "run")


@pytest.fixture
def copied_export(tiny_export, tmp_path):
    """An export that may be damaged: the folder that holds version 1."""
    shutil.copytree(tiny_export, tmp_path / "exported" / "1")
    return tmp_path / "exported"


@pytest.fixture
def shipping(tiny_run, tmp_path, monkeypatch):
    """A library that ships one model, `tiny`."""
    shutil.copytree(tiny_run, tmp_path / "pretrained" / "tiny")
    (tmp_path / "pretrained" / "no_model").mkdir()
    monkeypatch.setattr(inference, "PRETRAINED", tmp_path / "pretrained")
    return tmp_path / "pretrained"


def test_shipped_models_are_found_by_name(shipping):
    assert inference.shipped() == {"tiny": shipping / "tiny"}
    assert inference.locate("tiny") == shipping / "tiny"
    assert inference.load("tiny").manifest == Manifest.read(shipping / "tiny")


def test_a_shipped_model_comes_before_a_folder_of_its_name(shipping, tmp_path, monkeypatch):
    (tmp_path / "tiny").mkdir()
    monkeypatch.chdir(tmp_path)
    assert inference.locate("tiny") == shipping / "tiny"
    assert inference.locate("./tiny").resolve() == tmp_path / "tiny"


def test_an_unknown_name_lists_what_ships(shipping, monkeypatch, tmp_path):
    with pytest.raises(
        ModelError, match=r"tinny: no folder and no shipped model, did you mean 'tiny'\?; shipped: tiny"
    ):
        inference.locate("tinny")
    monkeypatch.setattr(inference, "PRETRAINED", tmp_path / "none")
    with pytest.raises(ModelError, match="shipped: none"):
        inference.locate("tinny")


def test_of_several_versions_the_highest_is_taken(copied_export, tmp_path):
    for name in ("2", "10", "9x", "11"):
        shutil.copytree(copied_export / "1", copied_export / name)
    (copied_export / "11" / inference.SAVED_MODEL).unlink()
    assert inference.locate(copied_export) == copied_export / "10"
    assert inference.locate(copied_export / "2") == copied_export / "2"


def test_both_kinds_outlive_what_they_were_loaded_with(tiny_run, tiny_export, rising_tone):
    loaded = [inference.load(tiny_run), inference.load(tiny_export)]
    gc.collect()  # a SavedModel's variables live no longer than the object it was loaded as
    first, second = (predictor(rising_tone[None, :WINDOW])["onset"] for predictor in loaded)
    np.testing.assert_allclose(first, second, rtol=0, atol=1e-6)
    assert first.dtype == np.float32
    assert isinstance(first, np.ndarray)
    assert 0 <= first.min() < first.max() <= 1


def test_batch_size_and_neighbours_do_not_matter(tiny_run, rising_tone):
    predictor = inference.load(tiny_run)
    windows = np.stack([rising_tone[at : at + WINDOW] for at in (0, 7000, 30000)])
    together = predictor(windows)["frame"]
    alone = np.concatenate([predictor(window[None])["frame"] for window in windows])
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize("load", [lambda run, export: run, lambda run, export: export])
def test_windows_that_do_not_fit_are_an_error(tiny_run, tiny_export, load):
    predictor = inference.load(load(tiny_run, tiny_export))
    with pytest.raises(ModelError, match=r"takes windows of shape \(batch, 16000\), got \(2, 15999\)"):
        predictor(np.zeros((2, WINDOW - 1), np.float32))


def test_weights_that_are_missing_cut_or_of_another_model(copied, make_run, tmp_path):
    weights = copied / runs.WEIGHTS
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match=r"model\.weights\.h5: missing, damaged or of another model"):
        inference.load(copied)
    weights.unlink()
    with pytest.raises(ModelError, match=r"model\.weights\.h5: missing"):
        inference.load(copied)
    other = make_run(tmp_path / "wider", "tiny", "model.channels=16")
    shutil.copy(other / runs.WEIGHTS, weights)
    with pytest.raises(ModelError, match="of another model"):
        inference.load(copied)


def test_a_manifest_of_other_windows(copied_export):
    path = copied_export / "1/assets.extra/manifest.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "spec": {**values["spec"], "window_length": 8000}}))
    with pytest.raises(ModelError, match=r"its windows have shape \(None, 16000\), which its manifest does not tell"):
        inference.load(copied_export)


@pytest.mark.parametrize("kind", ["run", "export"])
def test_a_manifest_that_is_missing_damaged_or_too_new(copied, copied_export, kind):
    folder = copied if kind == "run" else copied_export
    path = copied / "manifest.json" if kind == "run" else copied_export / "1/assets.extra/manifest.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "format_version": 2}))
    with pytest.raises(ModelError, match="format version 2, this program reads 1; export the model again"):
        inference.load(folder)
    path.write_text("{")
    with pytest.raises(ModelError, match=r"manifest\.json: not a manifest of this program"):
        inference.load(folder)
    path.unlink()
    with pytest.raises(ModelError, match=r"manifest\.json: not found"):
        inference.load(folder)


@pytest.mark.parametrize(
    "part", ["saved_model.pb", *(f"variables/variables.{end}" for end in ("index", "data-00000-of-00001"))]
)
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_export(copied_export, part, damage):
    path = copied_export / "1" / part
    if damage == "gone" and part != "saved_model.pb":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    with pytest.raises(ModelError, match="export the model again") as caught:
        inference.load(copied_export)
    assert "\n" not in str(caught.value)


def test_a_saved_model_of_another_program(copied_export):
    import tensorflow as tf

    other = tf.Module()
    other.double = tf.function(lambda x: 2 * x, input_signature=[tf.TensorSpec((), tf.float32)])
    manifest = copied_export / "1" / inference.ASSETS / "manifest.json"
    text = manifest.read_text()
    shutil.rmtree(copied_export / "1")
    tf.saved_model.save(other, str(copied_export / "1"))
    manifest.parent.mkdir()
    manifest.write_text(text)
    with pytest.raises(ModelError, match="not a SavedModel of this program"):
        inference.load(copied_export)
