"""Exports: what is served equals what was trained, in windows of any length, whole or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from musicnet_tf import export, inference, runs, windowing
from musicnet_tf.errors import ConfigError, ModelError, OutputError
from musicnet_tf.manifest import Manifest

pytest_plugins = ["tiny_models"]
WINDOW, FRAMES, HEADS = 16000, 50, {"onset", "frame", "velocity"}


@pytest.fixture(scope="module")
def from_weights(tiny_run):
    return inference.load(tiny_run)


@pytest.fixture(scope="module")
def from_export(tiny_export):
    return inference.load(tiny_export)


def test_the_export_gives_what_the_run_gives(from_weights, from_export, rising_tone):
    windows = np.stack([rising_tone[:WINDOW], rising_tone[20000 : 20000 + WINDOW], np.zeros(WINDOW, np.float32)])
    expected, found = from_weights(windows), from_export(windows)
    assert set(expected) == set(found) == HEADS
    for head, values in expected.items():
        assert found[head].shape == (3, FRAMES, 88)
        assert np.ptp(values[0]) > 0.01, "two constants would be equal too"
        np.testing.assert_allclose(found[head], values, rtol=0, atol=1e-6)


def test_activations_are_the_sigmoid_of_the_networks_logits(tiny_run, from_export, rising_tone):
    _, _, network = runs.load(tiny_run)
    window = rising_tone[None, :WINDOW]
    logits = network(window, training=False)
    for head, values in from_export(window).items():
        exact = 1 / (1 + np.exp(-np.asarray(logits[head], np.float64)))
        np.testing.assert_allclose(values, exact, rtol=0, atol=1e-6)


def test_a_model_of_one_frame_trained_on_squares_serves_clipped_estimates(make_run, tmp_path):
    run = make_run(tmp_path / "mlp", "paper/mlp_500", "model.hidden=4", "model.window_frames=1")
    windows = np.random.default_rng(0).standard_normal((5, 2048)).astype(np.float32)
    _, _, network = runs.load(run)
    estimates = np.asarray(network(windows)["frame"])
    assert estimates.min() < 0, "nothing to clip"
    served = inference.load(export.export(run, tmp_path / "out"))(windows)
    assert set(served) == {"frame"}
    np.testing.assert_allclose(served["frame"], np.clip(estimates, 0, 1), rtol=0, atol=1e-6)


def test_the_manifest_lies_beside_the_graph_and_within(tiny_run, tiny_export):
    import tensorflow as tf

    manifest = Manifest.read(tiny_run)
    assert manifest.decoder["onset_threshold"] == 0.37
    assert Manifest.read(tiny_export / "assets.extra") == manifest
    saved = tf.saved_model.load(str(tiny_export))
    first, second = saved.signatures["describe"](tf.constant([0, 9]))["manifest"].numpy()
    assert first == second
    assert Manifest.model_validate_json(first) == manifest


def test_only_the_networks_weights_are_saved(tiny_run, tiny_export):
    import tensorflow as tf

    _, _, network = runs.load(tiny_run)
    saved = dict(tf.train.list_variables(str(tiny_export / "variables/variables")))
    saved.pop("_CHECKPOINTABLE_OBJECT_GRAPH")
    shapes = sorted(tuple(shape) for shape in saved.values())
    assert shapes == sorted(tuple(v.shape) for v in network.weights)


def test_longer_windows_give_the_same_posteriorgram(tiny_run, from_weights, tmp_path, rising_tone):
    longer = inference.load(export.export(tiny_run, tmp_path, window_frames=120))
    spec, short = longer.manifest.geometry, from_weights.manifest.geometry
    assert (spec.num_frames, spec.window_length, spec.margin) == (120, 120 * 320, short.margin)
    assert longer.manifest.experiment["model"]["window_frames"] == 120
    expected = windowing.posteriorgram(rising_tone, short, from_weights)
    found = windowing.posteriorgram(rising_tone, spec, longer)
    assert expected["frame"].shape == (165, 88)  # 3.3 s of 20 ms
    for head in HEADS:
        np.testing.assert_allclose(found[head], expected[head], rtol=0, atol=1e-5)


def test_windows_of_one_length_or_all_margin_are_refused(make_run, tiny_run, tmp_path):
    margin = Manifest.read(tiny_run).geometry.margin
    with pytest.raises(ConfigError, match=f"take at least {2 * margin + 1}"):
        export.export(tiny_run, tmp_path, window_frames=2 * margin)
    assert not list(tmp_path.iterdir())
    manifest, _, network = runs.load(tiny_run)
    fixed = manifest.model_copy(update={"experiment": {"model": {"name": "of_one_length"}}})
    with pytest.raises(ConfigError, match=f"'of_one_length' of {manifest.name} has no field window_frames"):
        export.with_window_frames(fixed, network, 100)


def test_versions_count_up_and_are_never_replaced(tiny_run, tiny_export, tmp_path):
    for name in ("2", "10", "9-old", "x"):
        (tmp_path / name).mkdir()
    assert export.next_version(tmp_path) == 11
    before = sorted(path.stat().st_mtime_ns for path in tiny_export.rglob("*"))
    with pytest.raises(OutputError, match="this version exists"):
        export.export(tiny_run, tiny_export.parent, version=1)
    assert sorted(path.stat().st_mtime_ns for path in tiny_export.rglob("*")) == before
    assert [path.name for path in tiny_export.parent.iterdir()] == ["1"]


def test_nothing_half_written_stays(tiny_run, tmp_path, monkeypatch):
    import tensorflow as tf

    def fail(self, folder, **options):
        (Path(folder) / "half").write_text("of it")
        raise OSError(28, "No space left on device")

    def fail_as_tensorflow(served, folder, **options):
        Path(folder).mkdir()
        raise tf.errors.ResourceExhaustedError(None, None, f"{folder}/half;\nNo space left")

    for cls, name, failing in [
        (Manifest, "write", fail),
        (tf.saved_model, "save", fail_as_tensorflow),
    ]:
        monkeypatch.setattr(cls, name, failing)
        for folder in (tmp_path, tmp_path / "new"):
            with pytest.raises(OutputError, match=r"1: cannot be written \(.*No space left") as caught:
                export.export(tiny_run, folder)
            assert "\n" not in str(caught.value)
            assert list(tmp_path.iterdir()) == []


def test_a_model_that_cannot_be_loaded_leaves_no_folder(tiny_run, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(tiny_run, broken)
    weights = max(broken.rglob("*.h5"), key=lambda path: path.stat().st_size)
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match=weights.name):
        export.export(broken, tmp_path / "out")
    with pytest.raises(ModelError):
        export.export("no_such_model", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_export_cannot_be_exported(tiny_export, tmp_path):
    with pytest.raises(ModelError, match="is an export already"):
        export.export(tiny_export.parent, tmp_path)


def test_the_verb(musicnet, tiny_run, tmp_path):
    outcome = musicnet("export", f"--model={tiny_run}", f"--output_dir={tmp_path}", "--version=7")
    assert outcome == (0, f"wrote {tmp_path / '7'}\n", "")
    assert inference.locate(tmp_path) == tmp_path / "7"
    assert musicnet("export", "--model=no_such", f"--output_dir={tmp_path}").status == 1
    assert musicnet("export", "--model=x", f"--output_dir={tmp_path}", "--version=0").status == 2
    assert musicnet("export", "stray", "--model=x", f"--output_dir={tmp_path}").status == 2
    (tmp_path / "file").write_text("")
    outcome = musicnet("export", f"--model={tiny_run}", f"--output_dir={tmp_path / 'file'}")
    assert outcome.status == 1
    assert outcome.stderr.startswith(f"musicnet export: error: {tmp_path / 'file'}: cannot write there")
