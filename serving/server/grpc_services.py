"""PredictionService and ModelService of TensorFlow Serving."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import grpc
from google.protobuf import any_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving.server import tensors
from serving.server.errors import RequestError, invalid
from serving.server.predict import Requests, Target

NO_DEADLINE = 3600.0
"""Seconds, where a client names none."""


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict and GetModelMetadata."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests

    def Predict(self, request: Any, context: Any) -> Any:  # noqa: N802  # the service's own names
        with _answering(self._requests, request, context, "Predict"):
            remaining = context.time_remaining()
            answer = self._requests.predict(
                _target(request),
                request.model_spec.signature_name,
                lambda signature: tensors.decode(signature, request.inputs, self._requests.max_rows),
                time.monotonic() + min(NO_DEADLINE, NO_DEADLINE if remaining is None else remaining),
                request.output_filter,
                on_queued=lambda future: _cancel_with(context, future),
            )
            response = predict_pb2.PredictResponse()
            for name, array in answer.outputs.items():
                tensors.encode(array, response.outputs[name])
            _fill(response.model_spec, request, answer.version)
            response.model_spec.signature_name = answer.signature
            return response

    def GetModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        with _answering(self._requests, request, context, "GetModelMetadata"):
            _check_fields(request.metadata_field)
            target = _target(request)
            with self._requests.models.acquire(target.model, target.version, target.label) as (version, servable):
                packed = any_pb2.Any()
                packed.Pack(servable.signature_defs)
            response = get_model_metadata_pb2.GetModelMetadataResponse(metadata={"signature_def": packed})
            _fill(response.model_spec, request, version)
            return response


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus. Configurations are reloaded from files alone: a request cannot name a path."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests

    def GetModelStatus(self, request: Any, context: Any) -> Any:  # noqa: N802
        with _answering(self._requests, request, context, "GetModelStatus"):
            target, response = _target(request), get_model_status_pb2.GetModelStatusResponse()
            found = self._requests.models.status(target.model, target.version, target.label)
            for number, (state, error) in found.items():
                version = response.model_version_status.add(version=number, state=state.value)
                code = grpc.StatusCode.UNKNOWN if error else grpc.StatusCode.OK
                version.status.error_code, version.status.error_message = code.value[0], error
            return response

    def HandleReloadConfigRequest(self, request: Any, context: Any) -> Any:  # noqa: N802
        context.abort(
            grpc.StatusCode.UNIMPLEMENTED,
            "this server takes no paths from requests; start it with --model_config_file_poll_wait_seconds instead",
        )


@contextmanager
def _answering(requests: Requests, request: Any, context: Any, method: str) -> Iterator[None]:
    """Tells errors as gRPC does."""
    try:
        with requests.answering(request.model_spec.name, method, "grpc"):
            yield
    except RequestError as error:
        context.abort(error.code, error.message)


def _cancel_with(context: Any, future: Future[Any]) -> None:
    """Takes a request back when its client goes."""
    if not context.add_callback(future.cancel):
        future.cancel()


def _target(request: Any) -> Target:
    spec = request.model_spec
    choice = spec.WhichOneof("version_choice")
    return Target(
        spec.name,
        spec.version.value if choice == "version" else None,
        spec.version_label if choice == "version_label" else None,
    )


def _fill(spec: Any, request: Any, version: int) -> None:
    spec.name = request.model_spec.name
    spec.version.value = version


def _check_fields(fields: Any) -> None:
    if not fields:
        raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
    for field in fields:
        if field != "signature_def":
            raise invalid(f"Metadata field {field} is not supported")
