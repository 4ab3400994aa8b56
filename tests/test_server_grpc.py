"""The development server over gRPC, asked by TensorFlow's own stubs; the loaded SavedModel is the oracle of values."""

from __future__ import annotations

import contextlib
import shutil
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

pytest.importorskip("grpc", reason="needs the extra 'serving'")
pytest.importorskip("tensorflow_serving", reason="needs the extra 'serving'")

import grpc
import tensorflow as tf
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
)

from musicnet_tf.errors import ConfigError, ServingError
from serving.server import Batching, ModelConfig, Server, Settings, VersionPolicy
from serving.server.settings import Tls

pytest_plugins = ["tiny_models", "toy_servables"]
WINDOW = 16000
SECONDS = 60  # a deadline that no healthy machine meets


class Stubs:
    """TensorFlow Serving's own clients of a server."""

    def __init__(self, channel):
        self.channel = channel
        self.prediction = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        self.model = model_service_pb2_grpc.ModelServiceStub(channel)
        self.health = health_pb2_grpc.HealthStub(channel)

    def predict(self, model="toy", signature="", version=None, label=None, output_filter=(), timeout=SECONDS, **inputs):
        call = self.prediction.Predict(
            predict_request(model, signature, version, label, output_filter, **inputs), timeout
        )
        return {name: tf.make_ndarray(tensor) for name, tensor in call.outputs.items()}

    def check(self, service=""):
        return self.health.Check(health_pb2.HealthCheckRequest(service=service), SECONDS).status

    def status(self, model):
        request = get_model_status_pb2.GetModelStatusRequest(model_spec={"name": model})
        found = self.model.GetModelStatus(request, SECONDS).model_version_status
        return {each.version: get_model_status_pb2.ModelVersionStatus.State.Name(each.state) for each in found}


def predict_request(model="toy", signature="", version=None, label=None, output_filter=(), **inputs):
    request = predict_pb2.PredictRequest(model_spec={"name": model, "signature_name": signature})
    if version is not None:
        request.model_spec.version.value = version
    if label is not None:
        request.model_spec.version_label = label
    request.output_filter.extend(output_filter)
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return request


@contextlib.contextmanager
def stubs_of(server, **options):
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}", options=list(options.items())) as channel:
        yield Stubs(channel)


def settings_of(*models, **changes):
    return Settings(tuple(models), **{"port": 0, "rest_api_port": None, "poll_seconds": 0.0, **changes})


@contextlib.contextmanager
def serving(*models, **changes):
    with Server(settings_of(*models, **changes)) as server, stubs_of(server) as stubs:
        yield server, stubs


@pytest.fixture(scope="module")
def server(tiny_export, toy):
    models = ModelConfig("tiny", tiny_export.parent), ModelConfig("toy", toy.parent, labels={"stable": 1})
    with Server(settings_of(*models, batching=Batching(max_batch_size=16))) as server:
        yield server


@pytest.fixture(scope="module")
def stubs(server):
    with stubs_of(server) as stubs:
        yield stubs


def refused(call, *args, **kwargs):
    with pytest.raises(grpc.RpcError) as caught:
        call(*args, **kwargs)
    return caught.value.code(), caught.value.details()


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


X = np.float32([[1, 2]])


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


def test_versions_are_swapped_under_load_without_a_lost_request(toy_model):
    answered = []
    with serving(ModelConfig("toy", toy_model), poll_seconds=0.01) as (_, stubs):
        done = threading.Event()

        def ask():
            while not done.is_set():
                request = predict_request(x=X, y=X)
                response = stubs.prediction.Predict(request, SECONDS)  # raises where one is lost
                assert response.outputs["sum"].tensor_content == (X + X).tobytes()
                answered.append(response.model_spec.version.value)

        with ThreadPoolExecutor(4) as pool:
            asking = [pool.submit(ask) for _ in range(4)]
            try:
                for version in (2, 3, 4):
                    shutil.copytree(toy_model / "1", toy_model / ".part")
                    (toy_model / ".part").rename(toy_model / str(version))
                    while not answered or answered[-1] < version:
                        assert not [future for future in asking if future.done()]
            finally:
                done.set()
            for future in asking:
                future.result(SECONDS)
        assert set(answered) == {1, 2, 3, 4}
        assert stubs.status("toy")[4] == "AVAILABLE"


def test_a_version_is_warmed_up_with_the_requests_that_it_brings(toy_model):
    assets = toy_model / "1" / "assets.extra"
    assets.mkdir()

    def bring(**inputs):
        log = prediction_log_pb2.PredictionLog(predict_log={"request": predict_request(**inputs)})
        with tf.io.TFRecordWriter(str(assets / "tf_serving_warmup_requests")) as writer:
            writer.write(log.SerializeToString())

    bring(x=X, y=X)
    with serving(ModelConfig("toy", toy_model)) as (server, stubs):
        assert stubs.status("toy") == {1: "AVAILABLE"}
        bring(signature="picky", x=np.float32([-1]))
        shutil.copytree(toy_model / "1", toy_model / "2")
        server.models.poll()
        assert stubs.status("toy") == {2: "END", 1: "AVAILABLE"}


def test_a_damaged_version_takes_nothing_down(toy_model):
    (toy_model / "2").mkdir()
    (toy_model / "2" / "saved_model.pb").write_bytes(b"\xff nonsense")
    (toy_model / "3").mkdir()
    (toy_model / "3" / "saved_model.pb").write_bytes(b"")
    (toy_model / "4").mkdir()
    whole = (toy_model / "1" / "saved_model.pb").read_bytes()
    (toy_model / "4" / "saved_model.pb").write_bytes(whole[: len(whole) // 2])
    with serving(ModelConfig("toy", toy_model, VersionPolicy(all=True))) as (_, stubs):
        assert stubs.status("toy") == {4: "END", 3: "END", 2: "END", 1: "AVAILABLE"}
        assert stubs.predict(version=1, x=X, y=X)["sum"].tolist() == [[2, 4]]


def test_models_are_taken_from_the_file_when_it_changes(toy_model, tmp_path):
    config = tmp_path / "models.config"
    one = 'model_config_list {{ config {{ name: "{}" base_path: "{}" }} }}'
    config.write_text(one.format("first", toy_model))
    from serving.server import config_files

    changes = {"model_config_file": config, "model_config_poll_seconds": 0.01}
    models = config_files.read_models(config)
    with Server(settings_of(*models, **changes)) as server, stubs_of(server) as stubs:
        assert stubs.predict("first", x=X, y=X)["sum"].tolist() == [[2, 4]]
        config.write_text("nonsense")
        config.write_text(one.format("second", toy_model))
        while "second" not in server.models.names():
            pass
        assert stubs.predict("second", x=X, y=X)["sum"].tolist() == [[2, 4]]
        assert refused(stubs.predict, "first", x=X, y=X)[0] is StatusCode.NOT_FOUND


@pytest.fixture
def slow_server(toy_model):
    """A server whose model answers when `let_go` is set; `held` is set once it has begun."""
    with serving(ModelConfig("toy", toy_model), batching=Batching(num_batch_threads=1)) as (server, stubs):
        with server.models.acquire("toy") as (_, servable):
            run, held, let_go = servable.run, threading.Event(), threading.Event()

            def slowly(signature, inputs):
                held.set()
                assert let_go.wait(SECONDS)
                return run(signature, inputs)

            servable.run = slowly
        yield server, stubs, held, let_go
        let_go.set()


def test_a_deadline_that_passes_in_the_queue_is_told_and_the_request_is_not_run(slow_server):
    server, stubs, held, let_go = slow_server
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(stubs.predict, x=X, y=X)
        assert held.wait(SECONDS)
        assert refused(stubs.predict, x=X, y=X, timeout=0.05)[0] is StatusCode.DEADLINE_EXCEEDED
        let_go.set()
        assert running.result(SECONDS)["sum"].tolist() == [[2, 4]]
        assert stubs.predict(x=X, y=X)["sum"].tolist() == [[2, 4]]
    ran = server.metrics.registry.get_sample_value("tensorflow_serving_batching_session_processed_batch_size_count")
    assert ran == 2


def test_when_stopped_running_requests_end_and_new_ones_are_refused(slow_server):
    server, stubs, held, let_go = slow_server
    watch = stubs.health.Watch(health_pb2.HealthCheckRequest())
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(stubs.predict, x=X, y=X)
        assert held.wait(SECONDS)
        stopping = pool.submit(server.stop, SECONDS)
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        while server._requests.gate.is_open:
            pass
        with stubs_of(server) as late:
            assert refused(late.predict, x=X, y=X)[0] is StatusCode.UNAVAILABLE
        assert not stopping.done()
        let_go.set()
        assert running.result(SECONDS)["sum"].tolist() == [[2, 4]]
        stopping.result(SECONDS)


def test_a_client_that_goes_away_takes_its_request_with_it(slow_server):
    server, stubs, held, let_go = slow_server
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(stubs.predict, x=X, y=X)
        assert held.wait(SECONDS)
        waiting = stubs.prediction.Predict.future(predict_request(x=X, y=X), SECONDS)
        while not server._scheduler._queue:
            pass
        (task,) = server._scheduler._queue
        waiting.cancel()
        while not task.future.cancelled():
            pass
        let_go.set()
        assert running.result(SECONDS)["sum"].tolist() == [[2, 4]]


def test_a_port_that_is_taken_is_named(toy):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for change, flag in [({"port": port}, "--port"), ({"rest_api_port": port}, "--rest_api_port")]:
            with pytest.raises(ServingError, match=rf"127.0.0.1:{port}: cannot listen there.*{flag}"):
                Server(settings_of(ModelConfig("toy", toy.parent), **change)).__enter__()


def test_a_label_without_its_version_keeps_the_server_from_starting(toy):
    with pytest.raises(ConfigError, match="label 'stable' names version 7"):
        Server(settings_of(ModelConfig("toy", toy.parent, labels={"stable": 7}))).__enter__()


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
