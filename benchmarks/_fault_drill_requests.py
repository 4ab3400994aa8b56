"""Requests that no server should answer, and clients that go away: what a fault drill sends."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import urllib3

from musicnet_tf import inference, messages

_FAULTS = frozenset({"UNKNOWN", "500", "OK", "200"})
"""Codes that no malformed request should be answered with: an error that nobody foresaw, and success."""
_LEAKS = ("Traceback", 'File "', ".py")
_SECONDS = 60.0


@dataclasses.dataclass(frozen=True)
class Malformed:
    """A request that cannot be answered.

    Attributes:
        kind: what is wrong with it.
        content: of the message or of the HTTP body.
        path: of the gRPC method, or of the REST API.
        method: of HTTP; empty for gRPC.
    """

    kind: str
    content: bytes
    path: str
    method: str = ""


def malformed(rng: np.random.Generator, model: str, window_length: int) -> Iterator[Malformed]:
    """Malformed requests without end, each kind in turn, with other details each time."""
    makers = [*_grpc_makers(rng, model, window_length), *_rest_makers(rng, model, window_length)]
    while True:
        for make in makers:
            yield make()


def _grpc_makers(rng: np.random.Generator, model: str, length: int) -> list[Callable[[], Malformed]]:
    windows = np.zeros((1, length), np.float32)

    def predict(kind: str, array: np.ndarray = windows, **changes: Any) -> Malformed:
        asked = {"model": model, "signature": inference.SIGNATURE, "name": inference.WINDOWS, **changes}
        request = messages.predict_request(
            asked["model"], asked["signature"], {asked["name"]: array}, changes.get("version"), changes.get("label", "")
        )
        if "change" in asked:
            asked["change"](request.inputs[0].value)
        return Malformed(kind, request.SerializeToString(), messages.PREDICT)

    def shape(*sizes: int) -> Callable[[Any], None]:
        def change(tensor: Any) -> None:
            del tensor.shape.dim[:]
            for size in sizes:
                tensor.shape.dim.add(size=size)

        return change

    def claims(*sizes: int) -> Callable[[Any], None]:
        def change(tensor: Any) -> None:
            shape(*sizes)(tensor)
            tensor.content = b""
            tensor.float_val.append(0.5)

        return change

    def retyped(number: int) -> Callable[[Any], None]:
        def change(tensor: Any) -> None:
            tensor.dtype = number

        return change

    def few() -> int:
        return int(rng.integers(1, 1000))

    def wav(kind: str, content: bytes) -> Malformed:
        return predict(kind, np.array([content], object), signature=inference.WAV_SIGNATURE, name=inference.WAV)

    whole = predict("", version=1).content
    return [
        lambda: Malformed("random bytes", b"\xff" + rng.bytes(few()), messages.PREDICT),
        lambda: Malformed("cut short", whole[: len(whole) - few()], messages.PREDICT),
        lambda: Malformed("length beyond the message", b"\x12\xff\xff\xff\xff\x07" + rng.bytes(8), messages.PREDICT),
        lambda: Malformed("no such method", whole, f"/tensorflow.serving.PredictionService/Method{few()}"),
        lambda: Malformed("empty", b"", messages.PREDICT),
        lambda: predict("no such model", model=f"model-{few()}"),
        lambda: predict("path for a model", model=f"../{few()}/../../etc/passwd"),
        lambda: predict("no such version", version=1000 + few()),
        lambda: predict("no such label", label=f"label-{few()}"),
        lambda: predict("no such signature", signature=f"signature-{few()}"),
        lambda: predict("no such input", name=f"input-{few()}"),
        lambda: predict("another window length", np.zeros((1, length + few()), np.float32)),
        lambda: predict("flat", np.zeros(few(), np.float32)),
        lambda: predict("one dimension too many", np.zeros((1, 1, few()), np.float32)),
        lambda: predict("integers", np.zeros((1, length), np.int32)),
        lambda: predict("strings", np.array([[b"x"]], object)),
        lambda: predict("unknown type of data", change=retyped(few() + 1000)),
        lambda: predict("more content than its shape", change=shape(1, length - 4)),
        lambda: predict("many rows claimed", change=claims(2**20 + few(), length)),
        lambda: predict("huge size claimed", change=claims(2**40 + few(), length)),
        lambda: predict("size beyond 64 bits claimed", change=claims(2**62, 2**62, few())),
        lambda: predict("negative size", change=shape(-few(), length)),
        lambda: predict("too many rows", np.zeros((few() + 64, 1), np.float32)),
        lambda: wav("no WAV", rng.bytes(few())),
        lambda: wav("WAV that claims gigabytes", _wav_header(2**32 - 1, 1, 16000)),
        lambda: wav("WAV of many channels", _wav_header(4, 9 + few(), 16000) + bytes(4)),
        lambda: wav("WAV of another rate", _wav_header(2, 1, 16000 + few()) + bytes(2)),
    ]


def _wav_header(data_bytes: int, channels: int, rate: int) -> bytes:
    form = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", 36, b"WAVE", b"fmt ", 16, 1, channels, rate, 2 * rate, 2, 16)
    return form + struct.pack("<4sI", b"data", data_bytes)


def _rest_makers(rng: np.random.Generator, model: str, length: int) -> list[Callable[[], Malformed]]:
    path = f"/v1/models/{model}"

    def post(kind: str, content: bytes, where: str = f"{path}:predict") -> Malformed:
        return Malformed(kind, content, where, "POST")

    def inputs(kind: str, value: Any, **more: Any) -> Malformed:
        return post(kind, json.dumps({"inputs": value, **more}).encode())

    def few() -> int:
        return int(rng.integers(1, 1000))

    zeros = [0.0] * length
    return [
        lambda: post("no JSON", rng.bytes(few())),
        lambda: post("JSON cut short", json.dumps({"inputs": [zeros]}).encode()[: -few()]),
        lambda: post("JSON without inputs", json.dumps({f"key-{few()}": 1}).encode()),
        lambda: post("JSON that is no object", json.dumps([few()]).encode()),
        lambda: post("nested deeply", b'{"inputs": ' + b"[" * (few() + 2000)),
        lambda: post("an integer of many digits", b'{"inputs": [[' + b"9" * (few() + 5000) + b"]]}"),
        lambda: inputs("another window length over REST", [[0.0] * few()]),
        lambda: inputs("rows of different lengths", [zeros, zeros[few() :]]),
        lambda: inputs("strings over REST", [["x"] * few()]),
        lambda: inputs("nulls", [[None] * few()]),
        lambda: inputs("objects", {f"input-{few()}": [zeros]}),
        lambda: inputs("base64 that is none", [{"b64": "!" * few()}], signature_name=inference.WAV_SIGNATURE),
        lambda: inputs("no such signature over REST", [zeros[:1]], signature_name=f"signature-{few()}"),
        lambda: inputs("a number for a signature", [zeros[:1]], signature_name=few()),
        lambda: post("no such model over REST", b'{"inputs": [[0]]}', f"/v1/models/model-{few()}:predict"),
        lambda: post("no such version over REST", b'{"inputs": [[0]]}', f"{path}/versions/{1000 + few()}:predict"),
        lambda: post("no such verb", b"{}", f"{path}:verb-{few()}"),
        lambda: Malformed("path", b"", f"/v1/models/..%2f..%2fetc%2fpasswd%00{few()}", "GET"),
        lambda: Malformed("method", b"", f"{path}:predict", "DELETE"),
    ]


class Sender:
    """Sends malformed requests, and judges the answers. Close it."""

    def __init__(self, grpc_target: str, rest_target: str) -> None:
        """Targets are `host:port`."""
        self._channel = grpc.insecure_channel(grpc_target)
        host, port = rest_target.rsplit(":", 1)
        self._rest = urllib3.HTTPConnectionPool(host, int(port), maxsize=1, timeout=_SECONDS, retries=False)

    def fault(self, request: Malformed) -> str:
        """What is wrong with how the server took a request; empty where it refused it as it should."""
        code, told = self._send_rest(request) if request.method else self._send_grpc(request)
        if code in _FAULTS or any(leak in told for leak in _LEAKS):
            return f"{request.kind}: {code} {told[:200]}"
        return ""

    def close(self) -> None:
        self._channel.close()
        self._rest.close()

    def _send_grpc(self, request: Malformed) -> tuple[str, str]:
        try:
            self._channel.unary_unary(request.path)(request.content, timeout=_SECONDS, wait_for_ready=True)
        except grpc.RpcError as error:
            return error.code().name, error.details() or ""  # type: ignore[attr-defined]
        return "OK", ""

    def _send_rest(self, request: Malformed) -> tuple[str, str]:
        answer = self._rest.urlopen(request.method, request.path, request.content)
        return str(answer.status), answer.data.decode("utf-8", "replace")


def leave_grpc(target: str, model: str, windows: np.ndarray, after: float) -> None:
    """Asks over gRPC and goes away so many seconds later, with the whole connection."""
    content = messages.predict_request(model, inference.SIGNATURE, {inference.WINDOWS: windows})
    with grpc.insecure_channel(target) as channel:
        grpc.channel_ready_future(channel).result(_SECONDS)
        call = channel.unary_unary(messages.PREDICT).future(content.SerializeToString(), timeout=_SECONDS)
        with contextlib.suppress(grpc.FutureTimeoutError):
            call.result(after)


def leave_rest(target: str, model: str, windows: np.ndarray, share: float) -> None:
    """Sends a share of a request over REST, all of it for 1, and resets the connection."""
    body = json.dumps({"inputs": windows.tolist()}).encode()
    head = f"POST /v1/models/{model}:predict HTTP/1.1\r\nHost: {target}\r\nContent-Length: {len(body)}\r\n\r\n"
    host, port = target.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=_SECONDS) as connection:
        connection.sendall(head.encode() + body[: round(share * len(body))])
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # RST, not FIN
