"""What strangers may send to a server: it answers rightly or refuses in a sentence, and the next request is served.

Each attack runs a few examples here and many more among the slow tests; all are drawn from fixed seeds.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import re
import socket
import struct
import sys
import threading
import wave

import grpc
import numpy as np
import pytest

pytest.importorskip("tensorflow_serving", reason="needs the extra 'serving'")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, predict_pb2

from musicnet_tf import inference, windowing
from serving.server import Batching, ModelConfig, Server, Settings

pytest_plugins = ["tiny_models", "toy_servables"]
SECONDS = 60  # a deadline that no healthy machine meets
RATE, HOP = 16000, 320
PREDICT = "/tensorflow.serving.PredictionService/Predict"
METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
REFUSALS = {"INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "RESOURCE_EXHAUSTED"}
INNER = re.compile(
    r"(?i)traceback|line \d+, in|\.py\b|/|site-packages|_tf|serving\.|werkzeug|sys\.|0x[0-9a-f]{6}|node_"
)
"""What no answer tells of the server's insides; requests here hold nothing of the kind themselves."""


def attack(examples: int):
    """Settings of an attack that is the same in every run."""
    return settings(max_examples=examples, derandomize=True, database=None, suppress_health_check=list(HealthCheck))


class _Files:
    """Notes what files other threads than this one open, as the server's do."""

    def __init__(self) -> None:
        self.opened: list[str] = []
        self._watching = False
        sys.addaudithook(self._heard)  # which stays as long as the process

    def _heard(self, event: str, args: tuple) -> None:
        elsewhere = self._watching and threading.current_thread() is not threading.main_thread()
        if elsewhere and event in ("open", "os.listdir", "os.scandir") and args[0] != grpc._common.__file__:  # it logs
            self.opened.append(f"{event} {args[0]}")

    @contextlib.contextmanager
    def watched(self):
        self.opened.clear()
        self._watching = True
        try:
            yield self.opened
        finally:
            self._watching = False


@pytest.fixture(scope="module")
def files() -> _Files:
    return _Files()


class Target:
    """A server under attack, and the request that it must still answer after each."""

    def __init__(self, server: Server, channel: grpc.Channel) -> None:
        self.server = server
        self._calls = {method: channel.unary_unary(method) for method in (PREDICT, METADATA, STATUS)}
        self._good = message("picky", x=np.float32([3.0]))

    def call(self, method: str, request: bytes) -> tuple[str, bytes | str]:
        """Code of gRPC, and the answer's bytes or what the refusal tells."""
        try:
            return "OK", self._calls[method](request, timeout=SECONDS)
        except grpc.RpcError as error:
            return error.code().name, error.details()

    def still_answers(self) -> None:
        code, answer = self.call(PREDICT, self._good.SerializeToString())
        assert (code, outputs(answer)["half"].tolist()) == ("OK", [1.5])

    def refuses_or_answers(self, method: str, request: bytes) -> tuple[str, bytes | str]:
        code, answer = self.call(method, request)
        if code != "OK":
            damaged = (code, answer) == ("INTERNAL", "Exception deserializing request!")  # gRPC's own
            assert code in REFUSALS or damaged, (code, answer)
            assert_tells_nothing(answer)
        self.still_answers()
        return code, answer

    def http(self, request: bytes) -> tuple[int, bytes]:
        """Status and body of one exchange, as bytes; status 0 where the connection ends without an answer."""
        with socket.create_connection(("127.0.0.1", self.server.rest_port), SECONDS) as connection:
            with contextlib.suppress(ConnectionError):
                connection.sendall(request)
                connection.shutdown(socket.SHUT_WR)
            answer = b""
            with contextlib.suppress(ConnectionError):
                while piece := connection.recv(2**16):
                    answer += piece
        head, _, body = answer.partition(b"\r\n\r\n") if answer.startswith(b"HTTP/") else (b"", b"", answer)
        assert not INNER.search(re.sub(r"HTTP/1.1|\w+/(json|html|plain)", "", head.decode("latin1"))), head
        return int(head.split()[1]) if head else 0, body

    def post(self, body: bytes, path: str = "/v1/models/toy:predict", *headers: str) -> tuple[int, bytes]:
        lines = [f"POST {path} HTTP/1.1", "Host: x", *(headers or [f"Content-Length: {len(body)}"])]
        return self.http("\r\n".join(lines).encode("latin1") + b"\r\n\r\n" + body)

    def refuses_or_answers_json(self, body: bytes, *headers: str) -> None:
        status, answer = self.post(body, "/v1/models/toy:predict", *headers)
        assert status in (200, 400, 404, 408, 413), (status, answer)
        told = json.loads(answer)
        if status != 200:
            assert set(told) == {"error"}
            assert_tells_nothing(told["error"])
        self.still_answers()


def assert_tells_nothing(text: str) -> None:
    assert 0 < len(text) <= 500
    text = re.sub(r"(?s)(Unexpected field|but found) .*", "", text)  # quotes of the request
    assert not INNER.search(text), text


def outputs(answer: bytes) -> dict[str, np.ndarray]:
    import tensorflow as tf

    response = predict_pb2.PredictResponse.FromString(answer)
    return {name: tf.make_ndarray(tensor) for name, tensor in response.outputs.items()}


def message(signature: str = "", model: str = "toy", **inputs) -> predict_pb2.PredictRequest:
    import tensorflow as tf

    request = predict_pb2.PredictRequest(model_spec={"name": model, "signature_name": signature})
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return request


@pytest.fixture(scope="module")
def target(tiny_export, toy):
    models = ModelConfig("tiny", tiny_export.parent), ModelConfig("toy", toy.parent, labels={"stable": 1})
    limits = {"max_message_bytes": 2**20, "max_json_bytes": 2**18}
    config = Settings(models, port=0, rest_api_port=0, batching=Batching(max_batch_size=64), poll_seconds=0.0, **limits)
    with Server(config) as server, grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        found = Target(server, channel)
        found.still_answers()
        yield found


# ---- bytes of WAV files


def chunk(name: bytes, body: bytes, claimed: int | None = None) -> bytes:
    return name + struct.pack("<I", len(body) if claimed is None else claimed) + body + b"\0" * (len(body) % 2)


def fmt(codec=1, channels=1, rate=RATE, byte_rate=None, align=None, bits=16, extra=b"") -> bytes:
    align = min(channels * 2, 2**16 - 1) if align is None else align
    byte_rate = rate * align if byte_rate is None else byte_rate
    return struct.pack("<HHIIHH", codec, channels, rate, byte_rate % 2**32, align, bits) + extra


SIZES = st.sampled_from([0, 1, 2, 16, 2**15, 2**24, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1])
FORMATS = st.builds(
    fmt,
    codec=st.sampled_from([1, 1, 1, 0, 3, 6, 7, 17, 85, 0xFFFE]),
    channels=st.sampled_from([1, 1, 2, 8, 0, 9, 2**16 - 1]),
    rate=st.sampled_from([RATE, RATE, RATE, 0, 1, 44100, 2**32 - 1]),
    byte_rate=st.none() | SIZES,
    align=st.none() | st.sampled_from([0, 1, 2, 2**16 - 1]),
    bits=st.sampled_from([16, 16, 16, 0, 8, 24, 32, 2**16 - 1]),
    extra=st.binary(max_size=6),
)
CHUNKS = st.one_of(
    st.builds(chunk, st.just(b"fmt "), FORMATS | st.just(fmt()), st.none() | SIZES),
    st.builds(chunk, st.just(b"data"), st.binary(max_size=900), st.none() | SIZES),
    st.builds(chunk, st.sampled_from([b"LIST", b"JUNK", b"fact", b"bext", b"\0\0\0\0"]), st.binary(max_size=20), SIZES),
    st.builds(chunk, st.sampled_from([b"LIST", b"JUNK"]), st.binary(max_size=20)),
    st.binary(max_size=9),
)


@st.composite
def wavs(draw) -> bytes:
    """Files in any state of disrepair, some of them sound."""
    usual = [chunk(b"fmt ", fmt(channels=draw(st.sampled_from([1, 2])))), chunk(b"data", draw(st.binary(max_size=900)))]
    chunks = draw(st.lists(CHUNKS, max_size=4)) if draw(st.booleans()) else usual
    chunks = draw(st.permutations(chunks)) if draw(st.booleans()) else chunks
    body = b"WAVE" + b"".join(chunks)
    whole = b"RIFF" + struct.pack("<I", draw(st.just(len(body)) | SIZES)) + body
    whole = bytearray(whole[: draw(st.just(len(whole)) | st.integers(0, len(whole)))])
    for at, value in draw(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 255)), max_size=3)):
        if at < len(whole):
            whole[at] = value
    return bytes(whole)


def samples_of(whole: bytes) -> np.ndarray:
    """What is in a WAV of 16-bit PCM, by a reader of our own that knows chunks alone: `(samples, channels)`."""
    at, channels = 12, 0
    while at + 8 <= len(whole):
        name, size = whole[at : at + 4], int.from_bytes(whole[at + 4 : at + 8], "little")
        body = whole[at + 8 : at + 8 + size]
        if name == b"fmt ":
            channels = int.from_bytes(body[2:4], "little")
        if name == b"data":
            usable = len(body) // (2 * channels) * 2 * channels
            return np.frombuffer(body[:usable], "<i2").reshape(-1, channels)
        at += 8 + size + size % 2
    raise AssertionError("no samples")


@pytest.fixture(scope="module")
def heard(tiny_run):
    """The posteriorgram of samples, told without the server."""
    predictor = inference.load(tiny_run)

    def call(samples: np.ndarray) -> dict[str, np.ndarray]:
        mono = (samples / np.float32(32768)).mean(axis=1, dtype=np.float32)
        return windowing.posteriorgram(mono, predictor.manifest.geometry, predictor)

    return call


def check_wav(target: Target, heard, whole: bytes) -> None:
    request = message(inference.WAV_SIGNATURE, "tiny", wav=np.array([whole], object))
    code, answer = target.refuses_or_answers(PREDICT, request.SerializeToString())
    if code == "OK":
        found, expected = outputs(answer), heard(samples_of(whole))
        assert found[inference.NUM_FRAMES].tolist() == [len(expected["frame"])]
        for head, values in expected.items():
            np.testing.assert_allclose(found[head][0], values, rtol=0, atol=1e-5)


@attack(40)
@given(wavs())
def test_bytes_of_a_wav_are_heard_rightly_or_refused(target, heard, files, whole):
    with files.watched() as opened:
        check_wav(target, heard, whole)
    assert not opened


@pytest.mark.slow
@attack(1500)
@given(wavs())
def test_many_bytes_of_a_wav_are_heard_rightly_or_refused(target, heard, whole):
    check_wav(target, heard, whole)


def pcm(samples: int, channels: int = 1) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((channels, 2, RATE, 0, "NONE", ""))
        file.writeframes(bytes(2 * samples * channels))
    return buffer.getvalue()


def test_a_complaint_that_cannot_be_told_is_a_refusal_as_well(target):
    """TensorFlow quotes the name of a chunk, which is no text."""
    whole = b"RIFF\x25\0\0\0WAVE" + chunk(b"JUNK", b"") + chunk(b"\x80\xff\xfe\0", b"") + chunk(b"fmt ", fmt())
    request = message(inference.WAV_SIGNATURE, "tiny", wav=np.array([whole], object))
    found = target.refuses_or_answers(PREDICT, request.SerializeToString())
    assert found == ("INVALID_ARGUMENT", "the model refuses the bytes that it was given")


def test_sound_files_are_heard_as_such(target, heard):
    """Or the attack above would prove nothing."""
    noise = np.random.default_rng(0).integers(-9000, 9000, (700, 2)).astype("<i2").tobytes()
    body = b"WAVE" + chunk(b"fmt ", fmt(channels=2)) + chunk(b"LIST", b"abcd") + chunk(b"data", noise)
    whole = b"RIFF" + struct.pack("<I", len(body)) + body
    request = message(inference.WAV_SIGNATURE, "tiny", wav=np.array([whole], object))
    assert target.call(PREDICT, request.SerializeToString())[0] == "OK"
    check_wav(target, heard, whole)


def one_for_all() -> predict_pb2.PredictRequest:
    """A recording of which there are to be 64 copies: 12 kB that would become 64 times as much."""
    request = message(inference.WAV_SIGNATURE, "tiny", wav=np.array([pcm(6000)], object))
    request.inputs[inference.WAV].tensor_shape.dim[0].size = 64
    return request


def of_recordings(*recordings: bytes) -> predict_pb2.PredictRequest:
    return message(inference.WAV_SIGNATURE, "tiny", wav=np.array(recordings, object))


def padded_to(seconds: float, count: int) -> predict_pb2.PredictRequest:
    return of_recordings(pcm(int(seconds * RATE)), *[pcm(1)] * (count - 1))


@pytest.mark.parametrize(
    ("request_of", "code", "reason"),
    [
        (one_for_all, "INVALID_ARGUMENT", "'wav' says shape [64] but holds 1 values"),
        (lambda: padded_to(29, 64), "INVALID_ARGUMENT", "may have 28800000 samples together, 1800 seconds"),
        (lambda: of_recordings(pcm(10, 9)), "INVALID_ARGUMENT", "up to 8 channels"),
        (lambda: of_recordings(*[pcm(1)] * 65), "INVALID_ARGUMENT", "Task size 65 is larger than maximum"),
        (lambda: of_recordings(pcm(2**19)), "RESOURCE_EXHAUSTED", "vs. 1048576)"),
        (lambda: message("x" * 10_000), "FAILED_PRECONDITION", "xxx…"),
        (lambda: message(model="é" * 10_000), "NOT_FOUND", "éé…"),
        (lambda: message(**{f"x{n}": 0.0 for n in range(2000)}), "INVALID_ARGUMENT", "{x0,x1,x10,x100,x1000,x1001,"),
    ],
    ids=["repeated", "padded", "channels", "count", "size", "signature", "model", "names"],
)
def test_what_would_grow_is_refused_in_a_sentence(target, request_of, code, reason):
    found, told = target.refuses_or_answers(PREDICT, request_of().SerializeToString())
    assert found == code
    assert reason in told


# ---- protos

ANY_INT = st.sampled_from([0, 1, 2, 3, 64, -1, 2**31, 2**32, 2**62, 2**63 - 1, -(2**63)])
TENSORS = st.fixed_dictionaries(
    {"dtype": st.sampled_from([1, 1, 1, 3, 7, 7, 0, 2, 9, 10, 19, 20, 21, 23, 101])},
    optional={
        "tensor_shape": st.fixed_dictionaries(
            {"dim": st.lists(st.fixed_dictionaries({"size": ANY_INT}), max_size=3)},
            optional={"unknown_rank": st.booleans()},
        ),
        "tensor_content": st.binary(max_size=16),
        "float_val": st.lists(st.floats(width=32), max_size=4),
        "int_val": st.lists(st.integers(-(2**31), 2**31 - 1), max_size=3),
        "string_val": st.lists(st.binary(max_size=5), max_size=3),
        "half_val": st.lists(st.integers(0, 2**16), max_size=2),
        "version_number": st.integers(0, 3),
    },
)
SPECS = st.fixed_dictionaries(
    {"name": st.sampled_from(["toy", "toy", "tiny", "", "..", "\0", "é"])},
    optional={
        "signature_name": st.sampled_from(["picky", "ones", "echo", "wav", "describe", "serving_default", "no", "\n"]),
        "version": st.fixed_dictionaries({"value": ANY_INT}),
        "version_label": st.sampled_from(["stable", "", "no", "\r\n", ".."]),
    },
)


def request_of(spec: dict, inputs: dict, wanted: list) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest(model_spec=spec, output_filter=wanted)
    for name, fields in inputs.items():
        request.inputs[name].CopyFrom(tensor_pb2.TensorProto(**fields))
    return request


REQUESTS = st.builds(
    request_of,
    SPECS.map(lambda spec: spec if "version" not in spec else {k: v for k, v in spec.items() if k != "version_label"}),
    st.dictionaries(st.sampled_from(["x", "y", "n", "text", "wav", "windows", "each", ""]), TENSORS, max_size=2),
    st.lists(st.sampled_from(["half", "sum", "text", "frame", "", "no"]), max_size=2),
).map(lambda request: request.SerializeToString())


@st.composite
def protos(draw) -> bytes:
    """Requests with anything in their fields, a few bytes of which may be others, or no request at all."""
    whole = bytearray(draw(st.one_of(REQUESTS, REQUESTS, REQUESTS, st.binary(max_size=40))))
    for at, value in draw(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 255)), max_size=3)):
        if whole:
            whole[at % len(whole)] = value
    return bytes(whole[: draw(st.just(len(whole)) | st.integers(0, len(whole)))])


def check_proto(target: Target, method: str, request: bytes) -> None:
    code, answer = target.refuses_or_answers(method, request)
    if code == "OK" and method == PREDICT:
        asked = predict_pb2.PredictRequest.FromString(request)
        assert set(asked.output_filter) in (set(), set(outputs(answer)))


@attack(120)
@given(st.sampled_from([PREDICT, PREDICT, PREDICT, METADATA, STATUS]), protos())
def test_protos_are_answered_or_refused(target, files, method, request):
    with files.watched() as opened:
        check_proto(target, method, request)
    assert not opened


@pytest.mark.slow
@attack(5000)
@given(st.sampled_from([PREDICT, PREDICT, PREDICT, METADATA, STATUS]), protos())
def test_many_protos_are_answered_or_refused(target, method, request):
    check_proto(target, method, request)


def test_a_tensor_of_a_million_dimensions_is_refused_at_once(target):
    request = message("picky", x=np.float32([1]))
    request.inputs["x"].tensor_shape.MergeFromString(b"\x12\x00" * 300_000)
    code, told = target.refuses_or_answers(PREDICT, request.SerializeToString())
    assert (code, told) == ("INVALID_ARGUMENT", "input 'x' has more than 254 dimensions")


# ---- JSON and HTTP

B64 = base64.b64encode(pcm(9)).decode()
BODIES = [
    b'{"signature_name": "picky", "inputs": [1, 2.5]}',
    b'{"signature_name": "picky", "instances": [{"x": 1}, {"x": 2}]}',
    b'{"inputs": {"x": [[1, 2]], "y": [[3, 4]]}}',
    b'{"signature_name": "echo", "instances": [{"b64": "UklGRg=="}, "text"]}',
    b'{"signature_name": "ones", "inputs": {"n": [3]}}',
]
FRAGMENTS = [
    b'"',
    b"[",
    b"]",
    b"{",
    b"}",
    b",",
    b":",
    b"null",
    b"true",
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"-0",
    b"1e-999",
]
FRAGMENTS += [
    b"9" * 400,
    b"9" * 5000,
    b"0.1e400",
    b"[" * 2000,
    b'{"inputs":' * 400,
    b"\xff",
    b"\xed\xa0\x80",
    b'"\\ud800"',
]
FRAGMENTS += [
    b"\\u0000",
    b'"b64"',
    b'"signature_name"',
    b'"inputs"',
    b"\xef\xbb\xbf",
    b"\0",
    b"[],",
    b'{"b64": "=="}',
    b" ",
]


@st.composite
def bodies(draw) -> bytes:
    """Bodies that were once requests."""
    body = draw(st.sampled_from(BODIES))
    for _ in range(draw(st.integers(0, 3))):
        begin = draw(st.integers(0, len(body)))
        end = begin + draw(st.sampled_from([0, 0, 1, 1, 5]))
        body = body[:begin] + draw(st.sampled_from(FRAGMENTS)) * draw(st.sampled_from([1, 1, 2, 20])) + body[end:]
    return draw(st.sampled_from([body, body, body, body.decode("latin1").encode("utf-16"), body + body]))


@attack(80)
@given(bodies())
def test_json_is_answered_or_refused(target, files, body):
    with files.watched() as opened:
        target.refuses_or_answers_json(body)
    assert not opened


@pytest.mark.slow
@attack(4000)
@given(bodies())
def test_many_bodies_of_json_are_answered_or_refused(target, body):
    target.refuses_or_answers_json(body)


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (
            b'{"inputs": [1], "inputs": [-1, 4], "signature_name": "ones", "signature_name": "picky"}',
            400,
            "no negative",
        ),
        (b'{"signature_name": "picky", "inputs": [1e999]}', 200, "Infinity"),
        (b'{"signature_name": "picky", "inputs": [NaN]}', 400, "no negative"),
        (b'{"signature_name": "picky", "inputs": [' + b"9" * 30 + b"]}", 200, "e+29"),
        (b'{"signature_name": "picky", "inputs": ' + b"9" * 5000 + b"}", 400, "a number has thousands of digits"),
        (b'{"signature_name": "echo", "inputs": [' + b'"",' * 80_000 + b'""]}', 400, "Task size 80001"),
        (b'{"inputs": {' + b",".join(b'"%d":0' % n for n in range(20_000)) + b"}}", 400, "{0,1,10,100,1000,10000,"),
        (b'{"signature_name": "' + b"s" * 100_000 + b'", "inputs": 0}', 400, "sss…"),
    ],
    ids=["twice", "infinity", "NaN", "whole", "digits", "lists", "keys", "signature"],
)
def test_json_at_its_edges(target, body, status, reason):
    found, answer = target.post(body)
    assert found == status, answer
    assert reason in answer.decode()
    target.still_answers()


def test_json_of_too_many_parts_is_not_read(target):
    """Empty lists take thirty times as much in memory; so this is counted before it is parsed."""
    from serving.server import rest_json
    from serving.server.errors import RequestError

    with pytest.raises(RequestError, match="more than 524288 lists, objects and texts"):
        rest_json.PredictBody.parse(b'{"inputs": [' + b"[]," * 2**19 + b"[]]}")


GOOD = BODIES[0]


@pytest.mark.parametrize(
    ("headers", "body", "statuses"),
    [
        (["Content-Length: 5"], GOOD, {400}),
        (["Content-Length: 500"], GOOD, {400}),
        (["Content-Length: 99999999999999999999"], GOOD, {413}),
        (["Content-Length: -1"], GOOD, {400}),
        (["Content-Length: 0x10"], GOOD, {400}),
        (["Content-Length: 47", "Content-Length: 5"], GOOD, {400}),
        (["X: y"], GOOD, {400}),
        (["Transfer-Encoding: chunked"], b"ffffffffffffffff\r\n" + GOOD, {400, 413}),
        (["Transfer-Encoding: chunked"], b"-5\r\n" + GOOD, {400}),
        (["Transfer-Encoding: chunked"], b"zz\r\n" + GOOD, {400}),
        (["Transfer-Encoding: chunked"], b"0" * 5000 + b"\r\n" + GOOD, {400}),
        (["Transfer-Encoding: chunked"], b"2f\r\n" + GOOD, {400}),
        (["Transfer-Encoding: chunked"], (b"8000\r\n" + b" " * 2**15 + b"\r\n") * 9 + b"0\r\n\r\n", {413}),
        (["Transfer-Encoding: chunked", "Content-Length: 5"], b"2f\r\n" + GOOD + b"\r\n0\r\n\r\n", {200}),
        (["Content-Encoding: gzip", "Content-Length: 47"], GOOD, {400}),
        (["Content-Encoding: br", "Content-Length: 47"], GOOD, {200}),
    ],
    ids=lambda value: str(value)[:50] if isinstance(value, list) else "",
)
def test_lengths_that_lie(target, headers, body, statuses):
    assert len(GOOD) == 47
    status, answer = target.post(body, "/v1/models/toy:predict", *headers)
    assert status in statuses, (status, answer)
    assert set(json.loads(answer)) == {"outputs" if status == 200 else "error"}
    target.still_answers()


@pytest.mark.parametrize(
    "request_line",
    [
        b"GET /v1/models/toy HTTP/9.9",
        b"GET http://[/ HTTP/1.1",
        b"\0\xff\x16\x03\x01",
        b"GET " + b"x" * 70_000,
        b"",
        b"A B C D",
    ],
    ids=["version", "address", "binary", "long", "empty", "words"],
)
def test_what_is_no_http_ends_the_connection(target, request_line):
    status, answer = target.http(request_line + b"\r\n\r\n")
    assert status in (0, 400, 414, 505)
    assert not answer or set(json.loads(answer)) == {"error"}
    target.still_answers()


def test_a_slow_client_does_not_keep_its_place(toy):
    config = Settings(
        (ModelConfig("toy", toy.parent),), port=0, rest_api_port=0, rest_api_num_threads=1, rest_api_timeout_ms=300
    )
    with Server(config) as server, socket.create_connection(("127.0.0.1", server.rest_port), SECONDS) as slow:
        slow.sendall(b"POST /v1/models/toy:predict HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n")
        slow.settimeout(0.05)
        answer = b""
        while b"\r\n\r\n" not in answer:
            with contextlib.suppress(TimeoutError):
                slow.send(b" ")  # a byte now and then, for ever
                answer += slow.recv(2**16)
        assert answer.startswith(b"HTTP/1.1 400 ")


# ---- names

NAMES = [
    "../../etc/passwd",
    "..",
    "%2e%2e",
    "%2e%2e%2fetc%2fpasswd",
    "a%00b",
    "%ff",
    "~",
    "toy%0d%0aX-Y:z",
    "file:%2f%2f%2fetc",
]


def paths() -> list[str]:
    named = [f"/v1/models/{name}" for name in NAMES]
    numbered = [f"/v1/models/toy/versions/{name}" for name in (*NAMES, "-1", "0", "1e3", "9" * 19, "9" * 400)]
    labelled = [f"/v1/models/toy/labels/{name}" for name in NAMES]
    return [*named, *numbered, *labelled, *NAMES, "//etc/passwd", "/v1/models/", "/monitoring/../../etc/passwd", "*"]


@pytest.mark.parametrize("verb", ["GET", "POST", "PUT", "HEAD"])
def test_no_name_in_an_address_reaches_the_file_system(target, files, verb):
    with files.watched() as opened:
        for path in paths():
            for suffix in ("", "/metadata", ":predict"):
                line = f"{verb} {path}{suffix} HTTP/1.1\r\nContent-Length: {len(GOOD) if verb == 'POST' else 0}\r\n\r\n"
                status, answer = target.http(line.encode() + (GOOD if verb == "POST" else b""))
                assert status in (400, 404), (path, answer)
                assert b"root:" not in answer
    assert not opened
    target.still_answers()


def test_no_name_in_a_message_reaches_the_file_system(target, files):
    wanted = ["../../etc/passwd", "/etc/passwd", "..", "\0", "toy/../toy", "file:///etc/passwd"]
    with files.watched() as opened:
        for name in wanted:
            specs = [{"name": name}, {"name": "toy", "version_label": name}, {"name": "toy", "signature_name": name}]
            for spec in specs:
                predict = predict_pb2.PredictRequest(model_spec=spec, output_filter=[name])
                predict.inputs[name].string_val.append(name.encode())
                metadata = get_model_metadata_pb2.GetModelMetadataRequest(model_spec=spec, metadata_field=[name])
                status = get_model_status_pb2.GetModelStatusRequest(model_spec=spec)
                assert target.call(PREDICT, predict.SerializeToString())[0] in REFUSALS
                assert target.call(METADATA, metadata.SerializeToString())[0] in REFUSALS
                if "signature_name" not in spec:
                    assert target.call(STATUS, status.SerializeToString())[0] in REFUSALS
    assert not opened
    target.still_answers()


def test_the_watch_over_files_sees_what_threads_open(files, tmp_path):
    """Or the tests above would prove nothing."""
    (tmp_path / "any").touch()
    with files.watched() as opened:
        thread = threading.Thread(target=lambda: (tmp_path / "any").read_text())
        thread.start()
        thread.join()
    assert opened == [f"open {tmp_path / 'any'}"]
