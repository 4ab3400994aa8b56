"""A server under attack, what must hold after each, and a watch over the files that it opens."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import sys
import threading

import grpc
import numpy as np
from hypothesis import HealthCheck, settings
from tensorflow_serving.apis import predict_pb2

from serving.server import Server

SECONDS = 60  # a deadline that no healthy machine meets
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


class Files:
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
