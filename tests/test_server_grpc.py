"""The development server over gRPC, asked by TensorFlow's own stubs; the loaded SavedModel is the oracle of values."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import soundfile

pytest.importorskip("grpc", reason="needs the extra 'serving'")
pytest.importorskip("tensorflow_serving", reason="needs the extra 'serving'")

import grpc
import tensorflow as tf
from grpc import StatusCode
from grpc_health.v1 import health_pb2
from server_stubs import SECONDS, Stubs, X, predict_request, refused, serving, settings_of, stubs_of
from tensorflow_serving.apis import get_model_metadata_pb2, model_management_pb2

from musicnet_tf import inference
from serving.server import Batching, ModelConfig, Server
from serving.server.settings import Tls

pytest_plugins = ["tiny_models", "toy_servables"]
WINDOW = RATE = 16000


@pytest.fixture(scope="module")
def server(tiny_export, toy):
    models = ModelConfig("tiny", tiny_export.parent), ModelConfig("toy", toy.parent, labels={"stable": 1})
    with Server(settings_of(*models, batching=Batching(max_batch_size=16))) as server:
        yield server


@pytest.fixture(scope="module")
def stubs(server):
    with stubs_of(server) as stubs:
        yield stubs


def test_answers_are_those_of_the_model(stubs, tiny_export):
    windows = np.random.default_rng(0).standard_normal((3, WINDOW)).astype(np.float32)
    expected = tf.saved_model.load(str(tiny_export)).signatures["serving_default"](windows=tf.constant(windows))
    found = stubs.predict("tiny", windows=windows)
    assert set(found) == set(expected)
    for name, values in found.items():
        np.testing.assert_allclose(values, expected[name].numpy(), rtol=0, atol=1e-6)


def test_an_answer_says_who_gave_it_and_holds_numbers_in_one_piece(stubs):
    request = predict_request(x=np.float32([[1, 2]]), y=np.float32([[3, 4]]))
    response = stubs.prediction.Predict(request, SECONDS)
    assert (response.model_spec.name, response.model_spec.signature_name) == ("toy", "serving_default")
    assert response.model_spec.version.value == 1
    assert response.outputs["sum"].tensor_content == np.float32([[4, 6]]).tobytes()


def test_strings_and_a_choice_of_outputs(stubs):
    text = np.array([b"a", b"\0\xff"], object)
    assert stubs.predict(signature="echo", text=text)["text_bytes"].tolist() == [b"a", b"\0\xff"]
    assert set(stubs.predict(signature="echo", text=text, output_filter=["text"])) == {"text"}


def test_requests_that_come_together_get_each_its_own(stubs):
    rng = np.random.default_rng(1)
    inputs = [rng.uniform(0, 9, (size, 2)).astype(np.float32) for size in rng.integers(0, 6, 60)]
    with ThreadPoolExecutor(24) as pool:
        found = list(pool.map(lambda x: stubs.predict(x=x, y=x)["sum"], inputs))
    for x, total in zip(inputs, found, strict=True):
        np.testing.assert_array_equal(total, x + x)


def test_a_bad_request_does_not_fail_those_beside_it(stubs):
    values = [np.float32([index if index % 5 else -1]) for index in range(40)]

    def half(x):
        try:
            return stubs.predict(signature="picky", x=x)["half"].tolist()
        except grpc.RpcError as error:
            return error.code(), error.details()

    with ThreadPoolExecutor(20) as pool:
        found = list(pool.map(half, values))
    for x, answer in zip(values, found, strict=True):
        if x[0] < 0:
            assert answer == (StatusCode.INVALID_ARGUMENT, "assertion failed: [no negative numbers please]")
        else:
            assert answer == [x[0] / 2]


def test_outputs_of_open_length_are_never_padded_to_those_of_another(stubs):
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda n: stubs.predict(signature="ones", n=np.int32([n]))["ones"].shape, range(1, 33)))
    assert found == [(1, n) for n in range(1, 33)]


def wav(seconds):
    file, samples = io.BytesIO(), np.random.default_rng(2).uniform(-0.5, 0.5, int(seconds * RATE))
    soundfile.write(file, samples, RATE, format="WAV", subtype="PCM_16")
    return file.getvalue()


def test_recordings_of_different_lengths_come_back_at_their_own(stubs, tiny_export):
    run = tf.saved_model.load(str(tiny_export)).signatures[inference.WAV_SIGNATURE]
    files = [np.array([wav(seconds)], object) for seconds in (0.7, 2.2, 1.4)]
    expected = [run(**{inference.WAV: tf.constant(file)}) for file in files]
    asked = [{inference.WAV: file} for file in files]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda inputs: stubs.predict("tiny", inference.WAV_SIGNATURE, **inputs), asked))
    for ours, theirs in zip(found, expected, strict=True):
        assert set(ours) == set(theirs)
        for name, values in theirs.items():
            assert ours[name].shape == values.shape
            np.testing.assert_allclose(ours[name], values, rtol=0, atol=1e-6)
    assert len({ours[inference.NUM_FRAMES][0] for ours in found}) == 3


def test_what_is_no_recording_is_refused_in_the_models_words(stubs):
    inputs = {inference.WAV: np.array([b"nonsense"], object)}
    code, details = refused(stubs.predict, "tiny", inference.WAV_SIGNATURE, **inputs)
    assert code is StatusCode.INVALID_ARGUMENT
    assert "not a WAV file" in details
    assert "{" not in details


@pytest.mark.parametrize(
    ("asked", "code", "reason"),
    [
        ({"model": ""}, StatusCode.INVALID_ARGUMENT, "ModelSpec has no name specified."),
        ({"model": "piano"}, StatusCode.NOT_FOUND, "Servable not found for request: Latest(piano)"),
        ({"model": "../toy"}, StatusCode.NOT_FOUND, "Servable not found for request: Latest(../toy)"),
        ({"version": 9}, StatusCode.NOT_FOUND, "Servable not found for request: Specific(toy, 9)"),
        ({"label": "beta"}, StatusCode.INVALID_ARGUMENT, "Unrecognized servable version label: beta"),
        ({"signature": "none"}, StatusCode.FAILED_PRECONDITION, 'Serving signature key "none" not found.'),
        ({"signature": "__saved_model_init_op"}, StatusCode.FAILED_PRECONDITION, "not found"),
        ({"output_filter": ["z"]}, StatusCode.INVALID_ARGUMENT, "output tensor alias not found in signature: z"),
        ({"z": X}, StatusCode.INVALID_ARGUMENT, "input size does not match signature: 3!=2"),
        ({"x": X[:, :1]}, StatusCode.INVALID_ARGUMENT, "input 'x' has shape [1, 1]; the signature wants [?, 2]"),
        ({"x": X.astype(np.float64)}, StatusCode.INVALID_ARGUMENT, "of data type float64; expected float32"),
        ({"x": np.zeros((17, 2), np.float32)}, StatusCode.INVALID_ARGUMENT, "Task size 17 is larger than maximum"),
        ({"x": np.zeros((2, 2), np.float32)}, StatusCode.INVALID_ARGUMENT, "must have equal 0th-dimension size"),
    ],
    ids=str,
)
def test_refusals_are_tensorflow_servings(stubs, asked, code, reason):
    found, details = refused(stubs.predict, **{"x": X, "y": X, **asked})
    assert found is code
    assert reason in details


def test_a_message_beyond_the_limit_is_refused_compressed_or_not(toy):
    with serving(ModelConfig("toy", toy.parent), max_message_bytes=2**20) as (_, stubs):
        large = predict_request(signature="echo", text=np.array([b"\0" * 2**22], object))
        for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
            with pytest.raises(grpc.RpcError, match="larger than max") as caught:
                stubs.prediction.Predict(large, SECONDS, compression=compression)
            assert caught.value.code() is StatusCode.RESOURCE_EXHAUSTED
        assert stubs.predict(x=X, y=X)["sum"].tolist() == [[2, 4]]


def test_garbage_instead_of_a_message_is_refused(stubs):
    call = stubs.channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    for garbage in (b"\xff" * 100, b"\x0a\xff\xff\xff\xff\x0f"):
        code, details = refused(call, garbage, SECONDS)
        assert code is StatusCode.INTERNAL
        assert "Traceback" not in details
    assert stubs.predict(x=X, y=X)["sum"].tolist() == [[2, 4]]


def test_metadata_are_the_signatures_of_the_saved_model(stubs):
    request = get_model_metadata_pb2.GetModelMetadataRequest(
        model_spec={"name": "toy"}, metadata_field=["signature_def"]
    )
    response = stubs.prediction.GetModelMetadata(request, SECONDS)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert {"serving_default", "picky", "ones", "echo"} <= set(signatures.signature_def)
    x = signatures.signature_def["serving_default"].inputs["x"]
    assert ([dim.size for dim in x.tensor_shape.dim], x.dtype) == ([-1, 2], tf.float32.as_datatype_enum)
    assert (response.model_spec.name, response.model_spec.version.value) == ("toy", 1)
    for field, reason in [([], "at least one metadata_field"), (["weights"], "weights is not supported")]:
        request = get_model_metadata_pb2.GetModelMetadataRequest(model_spec={"name": "toy"}, metadata_field=field)
        code, details = refused(stubs.prediction.GetModelMetadata, request, SECONDS)
        assert code is StatusCode.INVALID_ARGUMENT
        assert reason in details


def test_status_and_health(stubs):
    assert stubs.status("toy") == {1: "AVAILABLE"}
    assert refused(stubs.status, "piano") == (StatusCode.NOT_FOUND, "Could not find any versions of model piano")
    assert [stubs.check(service) for service in ("", "toy")] == [health_pb2.HealthCheckResponse.SERVING] * 2
    assert refused(stubs.check, "piano")[0] is StatusCode.NOT_FOUND


def test_a_request_cannot_name_a_path(stubs):
    code, details = refused(stubs.model.HandleReloadConfigRequest, model_management_pb2.ReloadConfigRequest())
    assert code is StatusCode.UNIMPLEMENTED
    assert "--model_config_file_poll_wait_seconds" in details


def test_labels_and_versions_choose(stubs):
    for choice in ({"label": "stable"}, {"version": 1}, {}):
        assert stubs.predict(x=X, y=X, **choice)["sum"].tolist() == [[2, 4]]


def test_tls_with_certificates_of_both_sides(toy):
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    own, client = authority.issue_cert("localhost"), authority.issue_cert("client")
    root = authority.cert_pem.bytes()
    tls = Tls(own.private_key_pem.bytes(), own.cert_chain_pems[0].bytes(), root)
    with Server(settings_of(ModelConfig("toy", toy.parent), tls=tls)) as server:
        target = f"localhost:{server.grpc_port}"
        known = grpc.ssl_channel_credentials(root, client.private_key_pem.bytes(), client.cert_chain_pems[0].bytes())
        with grpc.secure_channel(target, known) as channel:
            assert Stubs(channel).predict(x=X, y=X)["sum"].tolist() == [[2, 4]]
        with grpc.secure_channel(target, grpc.ssl_channel_credentials(root)) as channel:
            assert refused(Stubs(channel).predict, x=X, y=X)[0] is StatusCode.UNAVAILABLE


def test_counters_of_requests(toy):
    with serving(ModelConfig("toy", toy.parent)) as (server, stubs):
        stubs.predict(x=X, y=X)
        for name in ("piano", "violin"):
            refused(stubs.predict, name, x=X)
        counted = server.metrics.registry.get_sample_value
        labels = {"method": "Predict", "entrypoint": "grpc"}
        name = "tensorflow_serving_request_count_total"
        assert counted(name, {**labels, "model_name": "toy", "status": "OK"}) == 1
        assert counted(name, {**labels, "model_name": "", "status": "NOT_FOUND"}) == 2
        assert counted("tensorflow_serving_model_version_available", {"model_name": "toy", "version": "1"}) == 1
