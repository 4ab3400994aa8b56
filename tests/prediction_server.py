"""A small gRPC server that runs SavedModels behind TensorFlow Serving's own interface and its manners of refusal."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Serves every version in a model's folder under one name.

    Attributes:
        requests: signature and input sizes of each request so far.
        value_by_value: whether floats are sent in `float_val`, as TensorFlow Serving does by default, or
            in one piece.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.requests: list[tuple[str, dict[str, list[int]]]] = []
        self.value_by_value = True
        self._versions = {int(path.name): tf.saved_model.load(str(path)) for path in folder.iterdir()}

    def Predict(self, request, context):
        spec, refuse = request.model_spec, context.abort
        version = spec.version.value or max(self._versions)
        if spec.version_label:
            version = {"stable": min(self._versions)}.get(spec.version_label)
        if spec.name != self.name or version not in self._versions:
            context.abort(
                grpc.StatusCode.NOT_FOUND, f"Servable not found for request: Specific({spec.name}, {version})"
            )
        signatures = self._versions[version].signatures
        if spec.signature_name not in signatures:
            context.abort(
                grpc.StatusCode.FAILED_PRECONDITION, f'Serving signature key "{spec.signature_name}" not found.'
            )
        inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
        self.requests.append((spec.signature_name, {name: list(array.shape) for name, array in inputs.items()}))
        try:
            outputs = signatures[spec.signature_name](**{name: tf.constant(array) for name, array in inputs.items()})
        except (TypeError, ValueError, tf.errors.OpError) as error:
            refuse(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        response = predict_pb2.PredictResponse()
        response.model_spec.CopyFrom(spec)
        response.model_spec.version.value = version
        for name, tensor in outputs.items():
            response.outputs[name].CopyFrom(self._message(tensor))
        return response

    def _message(self, tensor):
        message = tf.make_tensor_proto(tensor.numpy())
        if self.value_by_value and message.tensor_content:
            message.ClearField("tensor_content")
            message.float_val.extend(tensor.numpy().ravel().tolist())
        return message


@contextlib.contextmanager
def serving(service: PredictionService) -> Iterator[str]:
    """Runs the service on a free port of this machine and gives `host:port`. Messages have gRPC's usual limit."""
    server = grpc.server(ThreadPoolExecutor(max_workers=2))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(grace=None).wait()
