"""The client against a real gRPC server that runs an export."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest
from conftest import ROOT

pytest.importorskip("grpc", reason="needs the extra 'serving'")
pytest.importorskip("tensorflow_serving", reason="needs the extra 'serving'")

from prediction_server import PredictionService, serving
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import predict_pb2

from musicnet_tf import inference, messages, windowing
from musicnet_tf.errors import ServingError
from serving import client

pytest_plugins = ["tiny_models"]
WINDOW, FRAMES, HEADS = 16000, 50, {"onset", "frame", "velocity"}


@pytest.fixture(scope="module")
def folder(tiny_export, tmp_path_factory):
    """A model in versions 1 and 3."""
    folder = tmp_path_factory.mktemp("served") / "tiny"
    for version in ("1", "3"):
        shutil.copytree(tiny_export, folder / version)
    return folder


@pytest.fixture(scope="module")
def service(folder):
    return PredictionService("tiny", folder)


@pytest.fixture(scope="module")
def server(service):
    with serving(service) as target:
        yield target


@pytest.fixture
def predictor(server, service):
    with client.connect(f"grpc://{server}/tiny") as predictor:
        service.requests.clear()
        yield predictor


@pytest.fixture(scope="module")
def local(tiny_export):
    return inference.load(tiny_export)


@pytest.mark.parametrize("value_by_value", [True, False])
def test_the_served_model_is_the_local_one(predictor, service, local, rising_tone, monkeypatch, value_by_value):
    monkeypatch.setattr(service, "value_by_value", value_by_value)
    assert predictor.manifest == local.manifest
    windows = np.stack([rising_tone[:WINDOW], rising_tone[9000 : 9000 + WINDOW]])
    expected, found = local(windows), predictor(windows)
    assert set(found) == HEADS
    for head in HEADS:
        assert found[head].dtype == np.float32
        np.testing.assert_allclose(found[head], expected[head], rtol=0, atol=1e-6)


def test_a_recording_goes_through_a_server_as_through_this_process(predictor, local, rising_tone):
    spec = predictor.manifest.geometry
    found = windowing.posteriorgram(rising_tone, spec, predictor)
    expected = windowing.posteriorgram(rising_tone, spec, local)
    for head in HEADS:
        np.testing.assert_allclose(found[head], expected[head], rtol=0, atol=1e-6)


def test_large_batches_are_split_below_grpcs_limit(predictor, service, local):
    windows = np.random.default_rng(0).standard_normal((70, WINDOW)).astype(np.float32)
    assert windows.nbytes > 4 * 2**20
    found = predictor(windows)
    sizes = [inputs["windows"][0] for _, inputs in service.requests]
    assert sum(sizes) == 70
    assert max(sizes) == min(client.MAX_WINDOWS, client.MAX_MESSAGE_BYTES // windows[0].nbytes)
    np.testing.assert_allclose(found["frame"][-3:], local(windows[-3:])["frame"], rtol=0, atol=1e-6)
    assert found["frame"].shape == (70, FRAMES, 88)


def test_versions_by_number_by_label_and_the_newest(server):
    for address, version in [("tiny", "3"), ("tiny@1", "1"), ("tiny@stable", "1")]:
        with client.connect(f"grpc://{server}/{address}") as predictor:
            assert predictor.address.version == version


def test_a_client_stays_with_the_version_it_began_with(folder, tmp_path, rising_tone):
    shutil.copytree(folder / "1", tmp_path / "1")
    service = PredictionService("tiny", tmp_path)
    with serving(service) as target, client.connect(f"grpc://{target}/tiny") as predictor:
        service._versions[2] = object()  # a newer one that would fail
        assert predictor(rising_tone[None, :WINDOW])["frame"].shape == (1, FRAMES, 88)
        service._versions.pop(1)
        with pytest.raises(ServingError, match=r"tiny@1: the server has no such model or version"):
            predictor(rising_tone[None, :WINDOW])


@pytest.mark.parametrize("shape", [(WINDOW,), (1, WINDOW - 1), (1, 1, WINDOW)])
def test_windows_that_do_not_fit_are_refused_before_they_are_sent(predictor, service, shape):
    with pytest.raises(ServingError, match=r"the model takes \(batch, 16000\)"):
        predictor(np.zeros(shape, np.float32))
    assert service.requests == []


def test_answers_that_do_not_fit_the_manifest_are_refused(predictor):
    spec = {**predictor.manifest.spec, "num_frames": 49}
    predictor.manifest = predictor.manifest.model_copy(update={"spec": spec})
    with pytest.raises(ServingError, match=r"has shape \(1, 50, 88\), its manifest promises \(1, 49, 88\)"):
        predictor(np.zeros((1, WINDOW), np.float32))


def test_windows_of_another_length_are_refused_by_the_server_too(predictor):
    predictor.manifest = predictor.manifest.model_copy(
        update={"spec": {**predictor.manifest.spec, "window_length": 8000}}
    )
    with pytest.raises(ServingError, match=r"the server refused: INVALID_ARGUMENT \(.+\)"):
        predictor(np.zeros((1, 8000), np.float32))


def test_an_unknown_model_is_named(server):
    with pytest.raises(ServingError, match=r"/piano: the server has no such model or version \(Servable not found"):
        client.connect(f"grpc://{server}/piano")
    with pytest.raises(ServingError, match="no such model or version"):
        client.connect(f"grpc://{server}/tiny@2")


def test_a_model_of_another_program_is_told_apart(server, monkeypatch):
    monkeypatch.setattr(inference, "DESCRIBE", "explain")
    with pytest.raises(ServingError, match=r'FAILED_PRECONDITION .*"explain" not found'):
        client.connect(f"grpc://{server}/tiny")
    monkeypatch.undo()
    monkeypatch.setattr(inference, "MANIFEST", "story")
    with pytest.raises(ServingError, match="does not describe itself"):
        client.connect(f"grpc://{server}/tiny")
    monkeypatch.undo()
    monkeypatch.setattr(client, "FORMAT_VERSION", 2)
    with pytest.raises(ServingError, match="format version 1, this program reads 2; export the model again"):
        client.connect(f"grpc://{server}/tiny")


def test_a_server_that_is_not_there(unused_port):
    with pytest.raises(ServingError, match=rf"grpc://127.0.0.1:{unused_port}/tiny: no server answers there"):
        client.connect(f"grpc://127.0.0.1:{unused_port}/tiny")


@pytest.fixture
def unused_port():
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        yield taken.getsockname()[1]


def test_a_server_that_does_not_answer_in_time(server, service, monkeypatch):
    released = threading.Event()
    answer = PredictionService._message

    def late(self, tensor):
        released.wait(10)
        return answer(self, tensor)

    monkeypatch.setattr(PredictionService, "_message", late)
    with pytest.raises(ServingError, match=r"no answer within 0\.2 s; allow it more time"):
        client.connect(f"grpc://{server}/tiny", timeout=0.2)
    released.set()


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("grpc://host:1/notes", ("host:1", "notes", "")),
        ("grpc://host/notes@12", ("host:8500", "notes", "12")),
        (f"grpc://host/notes@{2**63 - 1}", ("host:8500", "notes", str(2**63 - 1))),
        ("grpc://[::1]:9/notes@canary", ("[::1]:9", "notes", "canary")),
    ],
)
def test_addresses(text, parsed):
    assert client.Address.parse(text) == client.Address(*parsed)


@pytest.mark.parametrize(
    "text",
    [
        *("host:8500/notes", "http://host/notes", "grpc://host:8500", "grpc:///m", "grpc://h:x/m", "grpc://h/a/b", ""),
        *(f"grpc://h/m@{2**63}", f"grpc://h/m@{'9' * 5000}"),
    ],
)
def test_what_is_no_address(text):
    with pytest.raises(ServingError, match="not an address"):
        client.connect(text)


def test_our_messages_are_those_of_the_stubs(rising_tone):
    import tensorflow as tf

    windows = rising_tone[: 2 * WINDOW].reshape(2, WINDOW)
    ours = messages.PredictRequest(inputs=[{"key": "windows", "value": messages.to_tensor(windows)}])
    ours.model_spec.name, ours.model_spec.signature_name = "notes", "serving_default"
    ours.model_spec.version.value = 2**40
    theirs = predict_pb2.PredictRequest.FromString(ours.SerializeToString())
    assert (theirs.model_spec.name, theirs.model_spec.signature_name) == ("notes", "serving_default")
    assert theirs.model_spec.version.value == 2**40
    assert theirs.inputs["windows"].dtype == types_pb2.DT_FLOAT
    np.testing.assert_array_equal(tf.make_ndarray(theirs.inputs["windows"]), windows)
    int32 = messages.to_tensor(np.array([[1, -2]], np.int32)).SerializeToString()
    back = predict_pb2.PredictRequest().inputs["x"].FromString(int32)
    np.testing.assert_array_equal(tf.make_ndarray(back), [[1, -2]])
    for number in (messages._DT_FLOAT, messages._DT_INT32, messages._DT_STRING):
        assert types_pb2.DataType.Name(number) in {"DT_FLOAT", "DT_INT32", "DT_STRING"}


def array_of(**fields):
    """What `to_array` reads of a tensor that TensorFlow's own message holds."""
    theirs = predict_pb2.PredictResponse()
    theirs.outputs["x"].dtype = fields.pop("dtype", types_pb2.DT_FLOAT)
    for size in fields.pop("shape"):
        theirs.outputs["x"].tensor_shape.dim.add(size=size)
    for name, value in fields.items():
        theirs.outputs["x"].MergeFrom(type(theirs.outputs["x"])(**{name: value}))
    (entry,) = messages.PredictResponse.FromString(theirs.SerializeToString()).outputs
    return messages.to_array(entry.value)


def test_tensors_of_every_form_are_read():
    np.testing.assert_array_equal(array_of(shape=(2, 1), float_val=[1, 2]), [[1], [2]])
    np.testing.assert_array_equal(array_of(shape=(2, 2), float_val=[3]), [[3, 3], [3, 3]])
    np.testing.assert_array_equal(array_of(shape=(1,), tensor_content=b"\0\0\xc0?"), [1.5])
    assert array_of(shape=(1,), dtype=types_pb2.DT_STRING, string_val=[b"a"]).tolist() == [b"a"]
    assert array_of(shape=(0, 3)).shape == (0, 3)


@pytest.mark.parametrize(
    "fields",
    [
        {"shape": (3,), "float_val": [1, 2]},
        {"shape": (2,), "tensor_content": b"\0\0\xc0?"},
        {"shape": (1,), "tensor_content": b"\0\0\xc0"},
        {"shape": (1,), "dtype": types_pb2.DT_DOUBLE, "double_val": [1.0]},
        {"shape": (2,), "dtype": types_pb2.DT_STRING, "string_val": [b"a"]},
    ],
)
def test_tensors_that_are_damaged_or_foreign_are_errors(fields):
    with pytest.raises(ValueError, match=r".+"):
        array_of(**fields)


def test_the_client_runs_without_tensorflow(server, tmp_path, local, rising_tone):
    np.save(tmp_path / "windows.npy", rising_tone[None, :WINDOW])
    code = f"""
import sys
import numpy as np
from serving import client
with client.connect("grpc://{server}/tiny") as predictor:
    np.save({str(tmp_path / "frame.npy")!r}, predictor(np.load({str(tmp_path / "windows.npy")!r}))["frame"])
assert not {{"tensorflow", "keras", "tensorflow_serving"}} & set(sys.modules)
"""
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert outcome.returncode == 0, outcome.stderr
    expected = local(rising_tone[None, :WINDOW])["frame"]
    np.testing.assert_allclose(np.load(tmp_path / "frame.npy"), expected, rtol=0, atol=1e-6)


def test_the_verb_transcribes_by_a_server(musicnet, server, service, tmp_path, rising_tone):
    import soundfile

    soundfile.write(tmp_path / "tone.wav", rising_tone, 16000)
    service.requests.clear()
    args = [tmp_path / "tone.wav", f"--server=grpc://{server}/tiny", f"--output_dir={tmp_path}", "--formats=npz"]
    outcome = musicnet("transcribe", *args)
    assert (outcome.status, outcome.stderr) == (0, "")
    assert [signature for signature, _ in service.requests] == ["describe", "serving_default"]
    with np.load(tmp_path / "tone.npz") as npz:
        assert npz["frame"].shape == (165, 88)
    assert "not both" in musicnet("transcribe", *args, "--model=x").stderr
    refused = musicnet("transcribe", args[0], f"--server=grpc://{server}/piano", f"--output_dir={tmp_path}")
    assert refused.status == 1
    assert "no such model or version" in refused.stderr
