"""Questions and answers as TensorFlow Serving's gRPC messages, for threads and for coroutines."""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from musicnet_tf import messages
from serving import credentials
from serving.address import Address
from serving.exchange import UNREADABLE, Answer, Predict, Refusal, Versions
from serving.options import Options

_RECONNECT_MS = {"initial": 200, "min": 1000, "max": 2000}
"""Milliseconds between attempts to connect; gRPC waits up to two minutes by default, long after a restart."""


class GrpcTransport:
    """A channel to a server."""

    def __init__(self, address: Address, options: Options) -> None:
        """Raises ServingError where certificates cannot be read. Connects when the first message is sent."""
        self._options = options
        self._channel = _open(grpc, address, options)
        self._calls = {path: self._channel.unary_unary(path) for path in (messages.PREDICT, messages.STATUS)}

    def send(self, question: Predict | Versions, timeout: float) -> Any:
        """The answer: `Answer`, or a list of versions. Raises Refusal."""
        path, request = _request(question)
        try:
            return _answer(question, self._calls[path](request, timeout=timeout, metadata=_metadata(self._options)))
        except grpc.RpcError as error:
            raise _refusal(error) from error

    def close(self) -> None:
        self._channel.close()


class AsyncGrpcTransport:
    """As `GrpcTransport`, for the event loop in which it was made."""

    def __init__(self, address: Address, options: Options) -> None:
        self._options = options
        self._channel = _open(grpc.aio, address, options)
        self._calls = {path: self._channel.unary_unary(path) for path in (messages.PREDICT, messages.STATUS)}

    async def send(self, question: Predict | Versions, timeout: float) -> Any:
        path, request = _request(question)
        try:
            response = await self._calls[path](request, timeout=timeout, metadata=_metadata(self._options))
        except grpc.RpcError as error:
            raise _refusal(error) from error
        return _answer(question, response)

    async def close(self) -> None:
        await self._channel.close()


def _open(library: Any, address: Address, options: Options) -> Any:
    settings = {
        "compression": grpc.Compression.Gzip if options.compression == "gzip" else None,
        "options": [
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", options.max_answer_bytes),
            *((f"grpc.{which}_reconnect_backoff_ms", value) for which, value in _RECONNECT_MS.items()),
        ],
    }
    target = f"dns:///{address.target}"  # else a host named `unix` would be a file
    if not address.is_encrypted:
        return library.insecure_channel(target, **settings)
    trusted = grpc.ssl_channel_credentials(*credentials.certificates(options))
    return library.secure_channel(target, trusted, **settings)


def _metadata(options: Options) -> list[tuple[str, str]]:
    return list(credentials.authorization(options).items())


def _request(question: Predict | Versions) -> tuple[str, bytes]:
    address = question.address
    if isinstance(question, Versions):
        status = messages.StatusRequest()
        messages.set_model(status.model_spec, address.model, address.version, address.label)
        return messages.STATUS, status.SerializeToString()
    request = messages.predict_request(
        address.model, question.signature, question.inputs, address.version, address.label
    )
    return messages.PREDICT, request.SerializeToString()


def _answer(question: Predict | Versions, response: bytes) -> Any:
    try:
        if isinstance(question, Versions):
            found = messages.StatusResponse.FromString(response).model_version_status
            return [status.version for status in found if status.state == messages.AVAILABLE]
        answer = messages.PredictResponse.FromString(response)
        outputs = {entry.key: messages.to_array(entry.value) for entry in answer.outputs}
    except (DecodeError, ValueError) as error:
        raise Refusal(UNREADABLE, str(error)) from error
    spec = answer.model_spec
    return Answer(outputs, spec.version.value if spec.HasField("version") else None)


def _refusal(error: Any) -> Refusal:
    return Refusal(error.code().name, error.details() or "")
