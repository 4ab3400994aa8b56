"""The client against real servers that run an export, over gRPC and REST, by threads and by asyncio."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from conftest import ROOT

pytest.importorskip("grpc", reason="needs the extra 'serving'")
pytest.importorskip("tensorflow_serving", reason="needs the extra 'serving'")

from serving_ways import opened

from musicnet_tf import inference, windowing
from musicnet_tf.errors import ServingError, VersionGoneError
from serving.client import Options

pytest_plugins = ["tiny_models", "serving_backends", "serving_fixtures"]
WINDOW, FRAMES, HEADS = 16000, 50, {"onset", "frame", "velocity"}


@pytest.fixture(scope="module")
def predictor(backend, scheme, connect):
    with connect(backend.address(scheme)) as predictor:
        yield predictor


@pytest.fixture(scope="module")
def local(tiny_export):
    return inference.load(tiny_export)


def assert_same(found, expected):
    assert set(found) == set(expected) == HEADS
    for head in HEADS:
        assert found[head].dtype == np.float32
        np.testing.assert_allclose(found[head], expected[head], rtol=0, atol=1e-6)


def noise(*shape):
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


def test_the_served_model_is_the_local_one(predictor, local):
    assert predictor.manifest == local.manifest
    windows = noise(3, WINDOW)
    assert_same(predictor(windows), local(windows))


def test_a_recording_goes_through_a_server_as_through_this_process(predictor, local, rising_tone):
    spec = predictor.manifest.geometry
    found = windowing.posteriorgram(rising_tone, spec, predictor, batch_size=2)
    assert_same(found, windowing.posteriorgram(rising_tone, spec, local))


def test_large_batches_come_back_whole(backend, scheme, connect, local):
    windows = noise(5, WINDOW)
    with connect(backend.address(scheme), Options(max_windows=2, in_flight=3)) as predictor:
        assert_same(predictor(windows), local(windows))
        for found, batch in zip(predictor.map([windows, windows[:2]]), [windows, windows[:2]], strict=True):
            assert_same(found, local(batch))
        assert predictor(windows[:0])["frame"].shape == (0, FRAMES, 88)


def test_compressed_messages_say_the_same(backend, scheme, connect, local):
    windows = noise(1, WINDOW)
    with connect(backend.address(scheme), Options(compression="gzip")) as predictor:
        assert_same(predictor(windows), local(windows))


@pytest.mark.parametrize(("model", "version"), [("tiny", 3), ("tiny@1", 1), ("tiny@3", 3), ("tiny:stable", 1)])
def test_versions_by_number_by_label_and_the_newest(backend, scheme, connect, model, version):
    with connect(backend.address(scheme, model)) as predictor:
        assert predictor.address.version == version
        assert str(predictor.address).endswith(f"/tiny@{version}")
        assert predictor(noise(1, WINDOW))["frame"].shape == (1, FRAMES, 88)


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("piano", r"/piano: the server has no such model or version \("),
        ("tiny@2", r"/tiny@2: the server has no such model or version; it has version 1, 3$"),
        ("tiny:new", r"/tiny:new: the server has no version labelled 'new'"),
    ],
)
def test_what_is_not_there_is_named(backend, scheme, connect, model, told):
    with pytest.raises(ServingError, match=told) as error:
        opened(connect, backend.address(scheme, model))
    assert not isinstance(error.value, VersionGoneError)


def test_a_signature_that_is_missing_is_named(backend, scheme, connect, monkeypatch):
    monkeypatch.setattr(inference, "DESCRIBE", "explain")
    with pytest.raises(ServingError, match=r"/tiny.*: the model has no signature 'explain'; export it with"):
        opened(connect, backend.address(scheme))


def test_a_model_of_another_program_is_told_apart(backend, scheme, connect, monkeypatch):
    monkeypatch.setattr(inference, "DESCRIBE", inference.SIGNATURE)
    monkeypatch.setattr(inference, "EACH", inference.WINDOWS)
    with pytest.raises(ServingError, match=r"tiny(@3)?: (does not describe itself|the server refused)"):
        opened(connect, backend.address(scheme))


@pytest.mark.parametrize("shape", [(WINDOW,), (1, WINDOW - 1), (1, 1, WINDOW)])
def test_windows_that_do_not_fit_are_refused_before_they_are_sent(predictor, shape):
    with pytest.raises(ServingError, match=r"the model takes \(batch, 16000\)"):
        predictor(np.zeros(shape, np.float32))


def test_windows_of_another_length_are_refused_by_the_server_too(backend, scheme, connect):
    with connect(backend.address(scheme)) as predictor:
        manifest = predictor.manifest
        predictor._session.manifest = manifest.model_copy(update={"spec": {**manifest.spec, "window_length": 8000}})
        with pytest.raises(ServingError, match=r"the server refused: INVALID_ARGUMENT \(.+\)"):
            predictor(np.zeros((1, 8000), np.float32))


def test_answers_that_do_not_fit_the_manifest_are_refused(backend, scheme, connect):
    with connect(backend.address(scheme)) as predictor:
        manifest = predictor.manifest
        predictor._session.manifest = manifest.model_copy(update={"spec": {**manifest.spec, "num_frames": 49}})
        with pytest.raises(ServingError, match=r"has shape \(1, 50, 88\), its manifest promises \(1, 49, 88\)"):
            predictor(np.zeros((1, WINDOW), np.float32))


def test_a_server_that_is_not_there(scheme, connect):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        address = f"{scheme}://127.0.0.1:{taken.getsockname()[1]}/tiny"
        with pytest.raises(ServingError, match=f"{address}: no server answers there; is it running"):
            opened(connect, address, Options(connect_timeout=0.05))


LIGHT = {"grpc": "urllib3", "http": "grpc"}
HEAVY = {"tensorflow", "keras", "tensorflow_serving", "scipy", "matplotlib", "librosa", "soundfile", "numba", "sklearn"}


def in_a_process(code, folder, *arguments):
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env={"PYTHONPATH": str(ROOT)},
    )


def test_the_client_runs_without_what_is_heavy(backend, scheme, tmp_path, local):
    """In a process of its own: neither TensorFlow nor the other protocol's library, and in 150 MB."""
    windows = noise(1, WINDOW)
    np.save(tmp_path / "windows.npy", windows)
    code = f"""
import json, sys
import numpy as np
from serving import client
with client.connect({backend.address(scheme)!r}) as predictor:
    np.savez("heads.npz", **predictor(np.load("windows.npy")))
modules = sorted({{name.partition(".")[0] for name in sys.modules}})
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps([modules, int(peak.split()[1]) / 1024]))
"""
    outcome = in_a_process(code, tmp_path)
    assert outcome.returncode == 0, outcome.stderr
    modules, megabytes = json.loads(outcome.stdout)
    assert not (HEAVY | {LIGHT[scheme]}) & set(modules)
    assert megabytes < 150
    with np.load(tmp_path / "heads.npz") as heads:
        assert_same(dict(heads), local(windows))


@pytest.mark.parametrize("scheme", ["grpc"], indirect=True)  # the client's own start is tested for both
def test_the_verb_transcribes_by_a_server_without_tensorflow(backend, scheme, tmp_path, rising_tone, local):
    soundfile.write(tmp_path / "tone.wav", rising_tone, 16000)
    code = """
import sys
from musicnet_tf.bin.main import main
status = main(sys.argv[1:])
assert not {"tensorflow", "keras"} & set(sys.modules)
sys.exit(status)
"""
    arguments = ["transcribe", "tone.wav", "--output_dir=.", "--formats=npz", "--in_flight=2"]
    outcome = in_a_process(code, tmp_path, *arguments, f"--server={backend.address(scheme)}")
    assert (outcome.returncode, outcome.stderr) == (0, "")
    expected = windowing.posteriorgram(rising_tone, local.manifest.geometry, local)
    with np.load(tmp_path / "tone.npz") as npz:
        np.testing.assert_allclose(npz["frame"], expected["frame"], atol=1e-3)


def test_the_verb_tells_in_one_line_that_a_model_is_not_there(musicnet, backend, scheme, tmp_path, rising_tone):
    soundfile.write(tmp_path / "tone.wav", rising_tone, 16000)
    address = backend.address(scheme, "piano")
    refused = musicnet("transcribe", tmp_path / "tone.wav", f"--output_dir={tmp_path}", f"--server={address}")
    assert refused.status == 1
    assert refused.stderr.startswith(f"musicnet transcribe: error: {address}: the server has no such model or version")
    assert len(refused.stderr.splitlines()) == 1


def test_the_verb_refuses_flags_that_do_not_go_together(musicnet, tmp_path):
    (tmp_path / "a.wav").touch()

    def refused(*args):
        outcome = musicnet("transcribe", tmp_path / "a.wav", f"--output_dir={tmp_path / 'out'}", *args)
        assert outcome.status == 2
        return outcome.stderr

    assert "not both" in refused("--server=grpc://h/m", "--model=x")
    assert "--server_token_file is of use with --server alone" in refused("--server_token_file=t")
    assert "in_flight" in refused("--server=grpc://h/m", "--in_flight=0")


def test_the_verb_waits_for_a_server_no_longer_than_it_was_told(musicnet, tmp_path, rising_tone):
    soundfile.write(tmp_path / "tone.wav", rising_tone, 16000)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"grpc://127.0.0.1:{taken.getsockname()[1]}/tiny"
        flags = [f"--output_dir={tmp_path}", f"--server={address}", "--server_connect_timeout=0.05"]
        outcome = musicnet("transcribe", tmp_path / "tone.wav", *flags)
    assert outcome.status == 1
    assert f"{address}: no server answers there" in outcome.stderr


@pytest.mark.slow
def test_a_version_that_is_swapped_away_is_told_apart_and_the_next_one_taken_up(tiny_export, tmp_path, scheme, connect):
    from serving.server import ModelConfig, Server, Settings

    shutil.copytree(tiny_export, tmp_path / "tiny/1")
    settings = Settings((ModelConfig("tiny", tmp_path / "tiny"),), port=0, rest_api_port=0, poll_seconds=0)
    with Server(settings) as server:
        port = server.grpc_port if scheme == "grpc" else server.rest_port
        with connect(f"{scheme}://localhost:{port}/tiny") as predictor:
            before = predictor(noise(1, WINDOW))
            (tmp_path / "tiny/1").rename(tmp_path / "tiny/2")
            server.models.poll()
            with pytest.raises(VersionGoneError, match=r"tiny@1: the server has let this version go.*it has version 2"):
                predictor(noise(1, WINDOW))
            predictor.renew()
            assert predictor.address.version == 2
            assert_same(predictor(noise(1, WINDOW)), before)
