"""Small servers that answer as a script says: faults on demand, over gRPC and over REST, without TensorFlow.

The model that they play has windows of `WINDOW` samples and one head; what it hears is a window's first sample.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import socket
import socketserver
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
import numpy as np

from musicnet_tf import messages
from musicnet_tf.manifest import Manifest
from musicnet_tf.models import HeadSpec, ModelSpec
from musicnet_tf.timebase import FrameClock

WINDOW, FRAMES, CLASSES = 8, 2, 3
SPEC = ModelSpec(FrameClock(100, 4), WINDOW, FRAMES, margin=0, heads={"frame": HeadSpec(CLASSES)})
MANIFEST = Manifest(name="echo", task="notes", spec=SPEC.to_dict())
HTTP = {"UNAVAILABLE": 503, "RESOURCE_EXHAUSTED": 429, "INVALID_ARGUMENT": 400, "NOT_FOUND": 404}


def heard(windows: np.ndarray) -> np.ndarray:
    """What the model gives for windows."""
    return np.broadcast_to(np.asarray(windows, np.float32)[:, :1, None], (len(windows), FRAMES, CLASSES))


@dataclasses.dataclass(frozen=True)
class Refuse:
    """Refuses with a status."""

    code: str
    details: str = "on purpose"


@dataclasses.dataclass(frozen=True)
class Raw:
    """Answers with these bytes, whatever was asked."""

    content: bytes


@dataclasses.dataclass(frozen=True)
class Give:
    """Answers with these outputs in place of the model's."""

    outputs: dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Hang:
    """Answers when the event is set."""

    until: threading.Event


class Disconnect:
    """Closes the connection in the middle of the answer."""


Behaviour = Refuse | Raw | Give | Hang | Disconnect | None


@dataclasses.dataclass
class Seen:
    """A request as it came.

    Attributes:
        signature: empty where versions were asked for.
        version: that was asked for.
        windows: rows of the input.
        headers: metadata or HTTP headers, in lower case.
        size: of the message in bytes, unpacked.
    """

    signature: str
    version: int | None
    windows: int
    headers: dict[str, str]
    size: int


class Script:
    """What a server does with each request: the listed behaviours in turn, then what the model does.

    Attributes:
        seen: the requests so far.
        versions: that are there; a request for another is refused.
        max_windows: the most that one message may hold, as a server's limit.
        descriptions: whether the script is for requests of the manifest too; the model answers those otherwise.
    """

    def __init__(self, *behaviours: Behaviour, versions: tuple[int, ...] = (1,), descriptions: bool = False) -> None:
        self.seen: list[Seen] = []
        self.versions = set(versions)
        self.max_windows = 1000
        self.too_large = Refuse("RESOURCE_EXHAUSTED", "SERVER: Received message larger than max (5000 vs. 4000)")
        self.descriptions = descriptions
        self.manifest = MANIFEST
        self.meanwhile: Callable[[], None] = lambda: None
        self._behaviours = list(behaviours)
        self._lock = threading.Lock()

    def then(self, *behaviours: Behaviour) -> None:
        """Adds behaviours."""
        with self._lock:
            self._behaviours.extend(behaviours)

    def predictions(self) -> list[Seen]:
        """Requests of the model's default signature."""
        return [request for request in self.seen if request.signature == "serving_default"]

    def next(self, request: Seen) -> Behaviour:
        """Takes note of a request and says what becomes of it."""
        self.meanwhile()
        with self._lock:
            self.seen.append(request)
            if self._behaviours and (request.signature == "serving_default" or self.descriptions):
                return self._behaviours.pop(0)
        if request.version is not None and request.version not in self.versions:
            return Refuse("NOT_FOUND", f"Servable not found for request: Specific(echo, {request.version})")
        if request.signature == "serving_default" and request.windows > self.max_windows:
            return self.too_large
        return None

    def outputs(self, signature: str, inputs: np.ndarray) -> dict[str, np.ndarray]:
        """What the model gives."""
        if signature == "describe":
            text = self.manifest.model_dump_json().encode()
            return {"manifest": np.array([text] * len(inputs), object)}
        return {"frame": heard(inputs)}


@contextlib.contextmanager
def grpc_server(script: Script, credentials: Any = None, port: int = 0) -> Iterator[str]:
    """Plays a script over gRPC; gives `localhost:port`."""

    def predict(content: bytes, context: Any) -> bytes:
        request = messages.PredictRequest.FromString(content)
        inputs = messages.to_array(request.inputs[0].value)
        seen = _of_spec(request.model_spec, len(inputs), context, len(content))
        behaviour = script.next(seen)
        return _grpc_answer(script, behaviour, seen, inputs, context)

    def status(content: bytes, context: Any) -> bytes:
        request = messages.StatusRequest.FromString(content)
        script.next(_of_spec(request.model_spec, 0, context, len(content)))
        states = [{"version": version, "state": messages.AVAILABLE} for version in script.versions]
        return messages.StatusResponse(model_version_status=states).SerializeToString()

    methods = {messages.PREDICT: predict, messages.STATUS: status}

    class Handler(grpc.GenericRpcHandler):
        def service(self, call):
            return grpc.unary_unary_rpc_method_handler(methods[call.method])

    server = grpc.server(ThreadPoolExecutor(8), handlers=[Handler()], options=[("grpc.so_reuseport", 0)])
    bind = (lambda at: server.add_secure_port(at, credentials)) if credentials else server.add_insecure_port
    port = bind(f"localhost:{port}")
    server.start()
    try:
        yield f"localhost:{port}"
    finally:
        server.stop(None).wait()


def _of_spec(spec: Any, windows: int, context: Any, size: int) -> Seen:
    version = spec.version.value if spec.HasField("version") else None
    return Seen(spec.signature_name, version, windows, dict(context.invocation_metadata()), size)


def _grpc_answer(script: Script, behaviour: Behaviour, seen: Seen, inputs: np.ndarray, context: Any) -> bytes:
    match behaviour:
        case Refuse(code, details):
            context.abort(grpc.StatusCode[code], details)
        case Raw(content):
            return content
        case Disconnect():
            context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
        case Hang(until):
            until.wait(30)
    outputs = behaviour.outputs if isinstance(behaviour, Give) else script.outputs(seen.signature, inputs)
    response = messages.PredictResponse(
        outputs=[{"key": name, "value": messages.to_tensor(array)} for name, array in outputs.items()]
    )
    response.model_spec.version.value = seen.version if seen.version is not None else max(script.versions)
    return response.SerializeToString()


@contextlib.contextmanager
def rest_server(script: Script, tls: ssl.SSLContext | None = None, port: int = 0) -> Iterator[str]:
    """Plays a script over REST; gives `localhost:port`."""

    class Handler(_RestHandler):
        played = script

    open_connections = []

    class Server(ThreadingHTTPServer):
        def get_request(self):
            connection, address = super().get_request()
            open_connections.append(connection)
            return connection, address

        def handle_error(self, request, client_address):
            pass  # clients that go away are part of the script

    server = Server(("localhost", port), Handler)
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"localhost:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        for connection in open_connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        server.server_close()


class _RestHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body in one packet: the second would wait for the first to be acknowledged
    played: Script

    def do_GET(self) -> None:
        self.played.next(Seen("", self._version(), 0, self._headers(), 0))
        states = [{"version": str(v), "state": "AVAILABLE"} for v in self.played.versions]
        states.append({"version": "99", "state": "END"})
        self._send(200, json.dumps({"model_version_status": states}).encode())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers["content-encoding"] == "gzip":
            import gzip

            body = gzip.decompress(body)
        asked = json.loads(body)
        (inputs,) = asked["inputs"].values()
        signature = asked["signature_name"]
        behaviour = self.played.next(Seen(signature, self._version(), len(inputs), self._headers(), len(body)))
        match behaviour:
            case Refuse(code, details):
                return self._send(HTTP[code], json.dumps({"error": details}).encode())
            case Raw(content):
                return self._send(200, content)
            case Disconnect():
                return self._break_off()
            case Hang(until):
                until.wait(30)
        outputs = behaviour.outputs if isinstance(behaviour, Give) else self.played.outputs(signature, inputs)
        values = {name: _listed(array) for name, array in outputs.items()}
        only = next(iter(values.values())) if len(values) == 1 else values
        return self._send(200, json.dumps({"outputs": only}).encode())

    def log_message(self, *args: object) -> None:
        pass

    def _version(self) -> int | None:
        _, found, version = self.path.partition("/versions/")
        return int(version.partition(":")[0]) if found else None

    def _headers(self) -> dict[str, str]:
        return {name.lower(): value for name, value in self.headers.items()}

    def _send(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _break_off(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "1000")
        self.end_headers()
        self.wfile.write(b'{"outputs": [[')
        self.wfile.flush()
        # A reset in place of an orderly end, as of a process that was killed.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True


@contextlib.contextmanager
def relay(target: str) -> Iterator[tuple[str, list[int]]]:
    """Passes connections on to a server; gives its own `localhost:port`, and the sizes of what clients sent."""
    sizes: list[int] = []
    host, port = target.rsplit(":", 1)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection((host, int(port))) as server:
                back = threading.Thread(target=_pass_on, args=(server, self.request, None))
                back.start()
                _pass_on(self.request, server, sizes)
                back.join()

    with socketserver.ThreadingTCPServer(("localhost", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"localhost:{server.server_address[1]}", sizes
        finally:
            server.shutdown()
            thread.join()


def _pass_on(source: socket.socket, sink: socket.socket, sizes: list[int] | None) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(2**16):
            if sizes is not None:
                sizes.append(len(piece))
            sink.sendall(piece)
        sink.shutdown(socket.SHUT_WR)


def _listed(array: np.ndarray) -> list:
    return [text.decode() for text in array] if array.dtype == object else array.tolist()


SERVERS = {"grpc": grpc_server, "http": rest_server}
