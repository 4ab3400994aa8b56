"""TensorFlow Serving's own stubs as clients of the development server, and short ways to start one."""

from __future__ import annotations

import contextlib

import grpc
import numpy as np
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving.server import Server, Settings

SECONDS = 60  # a deadline that no healthy machine meets
X = np.float32([[1, 2]])


class Stubs:
    """TensorFlow Serving's own clients of a server."""

    def __init__(self, channel):
        self.channel = channel
        self.prediction = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        self.model = model_service_pb2_grpc.ModelServiceStub(channel)
        self.health = health_pb2_grpc.HealthStub(channel)

    def predict(self, model="toy", signature="", version=None, label=None, output_filter=(), timeout=SECONDS, **inputs):
        call = self.prediction.Predict(
            predict_request(model, signature, version, label, output_filter, **inputs), timeout
        )
        return {name: tf.make_ndarray(tensor) for name, tensor in call.outputs.items()}

    def check(self, service=""):
        return self.health.Check(health_pb2.HealthCheckRequest(service=service), SECONDS).status

    def status(self, model):
        request = get_model_status_pb2.GetModelStatusRequest(model_spec={"name": model})
        found = self.model.GetModelStatus(request, SECONDS).model_version_status
        return {each.version: get_model_status_pb2.ModelVersionStatus.State.Name(each.state) for each in found}


def predict_request(model="toy", signature="", version=None, label=None, output_filter=(), **inputs):
    request = predict_pb2.PredictRequest(model_spec={"name": model, "signature_name": signature})
    if version is not None:
        request.model_spec.version.value = version
    if label is not None:
        request.model_spec.version_label = label
    request.output_filter.extend(output_filter)
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return request


@contextlib.contextmanager
def stubs_of(server, **options):
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}", options=list(options.items())) as channel:
        yield Stubs(channel)


def settings_of(*models, **changes):
    return Settings(tuple(models), **{"port": 0, "rest_api_port": None, "poll_seconds": 0.0, **changes})


@contextlib.contextmanager
def serving(*models, **changes):
    with Server(settings_of(*models, **changes)) as server, stubs_of(server) as stubs:
        yield server, stubs


def refused(call, *args, **kwargs):
    with pytest.raises(grpc.RpcError) as caught:
        call(*args, **kwargs)
    return caught.value.code(), caught.value.details()
