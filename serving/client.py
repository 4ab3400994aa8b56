"""A model on a TensorFlow Serving elsewhere, used as one in this process is.

    predictor = connect("grpc://localhost:8500/notes")
    predictor.manifest.geometry.window_length
    predictor(windows)["frame"]

The manifest comes from the model itself, so that a client holds no file and no constant of any model.
Nothing here imports TensorFlow: grpcio and protobuf are enough, and importing this takes about a second.
"""

from __future__ import annotations

import dataclasses
import urllib.parse
from types import TracebackType
from typing import Any

import grpc
import numpy as np
import pydantic

from musicnet_tf import inference, messages
from musicnet_tf.errors import ServingError
from musicnet_tf.manifest import FORMAT_VERSION, Manifest

DEFAULT_PORT = 8500
TIMEOUT = 60.0
"""Seconds that a server may take for one message."""
MAX_MESSAGE_BYTES = 4 * 2**20 - 2**12
"""What gRPC servers take by default, less room for what is not samples."""
MAX_WINDOWS = 64
"""Windows in one message; a server that batches takes no more than its `max_batch_size`."""


@dataclasses.dataclass(frozen=True)
class Address:
    """A model on a server: `grpc://host[:port]/model[@version]`, version being a number or a label."""

    target: str
    model: str
    version: str = ""

    @classmethod
    def parse(cls, text: str) -> Address:
        """Raises ServingError where the text is no such address."""
        try:
            parts = urllib.parse.urlsplit(text)
            port = parts.port or DEFAULT_PORT
        except ValueError as error:
            raise ServingError(f"{text}: not an address ({error})") from error
        model, _, version = parts.path.strip("/").partition("@")
        if parts.scheme != "grpc" or not parts.hostname or not model or "/" in model:
            raise ServingError(
                f"{text}: not an address; write grpc://host:port/model or grpc://host:port/model@version"
            )
        if version.isdecimal() and not (len(version) < 20 and int(version) < 2**63):
            raise ServingError(f"{text}: not an address (no server numbers a version above {2**63 - 1})")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        return cls(f"{host}:{port}", model, version)

    def __str__(self) -> str:
        return f"grpc://{self.target}/{self.model}" + (f"@{self.version}" if self.version else "")


class RemotePredictor:
    """A model on a server, with the interface of `inference.Predictor`. Close it, or use it in a `with`.

    Every call asks for the version that was there when it connected: answers of two versions would not
    fit together, and thresholds belong to one of them.
    """

    def __init__(self, address: Address, timeout: float = TIMEOUT) -> None:
        """Connects and fetches the manifest. Raises ServingError."""
        self.address = address
        self._timeout = timeout
        unlimited = [(f"grpc.max_{way}_message_length", -1) for way in ("send", "receive")]
        self._channel = grpc.insecure_channel(address.target, options=unlimited)
        self._call = self._channel.unary_unary(
            messages.PREDICT,
            request_serializer=messages.PredictRequest.SerializeToString,
            response_deserializer=messages.PredictResponse.FromString,
        )
        try:
            self.manifest = self._fetch_manifest()
        except BaseException:
            self.close()
            raise

    def __call__(self, windows: np.ndarray) -> dict[str, np.ndarray]:
        """Activations of windows, `(batch, window_length)` → head → float32 `(batch, frames, classes)`.

        A large batch goes in several messages.

        Raises:
            ServingError: where the windows do not fit the model, or the server refuses or does not answer.
        """
        spec = self.manifest.geometry
        windows = np.asarray(windows, np.float32)
        if windows.ndim != 2 or windows.shape[1] != spec.window_length:
            raise ServingError(
                f"{self.address}: windows of shape {windows.shape}, the model takes (batch, {spec.window_length})"
            )
        size = min(MAX_WINDOWS, max(1, MAX_MESSAGE_BYTES // (4 * spec.window_length)))
        parts = [self._activations(windows[at : at + size]) for at in range(0, len(windows) or 1, size)]
        return {head: np.concatenate([part[head] for part in parts]) for head in parts[0]}

    def close(self) -> None:
        """Ends the connection."""
        self._channel.close()

    def __enter__(self) -> RemotePredictor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _activations(self, windows: np.ndarray) -> dict[str, np.ndarray]:
        outputs = self._predict(inference.SIGNATURE, inference.WINDOWS, windows)
        spec = self.manifest.geometry
        promised = {name: (len(windows), spec.num_frames, head.num_classes) for name, head in spec.heads.items()}
        for name, values in outputs.items():
            if values.shape != promised.get(name):
                raise ServingError(
                    f"{self.address}: head {name!r} has shape {values.shape}, its manifest promises"
                    f" {promised.get(name, 'no such head')}"
                )
        return outputs

    def _fetch_manifest(self) -> Manifest:
        each = np.zeros(1, np.int32)
        try:
            (text,) = self._predict(inference.DESCRIBE, inference.EACH, each)[inference.MANIFEST]
            manifest = Manifest.model_validate_json(text)
        except (KeyError, ValueError, pydantic.ValidationError) as error:
            raise ServingError(
                f"{self.address}: does not describe itself as `musicnet export` would have it ({error})"
            ) from error
        if manifest.format_version != FORMAT_VERSION:
            raise ServingError(
                f"{self.address}: its manifest is of format version {manifest.format_version}, this program reads"
                f" {FORMAT_VERSION}; export the model again, or use the release that exported it"
            )
        return manifest

    def _predict(self, signature: str, name: str, values: np.ndarray) -> dict[str, np.ndarray]:
        request = messages.PredictRequest(inputs=[{"key": name, "value": messages.to_tensor(values)}])
        request.model_spec.name = self.address.model
        request.model_spec.signature_name = signature
        if self.address.version.isdecimal():
            request.model_spec.version.value = int(self.address.version)
        elif self.address.version:
            request.model_spec.version_label = self.address.version
        try:
            response = self._call(request, timeout=self._timeout)
        except grpc.RpcError as error:
            raise ServingError(f"{self.address}: {_explain(error, self._timeout)}") from error
        if response.model_spec.version.value:
            version = str(response.model_spec.version.value)
            self.address = dataclasses.replace(self.address, version=version)
        try:
            return {entry.key: messages.to_array(entry.value) for entry in response.outputs}
        except ValueError as error:
            raise ServingError(f"{self.address}: an answer that cannot be read ({error})") from error


def connect(address: str, timeout: float = TIMEOUT) -> RemotePredictor:
    """A model on a server, by its address `grpc://host[:port]/model[@version]`.

    Args:
        address: where the model is; port 8500 and the newest version by default.
        timeout: seconds that the server may take for one message.

    Raises:
        ServingError: where no server answers, it has no such model, or the model is none of this program.
    """
    return RemotePredictor(Address.parse(address), timeout)


def _explain(error: Any, timeout: float) -> str:
    code, details = error.code(), " ".join((error.details() or "").split())
    if code == grpc.StatusCode.UNAVAILABLE:
        return f"no server answers there; is it running, and is this its gRPC port? ({details})"
    if code == grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"no answer within {timeout:g} s; allow it more time, or send shorter batches"
    if code == grpc.StatusCode.NOT_FOUND:
        return f"the server has no such model or version ({details})"
    if code == grpc.StatusCode.RESOURCE_EXHAUSTED:
        return f"the server is full, or takes no message of this size ({details})"
    return f"the server refused: {code.name} ({details})"
