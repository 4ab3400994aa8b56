"""Questions and answers as TensorFlow Serving's REST API has them: JSON over HTTP.

After https://www.tensorflow.org/tfx/serving/api_rest, in columns. JSON takes several times the bytes of gRPC
and the time to write and read them: for servers that let nothing else through.
"""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import ssl
import time
import urllib.parse
from typing import Any

import numpy as np
import urllib3

from musicnet_tf.errors import ServingError
from serving import credentials
from serving.address import Address
from serving.exchange import UNREADABLE, Answer, Predict, Refusal, Versions
from serving.options import Options

_CODES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    412: "FAILED_PRECONDITION",
    413: "RESOURCE_EXHAUSTED",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",  # as proxies say of a server that restarts
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_PIECE = 2**16


class RestTransport:
    """A pool of HTTP connections to a server, for any number of threads."""

    def __init__(self, address: Address, options: Options) -> None:
        """Raises ServingError where certificates cannot be read. Connects when the first message is sent."""
        self._options = options
        where, connections = (address.host, address.port), options.in_flight
        self._pool = (
            urllib3.HTTPSConnectionPool(*where, maxsize=connections, ssl_context=_tls(options))
            if address.is_encrypted
            else urllib3.HTTPConnectionPool(*where, maxsize=connections)
        )

    def send(self, question: Predict | Versions, timeout: float) -> Any:
        """The answer: `Answer`, or a list of versions. Raises Refusal."""
        path = _path(question.address)
        if isinstance(question, Versions):
            return _versions(self._exchange("GET", path, None, timeout))
        values = {name: array.tolist() for name, array in question.inputs.items()}
        asked = {"signature_name": question.signature, "inputs": values}
        body = json.dumps(asked, separators=(",", ":")).encode()
        return Answer(_outputs(self._exchange("POST", f"{path}:predict", body, timeout)))

    def close(self) -> None:
        self._pool.close()

    def _exchange(self, method: str, path: str, body: bytes | None, timeout: float) -> dict[str, Any]:
        headers = {"content-type": "application/json", **credentials.authorization(self._options)}
        if self._options.compression == "gzip":
            headers["accept-encoding"] = "gzip"
            if body is not None:
                headers["content-encoding"], body = "gzip", gzip.compress(body, compresslevel=1)
        deadline = time.monotonic() + timeout
        try:
            # No redirect is followed: it could carry the token elsewhere. Retries are the session's.
            response = self._pool.urlopen(
                method,
                path,
                body,
                headers,
                retries=False,
                redirect=False,
                timeout=urllib3.Timeout(total=timeout),
                preload_content=False,
            )
            with contextlib.closing(response):
                content = self._read(response, deadline)
        except urllib3.exceptions.NewConnectionError as error:  # counts as a timeout there, which it is not
            raise Refusal("UNAVAILABLE", str(error)) from error
        except urllib3.exceptions.TimeoutError as error:
            raise Refusal("DEADLINE_EXCEEDED", str(error)) from error
        except urllib3.exceptions.HTTPError as error:
            foreign = error.args and type(error.args[-1]) is http.client.BadStatusLine  # it quotes what came
            raise Refusal("UNAVAILABLE", "no HTTP is spoken there" if foreign else str(error)) from error
        return _parsed(response.status, content)

    def _read(self, response: Any, deadline: float) -> bytes:
        """The whole answer, as long as it is not too large and does not trickle in past the deadline."""
        pieces, size = [], 0
        while piece := response.read1(_PIECE):
            pieces.append(piece)
            size += len(piece)
            if size > self._options.max_answer_bytes:
                raise Refusal(
                    "RESOURCE_EXHAUSTED", f"answer message larger than {self._options.max_answer_bytes} bytes"
                )
            if time.monotonic() > deadline:
                raise Refusal("DEADLINE_EXCEEDED")
        return b"".join(pieces)


def _path(address: Address) -> str:
    path = f"/v1/models/{urllib.parse.quote(address.model, safe='')}"
    if address.version is not None:
        return f"{path}/versions/{address.version}"
    return f"{path}/labels/{urllib.parse.quote(address.label, safe='')}" if address.label else path


def _parsed(status: int, content: bytes) -> dict[str, Any]:
    """The JSON object of an answer. Raises Refusal where it is none, or tells of an error."""
    try:
        parsed = json.loads(content)
    except (ValueError, RecursionError):
        parsed = None
    said = parsed.get("error") if isinstance(parsed, dict) else None
    if status != 200:
        words = "payload too large; " if status == 413 else ""
        words += str(said) if said else f"HTTP status {status}"
        raise Refusal(_CODES.get(status, f"HTTP {status}"), words)
    if not isinstance(parsed, dict) or said:
        raise Refusal(UNREADABLE, str(said or "not a JSON object; is this the port of the REST API?"))
    return parsed


def _versions(answer: dict[str, Any]) -> list[int]:
    try:
        return [int(status["version"]) for status in answer["model_version_status"] if status["state"] == "AVAILABLE"]
    except (KeyError, TypeError, ValueError) as error:
        raise Refusal(UNREADABLE, "not the status of a model") from error


def _outputs(answer: dict[str, Any]) -> dict[str, np.ndarray]:
    """Outputs by name. A server leaves out the name of an only one."""
    outputs = answer.get("outputs")
    try:
        return {
            name: _array(values) for name, values in (outputs if isinstance(outputs, dict) else {"": outputs}).items()
        }
    except (ValueError, TypeError, OverflowError) as error:
        raise Refusal(UNREADABLE, f"outputs that are no tensors ({error})") from error


def _array(values: Any) -> np.ndarray:
    """Nested lists as float32, or as an array of bytes objects."""
    array = np.asarray(values)
    if array.ndim and array.dtype.kind in "if":
        return array.astype(np.float32)
    if array.ndim and array.dtype.kind == "U":
        return np.array([text.encode() for text in array.ravel()], object).reshape(array.shape)
    raise ValueError("neither numbers nor strings")


def _tls(options: Options) -> ssl.SSLContext:
    trusted, _, _ = credentials.certificates(options)
    try:
        context = ssl.create_default_context(cadata=trusted.decode("ascii") if trusted else None)
        if options.certificate_file and options.key_file:
            context.load_cert_chain(options.certificate_file, options.key_file, password="")  # never asks for one
    except (ssl.SSLError, ValueError) as error:
        raise ServingError(f"certificates that cannot be used ({error})") from error
    return context
