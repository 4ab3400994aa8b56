"""The development server over REST, asked by plain HTTP, in the forms of TensorFlow Serving's documentation."""

from __future__ import annotations

import base64
import gzip
import http.client
import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

pytest.importorskip("tensorflow_serving", reason="needs the extra 'serving'")

import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from prometheus_client.parser import text_string_to_metric_families

from serving.server import Batching, ModelConfig, Server, Settings, rest_json
from serving.server.errors import RequestError
from serving.server.servable import Signature, TensorSpec

pytest_plugins = ["tiny_models", "toy_servables"]
SECONDS = 60


@pytest.fixture(scope="module")
def server(tiny_export, toy):
    models = ModelConfig("tiny", tiny_export.parent), ModelConfig("toy", toy.parent, labels={"stable": 1})
    batching = Batching(max_batch_size=8)
    settings = Settings(models, port=0, rest_api_port=0, batching=batching, max_json_bytes=2**20)
    with Server(settings) as server:
        yield server


def ask(server, path, body=None, method=None):
    """Status and decoded answer of one request."""
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=SECONDS)
    try:
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(method or ("GET" if data is None else "POST"), path, data)
        response = connection.getresponse()
        text = response.read()
        is_json = response.headers["Content-Type"] == "application/json"
        return response.status, json.loads(text) if is_json else text.decode()
    finally:
        connection.close()


def predict(server, body, model="toy"):
    return ask(server, f"/v1/models/{model}:predict", body)


def test_answers_are_those_of_the_model(server, tiny_export):
    windows = np.random.default_rng(0).uniform(-1, 1, (1, 16000)).round(3).astype(np.float32)
    expected = tf.saved_model.load(str(tiny_export)).signatures["serving_default"](windows=tf.constant(windows))
    rows = [[round(float(value), 3) for value in window] for window in windows]
    status, in_rows = predict(server, {"instances": rows}, "tiny")
    assert status == 200
    _, in_columns = predict(server, {"inputs": {"windows": rows}}, "tiny")
    for name, values in expected.items():
        np.testing.assert_allclose([row[name] for row in in_rows["predictions"]], values.numpy(), rtol=0, atol=1e-6)
        np.testing.assert_allclose(in_columns["outputs"][name], values.numpy(), rtol=0, atol=1e-6)


def test_rows_and_columns_of_several_inputs(server):
    rows = [{"x": [1, 2], "y": [3.5, 4]}, {"x": [0, 0], "y": [1, 1]}]
    assert predict(server, {"instances": rows}) == (200, {"predictions": [[4.5, 6.0], [1.0, 1.0]]})
    columns = {"x": [[1, 2]], "y": [[3.5, 4]]}
    assert predict(server, {"inputs": columns}) == (200, {"outputs": [[4.5, 6.0]]})


def test_one_input_needs_no_name_and_may_have_one(server):
    for values in ([4, 2], [{"x": 4}, {"x": 2}]):
        body = {"signature_name": "picky", "instances": values}
        assert predict(server, body) == (200, {"predictions": [2.0, 1.0]})
    for values in ([4, 2], {"x": [4, 2]}):
        assert predict(server, {"signature_name": "picky", "inputs": values}) == (200, {"outputs": [2.0, 1.0]})


def test_bytes_go_and_come_in_base64_and_text_as_text(server):
    binary = base64.b64encode(b"\0\xff").decode()
    told = {"text": "\0\ufffd", "text_bytes": {"b64": binary}}
    body = {"signature_name": "echo", "instances": [{"b64": binary}, "é"]}
    e_acute = {"text": "é", "text_bytes": {"b64": base64.b64encode("é".encode()).decode()}}
    assert predict(server, body) == (200, {"predictions": [told, e_acute]})
    body = {"signature_name": "echo", "inputs": [{"b64": binary}]}
    assert predict(server, body) == (200, {"outputs": {name: [value] for name, value in told.items()}})


def test_versions_and_labels_in_the_path(server):
    body = {"signature_name": "picky", "inputs": [2]}
    for path in ("/versions/1", "/labels/stable", ""):
        assert ask(server, f"/v1/models/toy{path}:predict", body) == (200, {"outputs": [1.0]})


TOY = "/v1/models/toy"


@pytest.mark.parametrize(
    ("path", "body", "status", "reason"),
    [
        ("/v1/models/piano:predict", {"inputs": []}, 404, "Servable not found for request: Latest(piano)"),
        (f"{TOY}/versions/7:predict", {"inputs": []}, 404, "Servable not found for request: Specific(toy, 7)"),
        (f"{TOY}/labels/beta:predict", {"inputs": []}, 400, "Unrecognized servable version label: beta"),
        ("/v1/models/..%2F..%2Fetc:predict", {"inputs": []}, 404, "Malformed request"),
        (f"{TOY}:classify", {"inputs": []}, 404, "Malformed request"),
        ("/v1/models/piano", None, 404, "Could not find any versions of model piano"),
        (f"{TOY}/versions/7", None, 404, "Could not find version 7 of model toy"),
        ("/", None, 404, "Malformed request"),
        (f"{TOY}:predict", b"", 400, "JSON Parse error"),
        (f"{TOY}:predict", b"{", 400, "JSON Parse error"),
        (f"{TOY}:predict", b"\xff\xfe", 400, "JSON Parse error"),
        (f"{TOY}:predict", b'{"inputs":' + b"[" * 100_000, 400, "JSON Parse error: nested too deeply"),
        (f"{TOY}:predict", b'{"inputs":' + b"9" * 10_000 + b"}", 400, "JSON Parse error"),
        (f"{TOY}:predict", [], 400, "Is not object"),
        (f"{TOY}:predict", {}, 400, "Missing 'inputs' or 'instances' key"),
        (f"{TOY}:predict", {"inputs": [], "instances": []}, 400, "expecting only one of 'inputs' or 'instances'"),
        (f"{TOY}:predict", {"instances": []}, 400, "a list of at least one value"),
        (f"{TOY}:predict", {"instances": [1]}, 400, "must be objects by name, as there are several: x, y"),
        (f"{TOY}:predict", {"instances": [{"x": [1, 2]}]}, 400, "Missing but required: {y}"),
        (f"{TOY}:predict", {"instances": [{"x": 1}, 2]}, 400, "objects with the same keys"),
        (f"{TOY}:predict", {"inputs": {"x": [[1, 2]], "y": [[1, 2]]}, "signature_name": 5}, 400, "must be a string"),
        (f"{TOY}:predict", {"inputs": [1], "signature_name": "none"}, 400, 'key "none" not found'),
        (
            f"{TOY}:predict",
            {"inputs": {"x": [[1]], "y": [[1, 2]]}},
            400,
            "has shape [1, 1]; the signature wants [?, 2]",
        ),
        (f"{TOY}:predict", {"inputs": {"x": [[1, 2], [3]], "y": 0}}, 400, "lists at depth 2 differ in length"),
        (f"{TOY}:predict", {"inputs": [["1"]], "signature_name": "picky"}, 400, "of type str are not of expected"),
        (f"{TOY}:predict", {"inputs": [None], "signature_name": "picky"}, 400, "of type NoneType"),
        (f"{TOY}:predict", {"inputs": [True], "signature_name": "picky"}, 400, "of type bool"),
        (f"{TOY}:predict", {"inputs": [1e39], "signature_name": "picky"}, 400, "too large for float32"),
        (f"{TOY}:predict", {"inputs": [1.5], "signature_name": "ones"}, 400, "of type float"),
        (f"{TOY}:predict", {"inputs": [2**31], "signature_name": "ones"}, 400, "too large for int32"),
        (f"{TOY}:predict", {"inputs": [1], "signature_name": "echo"}, 400, "neither text nor an object of 'b64'"),
        (f"{TOY}:predict", {"inputs": {"b64": "***"}, "signature_name": "echo"}, 400, "Unable to base64 decode"),
        (f"{TOY}:predict", {"inputs": [1] * 9, "signature_name": "picky"}, 400, "Task size 9 is larger than maximum"),
        (f"{TOY}:predict", {"inputs": [-1], "signature_name": "picky"}, 400, "no negative numbers please"),
        (f"{TOY}:predict", b"[" + b" " * 2**20 + b"]", 413, "message larger than max (1048576 bytes)"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_refused_is_told_in_json(server, path, body, status, reason):
    found, answer = ask(server, path, body)
    assert (found, set(answer)) == (status, {"error"})
    assert reason in answer["error"]


def test_status_as_tensorflow_serving_writes_it(server):
    available = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    for path in (TOY, f"{TOY}/versions/1", f"{TOY}/labels/stable"):
        assert ask(server, path) == (200, {"model_version_status": [available]})


def test_metadata_as_tensorflow_serving_writes_it(server):
    status, answer = ask(server, f"{TOY}/metadata")
    assert status == 200
    assert answer["model_spec"] == {"name": "toy", "signature_name": "", "version": "1"}
    definition = answer["metadata"]["signature_def"]["signature_def"]["picky"]
    assert definition["method_name"] == "tensorflow/serving/predict"
    (x,) = definition["inputs"].values()
    assert x["dtype"] == "DT_FLOAT"
    assert x["tensor_shape"] == {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False}


def test_health_and_counters(server):
    assert ask(server, "/healthz") == (200, "ok\n")
    status, text = ask(server, "/monitoring/prometheus/metrics")
    assert status == 200
    families = {family.name: family for family in text_string_to_metric_families(text)}
    counted = families["tensorflow_serving_request_count"].samples
    assert {"grpc", "rest"} >= {sample.labels["entrypoint"] for sample in counted}
    assert {sample.labels["model_name"] for sample in counted} <= {"toy", "tiny", ""}


def test_a_body_in_chunks_is_taken_and_counted(server):
    def chunks(size):
        body = json.dumps({"signature_name": "picky", "inputs": [2]}).encode() + b" " * size
        return [body[at : at + 1000] for at in range(0, len(body), 1000)]

    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=SECONDS)
    connection.request(
        "POST", f"{TOY}:predict", iter(chunks(5000)), {"Transfer-Encoding": "chunked"}, encode_chunked=True
    )
    response = connection.getresponse()
    assert (response.status, json.loads(response.read())) == (200, {"outputs": [1.0]})
    connection.close()


def test_gzip_both_ways(server):
    body = json.dumps({"signature_name": "ones", "inputs": [500]}).encode()
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=SECONDS)
    headers = {"Content-Encoding": "gzip", "Accept-Encoding": "gzip"}
    connection.request("POST", f"{TOY}:predict", gzip.compress(body), headers)
    response = connection.getresponse()
    assert (response.status, response.headers["Content-Encoding"]) == (200, "gzip")
    assert json.loads(gzip.decompress(response.read())) == {"outputs": [[1.0] * 500]}


@pytest.mark.parametrize(
    ("packed", "status", "reason"),
    [
        (gzip.compress(b" " * 2**24), 413, "message larger than max"),
        (gzip.compress(b'{"inputs": [1]}')[:-9], 400, "did not arrive whole"),
        (b"plain", 400, "not what gzip writes"),
    ],
    ids=["bomb", "truncated", "plain"],
)
def test_gzip_that_is_refused(server, packed, status, reason):
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=SECONDS)
    connection.request("POST", f"{TOY}:predict", packed, {"Content-Encoding": "gzip"})
    response = connection.getresponse()
    assert response.status == status
    assert reason in json.loads(response.read())["error"]


def test_connections_beyond_the_limit_are_refused_and_others_are_served_again(toy):
    settings = Settings((ModelConfig("toy", toy.parent),), port=0, rest_api_port=0, rest_api_num_threads=2)
    with Server(settings) as server:
        idle = [socket.create_connection(("127.0.0.1", server.rest_port)) for _ in range(2)]
        for connection in idle:
            connection.sendall(b"GET /healthz HTTP/1.1\r\n")  # and then nothing more
        while (found := ask(server, "/healthz"))[0] != 503:
            pass
        assert found == (503, {"error": "the server has all hands occupied"})
        for connection in idle:
            connection.close()
        while (found := ask(server, "/healthz"))[0] != 200:
            assert found[0] == 503


def test_when_stopped_running_requests_end_and_new_ones_are_refused(toy_model):
    settings = Settings((ModelConfig("toy", toy_model),), port=0, rest_api_port=0)
    held, let_go = threading.Event(), threading.Event()
    with Server(settings) as server, ThreadPoolExecutor(2) as pool:
        with server.models.acquire("toy") as (_, servable):
            run = servable.run

            def slowly(signature, inputs):
                held.set()
                assert let_go.wait(SECONDS)
                return run(signature, inputs)

            servable.run = slowly
        running = pool.submit(predict, server, {"signature_name": "picky", "inputs": [2]})
        assert held.wait(SECONDS)
        stopping = pool.submit(server.stop, SECONDS)
        while ask(server, "/healthz")[0] == 200:
            pass
        assert predict(server, {"signature_name": "picky", "inputs": [2]}) == (
            503,
            {"error": "the server is being stopped"},
        )
        let_go.set()
        assert running.result(SECONDS) == (200, {"outputs": [1.0]})
        stopping.result(SECONDS)


def test_a_request_that_takes_too_long_is_told_so(toy_model):
    settings = Settings((ModelConfig("toy", toy_model),), port=0, rest_api_port=0, rest_api_timeout_ms=300)
    let_go = threading.Event()
    with Server(settings) as server:
        with server.models.acquire("toy") as (_, servable):
            servable.run = lambda signature, inputs: let_go.wait(SECONDS)
        assert predict(server, {"signature_name": "picky", "inputs": [2]}) == (504, {"error": "Deadline Exceeded"})
        let_go.set()


NUMBERS = {tf.float32: np.float32, tf.int64: np.int64, tf.bool: np.bool_}


@given(st.sampled_from(list(NUMBERS)), st.data())
def test_arrays_go_through_json_unchanged(dtype, data):
    shape = data.draw(hnp.array_shapes(max_dims=3, max_side=4))
    finite = {"allow_nan": False, "allow_infinity": False} if dtype == tf.float32 else {}
    array = data.draw(hnp.arrays(NUMBERS[dtype], shape, elements=hnp.from_dtype(np.dtype(NUMBERS[dtype]), **finite)))
    signature = Signature("any", {"x": TensorSpec(dtype, None)}, {})
    for in_rows, key in [(True, "instances"), (False, "inputs")]:
        told = json.loads(rest_json.dumps({"x": array}, in_rows))
        (values,) = told.values()
        body = rest_json.PredictBody.parse(json.dumps({key: values}).encode())
        read = body.take(signature, max_rows=4)["x"]
        assert read.dtype == array.dtype
        np.testing.assert_array_equal(read, array)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["x", "b64", "y"]), inner, max_size=2),
    max_leaves=8,
)
PAIR = Signature("pair", {"x": TensorSpec(tf.float32, (None,)), "y": TensorSpec(tf.string, (None,))}, {})


@given(ANYTHING, st.sampled_from(["instances", "inputs"]))
def test_no_json_brings_anything_but_arrays_that_fit_or_a_refusal(values, key):
    body = json.dumps({key: values}).encode()
    try:
        arrays = rest_json.PredictBody.parse(body).take(PAIR, max_rows=4)
    except RequestError as error:
        assert error.message
    else:
        assert arrays["x"].dtype == np.float32
        assert arrays["x"].shape == (len(arrays["x"]),)
        assert all(isinstance(value, bytes) for value in arrays["y"])


@given(st.binary(max_size=40))
def test_no_bytes_bring_anything_but_a_body_or_a_refusal(body):
    try:
        rest_json.PredictBody.parse(body)
    except RequestError as error:
        assert error.message
    else:
        assert json.loads(body).keys() & {"inputs", "instances"}
