"""TFLite files: equal to the model that they were made from, whole or refused, and run without TensorFlow."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musicnet_tf import export, inference, windowing
from musicnet_tf.errors import ConfigError, ModelError
from musicnet_tf.lite import container, predictor
from musicnet_tf.lite.container import FrontEnd
from musicnet_tf.lite.spectra import Spectra, _Bands
from musicnet_tf.manifest import Manifest

pytest_plugins = ["tiny_models"]
WINDOW, FRAMES, HEADS = 16000, 50, {"onset", "frame", "velocity"}
needs_runtime = pytest.mark.skipif(
    not importlib.util.find_spec("ai_edge_litert"), reason="the package ai-edge-litert is not installed"
)


@pytest.fixture(scope="module")
def lite_export(tiny_run, tmp_path_factory):
    """Version 1, with windows longer than those trained; not to be changed."""
    return export.export(tiny_run, tmp_path_factory.mktemp("lite"), window_frames=120, form="tflite")


@pytest.fixture(scope="module")
def light(lite_export):
    return inference.load(lite_export)


@pytest.fixture
def copied(lite_export, tmp_path):
    """An export that may be damaged."""
    return shutil.copytree(lite_export, tmp_path / "1")


@pytest.fixture(scope="module")
def heard(tiny_run, rising_tone):
    """What the trained network gives for the tone."""
    trained = inference.load(tiny_run)
    return windowing.posteriorgram(rising_tone, trained.manifest.geometry, trained)


def test_it_gives_what_the_run_gives_in_longer_windows(light, heard, rising_tone):
    spec = light.manifest.geometry
    assert (spec.num_frames, spec.window_length, light.runtime) == (120, 120 * 320, "tensorflow")
    found = windowing.posteriorgram(rising_tone, spec, light)
    for head in HEADS:
        assert np.ptp(heard[head]) > 0.005, "two constants would be equal too"
        np.testing.assert_allclose(found[head], heard[head], rtol=0, atol=2e-5)


def test_batches_come_one_after_the_other_whether_by_call_or_by_map(light, rising_tone):
    length = light.manifest.geometry.window_length
    windows = np.stack([rising_tone[at : at + length] for at in (0, 3000, 9000)])
    calls = [light(windows[:2]), light(windows[2:]), light(windows[:0])]
    mapped = list(light.map(iter([windows[:2], windows[2:], windows[:0]])))
    assert [values["onset"].shape for values in mapped] == [(2, 120, 88), (1, 120, 88), (0, 120, 88)]
    for one, other in zip(calls, mapped, strict=True):
        for head in HEADS:
            np.testing.assert_array_equal(one[head], other[head])
    assert np.abs(mapped[0]["onset"][0] - mapped[0]["onset"][1]).max() > 1e-3
    for hear in (light, lambda batch: list(light.map([batch]))):
        with pytest.raises(ModelError, match=r"takes windows of shape \(batch, 38400\), got \(2, 16000\)"):
            hear(windows[:2, :WINDOW])


@needs_runtime
def test_the_light_runtime_imports_no_tensorflow_and_gives_the_same(lite_export, heard, rising_tone, tmp_path):
    np.save(tmp_path / "tone.npy", rising_tone)
    code = """
import sys
import numpy as np
from musicnet_tf import inference, windowing
model = inference.load(sys.argv[1], "auto")
found = windowing.posteriorgram(np.load(sys.argv[2] + "/tone.npy"), model.manifest.geometry, model)
assert model.runtime == "lite"
assert not {"tensorflow", "keras"} & set(sys.modules)
np.savez(sys.argv[2] + "/found.npz", **found)
"""
    subprocess.run([sys.executable, "-c", code, str(lite_export), str(tmp_path)], check=True)
    with np.load(tmp_path / "found.npz") as found:
        for head in HEADS:
            np.testing.assert_allclose(found[head], heard[head], rtol=0, atol=2e-5)


@needs_runtime
def test_beside_weights_the_file_is_run_where_it_may_be(tiny_run, lite_export, tmp_path):
    both = shutil.copytree(tiny_run, tmp_path / "both")
    shutil.copy(lite_export / inference.LITE_MODEL, both)
    assert inference.load(both, "auto").runtime == "lite"
    assert inference.load(both, "lite").manifest.geometry.num_frames == 120
    assert inference.load(both, "tensorflow").manifest == inference.load(both).manifest == Manifest.read(both)
    with pytest.raises(ModelError, match=r"holds no model\.tflite; make one by `musicnet export --format=tflite`"):
        inference.load(tiny_run, "lite")
    weights = both / inference.WEIGHTS
    weights.write_bytes(weights.read_bytes() + b" ")
    with pytest.raises(ModelError, match="was made from other weights than"):
        inference.load(both, "auto")


def test_without_the_runtime_tensorflow_is_taken_unless_the_other_was_asked_for(
    tiny_run, lite_export, tmp_path, monkeypatch
):
    monkeypatch.setattr(predictor, "runtime", lambda: None)
    both = shutil.copytree(tiny_run, tmp_path / "both")
    shutil.copy(lite_export / inference.LITE_MODEL, both)
    assert inference.load(both, "auto").manifest == Manifest.read(both)
    with pytest.raises(ModelError, match=r"needs the package ai-edge-litert: install musicnet_tf\[lite\]"):
        inference.load(both, "lite")


def test_the_file_tells_how_it_was_made(lite_export, tiny_run):
    contents = container.read(lite_export / inference.LITE_MODEL)
    told = contents.description
    assert told.front_end == FrontEnd(hop_length=320, window_lengths=(4096, 1024), floor_db=-80)
    assert told.precision == "float32"
    assert told.spec == Manifest.read(lite_export).spec
    assert told.weights_sha256 == {inference.WEIGHTS: container.sha256(tiny_run / inference.WEIGHTS)}
    assert {"tensorflow", "keras", "musicnet_tf"} == set(told.versions)
    assert contents.model[4:8] == b"TFL3"


def test_int8_is_smaller_and_near(make_run, rising_tone, tmp_path):
    run = make_run(tmp_path / "wider", "tiny", "model.channels=16")  # the narrow one has too few weights to be rounded
    folders = [export.export(run, tmp_path / "out", form="tflite", precision=each) for each in ("float32", "int8")]
    exact, rounded = (len(container.read(folder / inference.LITE_MODEL).model) for folder in folders)
    assert rounded < exact
    exact, rounded = (inference.load(folder)(rising_tone[None, :WINDOW]) for folder in folders)
    for head in HEADS:
        assert 1e-6 < np.abs(rounded[head] - exact[head]).max() < 0.1


def test_a_model_of_another_family_takes_the_waveform(make_run, tmp_path, rising_tone):
    run = make_run(tmp_path / "mlp", "paper/mlp_500", "model.hidden=4", "model.window_frames=2")
    folder = export.export(run, tmp_path / "out", form="tflite")
    assert container.read(folder / inference.LITE_MODEL).description.front_end is None
    found, trained = inference.load(folder), inference.load(run)
    length = trained.manifest.geometry.window_length
    windows = np.stack([rising_tone[at : at + length] for at in (0, 20000)])
    for head, values in trained(windows).items():
        assert np.ptp(values) > 0.005
        np.testing.assert_allclose(found(windows)[head], values, rtol=0, atol=1e-5)
    with pytest.raises(ConfigError, match="precision=int8: the front end of model 'mlp' would be rounded"):
        export.export(run, tmp_path / "out", form="tflite", precision="int8")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["1"]


@given(share=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@settings(max_examples=150)
def test_any_bit_that_is_flipped_is_refused_or_changes_nothing(lite_export, tmp_path_factory, share, bit):
    whole = (lite_export / inference.LITE_MODEL).read_bytes()
    damaged, at = bytearray(whole), int(share * len(whole))
    damaged[at] ^= 1 << bit
    path = tmp_path_factory.getbasetemp() / "flipped.tflite"
    path.write_bytes(damaged)
    try:
        found = container.read(path)
    except ModelError as error:
        assert "flipped.tflite: no whole TFLite model" in str(error) and "\n" not in str(error)
        return
    expected = container.read(lite_export / inference.LITE_MODEL)  # the bit was of a date or another thing not read
    assert (found.description, found.model) == (expected.description, expected.model)
    assert all(np.array_equal(found.filters[length], expected.filters[length]) for length in expected.filters)


@pytest.mark.parametrize("length", [0, 10, 5000, -1])
def test_a_file_that_was_cut(copied, length):
    path = copied / inference.LITE_MODEL
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ModelError, match=r"model\.tflite: no whole TFLite model of this program .*; export the model"):
        inference.load(copied)


def test_a_file_of_other_heads_or_of_a_later_format(copied):
    manifest = json.loads((copied / "manifest.json").read_text())
    heads = {name: manifest["spec"]["heads"][name] for name in ("onset", "frame")}
    (copied / "manifest.json").write_text(json.dumps({**manifest, "spec": {**manifest["spec"], "heads": heads}}))
    with pytest.raises(ModelError, match="has another clock or other heads"):
        inference.load(copied)
    contents = container.read(copied / inference.LITE_MODEL)
    later = contents.description.model_copy(update={"format_version": 2})
    container.write(copied / inference.LITE_MODEL, container.LiteModel(later, contents.model, contents.filters))
    with pytest.raises(ModelError, match="format version 2, this program reads 1"):
        inference.load(copied)


def test_equal_contents_give_equal_bytes_with_members_that_anybody_reads(lite_export, tmp_path):
    source = lite_export / inference.LITE_MODEL
    container.write(tmp_path / "again.tflite", container.read(source))
    assert (tmp_path / "again.tflite").read_bytes() == source.read_bytes()
    with zipfile.ZipFile(source) as archive:
        assert archive.namelist() == ["lite.json", "filters_4096.npy", "filters_1024.npy"]


def test_the_verb_and_what_follows_it(musicnet, tiny_run, tmp_path):
    outcome = musicnet("export", f"--model={tiny_run}", f"--output_dir={tmp_path}", "--format=tflite")
    assert outcome[:2] == (0, f"wrote {tmp_path / '1'}\n")
    assert inference.locate(tmp_path) == tmp_path / "1"
    assert inference.read_manifest(tmp_path) == Manifest.read(tiny_run)
    assert sorted(path.name for path in (tmp_path / "1").iterdir()) == ["manifest.json", "model.tflite"]
    outcome = musicnet("export", f"--model={tmp_path}", f"--output_dir={tmp_path}")
    assert (outcome.status, "is an export already" in outcome.stderr) == (1, True)
    outcome = musicnet("export", f"--model={tiny_run}", f"--output_dir={tmp_path}", "--precision=int8")
    assert (outcome.status, "a SavedModel is of float32" in outcome.stderr) == (1, True)


def test_spectra_of_a_sine_are_its_power():
    """A full-scale sine on a bin has |STFT|² = 0.25 there, and a quarter of that next to it, under a Hann window."""
    front_end = FrontEnd(hop_length=320, window_lengths=(1024,), floor_db=-80.0)
    hear = Spectra(front_end, {1024: np.eye(513, dtype=np.float32)}, num_frames=100)
    sine = np.sin(2 * np.pi * 64 / 1024 * np.arange(32000)).astype(np.float32)
    level = hear(sine)
    assert level.shape == (100, 513, 1)
    # At a distance of one bin, a Hann window has half of its amplitude: a quarter of its power.
    expected = {63: 0.0625, 64: 0.25, 65: 0.0625, 66: 0.0, 200: 0.0}
    for at, power in expected.items():
        np.testing.assert_allclose(level[10:90, at, 0], np.log10(1 + power * 1e8), atol=1e-3)
    assert np.all(hear(np.zeros(32000, np.float32)) == 0)


@given(seed=st.integers(0, 2**32 - 1), bins=st.integers(1, 80), rows=st.integers(2, 60))
def test_bands_are_the_whole_product(seed, bins, rows):
    rng = np.random.default_rng(seed)
    filters = (rng.random((rows, bins)) * (rng.random((rows, bins)) < 0.1)).astype(np.float32)
    power = rng.random((3, rows)).astype(np.float32)
    bands = _Bands(filters)
    np.testing.assert_allclose(bands(power[:, : bands.num_rows]), power @ filters, rtol=1e-5, atol=1e-6)
