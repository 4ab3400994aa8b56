"""TensorFlow Serving's REST interface, with counters for Prometheus and a health check.

Source of the paths and their answers: https://www.tensorflow.org/tfx/serving/api_rest
"""

from __future__ import annotations

import contextlib
import gzip
import inspect
import json
import re
import threading
import time
import zlib
from collections.abc import Callable, Iterable
from typing import Any

import prometheus_client
from google.protobuf import json_format
from grpc import StatusCode
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge
from werkzeug.wrappers import Request, Response

from serving.server import rest_json
from serving.server.errors import RequestError, invalid
from serving.server.metrics import Metrics
from serving.server.models import State
from serving.server.predict import Requests, Target
from serving.server.servable import Arrays, Signature
from serving.server.settings import Settings

_WORTH_PACKING = 1024
"""Bytes of an answer from which on it is packed for whoever asks for that."""
HEALTH_PATH = "/healthz"
_MODEL = r"/v1/models/(?P<model>[^/:]+)(?:/versions/(?P<version>\d{1,19})|/labels/(?P<label>[^/:]+))?"
_PREDICT = re.compile(rf"{_MODEL}:predict", re.IGNORECASE)
_METADATA = re.compile(rf"{_MODEL}/metadata", re.IGNORECASE)
_STATUS = re.compile(_MODEL, re.IGNORECASE)
_HTTP = {
    StatusCode.OK: 200,
    StatusCode.CANCELLED: 499,
    StatusCode.INVALID_ARGUMENT: 400,
    StatusCode.FAILED_PRECONDITION: 400,
    StatusCode.OUT_OF_RANGE: 400,
    StatusCode.UNAUTHENTICATED: 401,
    StatusCode.PERMISSION_DENIED: 403,
    StatusCode.NOT_FOUND: 404,
    StatusCode.ALREADY_EXISTS: 409,
    StatusCode.ABORTED: 409,
    StatusCode.RESOURCE_EXHAUSTED: 429,
    StatusCode.UNIMPLEMENTED: 501,
    StatusCode.UNAVAILABLE: 503,
    StatusCode.DEADLINE_EXCEEDED: 504,
}
_ALL_FIELDS: dict[str, Any] = {  # protobuf 5 has given the option another name
    name: True
    for name in ("always_print_fields_with_no_presence", "including_default_value_fields")
    if name in inspect.signature(json_format.MessageToDict).parameters
}


class _TooLargeError(RequestError):
    """A request of more bytes than are taken."""

    def __init__(self, limit: int) -> None:
        super().__init__(StatusCode.RESOURCE_EXHAUSTED, f"message larger than max ({limit} bytes)")


class RestApi:
    """The WSGI application."""

    def __init__(self, requests: Requests, metrics: Metrics, settings: Settings) -> None:
        self._requests = requests
        self._metrics = metrics
        self._settings = settings
        self._reading = threading.Lock()  # JSON takes ten times its size when it is read: of one request at a time
        self._routes: list[tuple[str, re.Pattern[str], str, Callable[[Request, Target], bytes]]] = [
            ("POST", _PREDICT, "Predict", self._predict),
            ("GET", _METADATA, "GetModelMetadata", self._metadata),
            ("GET", _STATUS, "GetModelStatus", self._status),
        ]

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        request = Request(environ)
        request.max_content_length = self._settings.max_json_bytes + 1  # in chunks, what is more is left unread
        try:
            response = self._respond(request)
        except RequestError as error:
            status = 413 if isinstance(error, _TooLargeError) else _HTTP.get(error.code, 500)
            response = Response(rest_json.error(error.message), status, mimetype="application/json")
        if request.accept_encodings["gzip"] and len(response.data) > _WORTH_PACKING:
            response.data = gzip.compress(response.data, compresslevel=1)
            response.content_encoding = "gzip"
        return response(environ, start_response)

    def _respond(self, request: Request) -> Response:
        if request.method == "GET" and request.path == HEALTH_PATH:
            is_open = self._requests.gate.is_open
            return Response("ok\n" if is_open else "stopping\n", 200 if is_open else 503, mimetype="text/plain")
        if request.method == "GET" and request.path == self._settings.metrics_path:
            counters = prometheus_client.generate_latest(self._metrics.registry)
            return Response(counters, content_type=prometheus_client.CONTENT_TYPE_LATEST)
        for method, pattern, name, answer in self._routes:
            found = pattern.fullmatch(request.path)
            if found and request.method == method:
                target = _target(found)
                with self._requests.answering(target.model, name, "rest"):
                    return Response(answer(request, target), mimetype="application/json")
        raise RequestError(StatusCode.NOT_FOUND, "Malformed request: no such method and path")

    def _predict(self, request: Request, target: Target) -> bytes:
        deadline = time.monotonic() + self._settings.rest_api_timeout_ms / 1000
        packed = self._body(request)
        with contextlib.ExitStack() as reading:
            reading.enter_context(self._reading)
            body = rest_json.PredictBody.parse(packed)

            def arrays(signature: Signature) -> Arrays:
                with reading:
                    return body.take(signature, self._requests.max_rows)

            answer = self._requests.predict(target, body.signature_name, arrays, deadline)
        return rest_json.dumps(answer.outputs, body.in_rows)

    def _body(self, request: Request) -> bytes:
        limit = self._settings.max_json_bytes
        try:
            body = request.get_data(cache=False)
        except RequestEntityTooLarge:
            raise _TooLargeError(limit) from None
        except (HTTPException, OSError):
            raise invalid("the request's body did not arrive whole") from None
        if len(body) > limit:
            raise _TooLargeError(limit)
        if request.headers.get("Content-Encoding", "").lower() == "gzip":
            return _unpacked(body, limit)
        return body

    def _metadata(self, request: Request, target: Target) -> bytes:
        with self._requests.models.acquire(target.model, target.version, target.label) as (version, servable):
            definitions = json_format.MessageToDict(
                servable.signature_defs, preserving_proto_field_name=True, **_ALL_FIELDS
            )
        spec = {"name": target.model, "signature_name": "", "version": str(version)}
        return json.dumps({"model_spec": spec, "metadata": {"signature_def": definitions}}, indent=1).encode()

    def _status(self, request: Request, target: Target) -> bytes:
        found = self._requests.models.status(target.model, target.version, target.label)
        told = [_version_status(number, state, error) for number, (state, error) in found.items()]
        return json.dumps({"model_version_status": told}, indent=1).encode()


def _unpacked(body: bytes, limit: int) -> bytes:
    """What was packed with gzip, as far as it is not too large."""
    unpacking = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        unpacked = unpacking.decompress(body, limit + 1)
    except zlib.error:
        raise invalid("the request's body is not what gzip writes") from None
    if len(unpacked) > limit:
        raise _TooLargeError(limit)
    if not unpacking.eof:
        raise invalid("the request's body did not arrive whole")
    return unpacked


def _version_status(number: int, state: State, error: str) -> dict[str, Any]:
    status = {"error_code": "UNKNOWN" if error else "OK", "error_message": error}
    return {"version": str(number), "state": state.name, "status": status}


def _target(found: re.Match[str]) -> Target:
    version = int(found["version"]) if found["version"] else None
    return Target(found["model"], version, found["label"])
