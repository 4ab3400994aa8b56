"""PredictionService and ModelService of TensorFlow Serving."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
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

from serving.server import errors, tensors
from serving.server.errors import invalid
from serving.server.metrics import Metrics
from serving.server.predict import Predictions, Target

NO_DEADLINE = 1e9
"""Seconds, where a client names none."""


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict and GetModelMetadata."""

    def __init__(self, predictions: Predictions, metrics: Metrics) -> None:
        self._predictions = predictions
        self._metrics = metrics

    def Predict(self, request: Any, context: Any) -> Any:  # noqa: N802  # the service's own names
        with _answering(request, context, self._metrics, self._predictions.models.names, "Predict"):
            remaining = context.time_remaining()
            answer = self._predictions.predict(
                _target(request),
                request.model_spec.signature_name,
                lambda signature: tensors.decode(signature, request.inputs, self._predictions.max_rows),
                list(request.output_filter),
                time.monotonic() + (NO_DEADLINE if remaining is None else remaining),
                on_queued=lambda future: _cancel_with(context, future),
            )
            response = predict_pb2.PredictResponse()
            for name, array in answer.outputs.items():
                response.outputs[name].CopyFrom(tensors.encode(array))
            _fill(response.model_spec, request, answer.version)
            response.model_spec.signature_name = answer.signature
            return response

    def GetModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        with _answering(request, context, self._metrics, self._predictions.models.names, "GetModelMetadata"):
            return metadata(self._predictions, request)


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus. Configurations are reloaded from files alone: a request cannot name a path."""

    def __init__(self, predictions: Predictions, metrics: Metrics) -> None:
        self._predictions = predictions
        self._metrics = metrics

    def GetModelStatus(self, request: Any, context: Any) -> Any:  # noqa: N802
        with _answering(request, context, self._metrics, self._predictions.models.names, "GetModelStatus"):
            return status(self._predictions, request)

    def HandleReloadConfigRequest(self, request: Any, context: Any) -> Any:  # noqa: N802
        context.abort(
            grpc.StatusCode.UNIMPLEMENTED,
            "this server takes no paths from requests; start it with --model_config_file_poll_wait_seconds instead",
        )


def metadata(predictions: Predictions, request: Any) -> Any:
    """Answers a GetModelMetadataRequest. Raises RequestError."""
    if not request.metadata_field:
        raise invalid("Missing metadata_field")
    for field in request.metadata_field:
        if field != "signature_def":
            raise invalid(f"Metadata field {field} is not supported")
    target = _target(request)
    with predictions.models.acquire(target.model, target.version, target.label) as (version, servable):
        packed, signatures = any_pb2.Any(), get_model_metadata_pb2.SignatureDefMap()
        for name, definition in servable.signature_defs.items():
            signatures.signature_def[name].CopyFrom(definition)
        packed.Pack(signatures)
        response = get_model_metadata_pb2.GetModelMetadataResponse(metadata={"signature_def": packed})
        _fill(response.model_spec, request, version)
        return response


def status(predictions: Predictions, request: Any) -> Any:
    """Answers a GetModelStatusRequest. Raises RequestError."""
    target, response = _target(request), get_model_status_pb2.GetModelStatusResponse()
    for number, (state, error) in predictions.models.status(target.model, target.version, target.label).items():
        found = response.model_version_status.add(version=number, state=state.value)
        found.status.error_code = grpc.StatusCode.UNKNOWN.value[0] if error else grpc.StatusCode.OK.value[0]
        found.status.error_message = error
    return response


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


@contextmanager
def _answering(request: Any, context: Any, metrics: Metrics, names: Callable[[], Any], method: str) -> Iterator[None]:
    """Tells errors as statuses, and counts."""
    begun, code = time.monotonic(), grpc.StatusCode.OK
    name = request.model_spec.name if request.model_spec.name in names() else ""
    try:
        yield
    except Exception as error:
        told = errors.of(error)
        code = told.code
        context.abort(told.code, told.message)
    finally:
        metrics.requests.labels(name, method, "grpc", code.name).inc()
        if method == "Predict":
            metrics.request_seconds.labels(name, "grpc").observe(time.monotonic() - begun)
