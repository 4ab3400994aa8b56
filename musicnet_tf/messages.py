"""The few messages of TensorFlow Serving that are written and read here, without TensorFlow.

The stubs of tensorflow-serving-api import all of TensorFlow: 20 s and 560 MB on two busy cores, for a client
that only sends and receives. Messages are what their fields' numbers and types are on the wire; these are
taken from `tensorflow_serving/apis/{predict,model,get_model_status,prediction_log}.proto` and
`tensorflow/core/framework/{tensor,tensor_shape}.proto`. They live in a pool of their own, so that the full
ones can be imported beside them. A test holds them against the stubs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PREDICT = "/tensorflow.serving.PredictionService/Predict"
STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
AVAILABLE = 30
"""`ModelVersionStatus.state` of a version that answers."""

_PACKAGE = "musicnet_tf.serving"
# Message → fields as (name, number, type); [] stands for repeated, and a map is a list of entries.
_MESSAGES: dict[str, list[tuple[str, int, str]]] = {
    "Dim": [("size", 1, "int64")],
    "Shape": [("dim", 2, "Dim[]")],
    "Tensor": [
        ("dtype", 1, "int32"),
        ("shape", 2, "Shape"),
        ("content", 4, "bytes"),
        ("float_val", 5, "float[]"),
        ("int_val", 7, "int32[]"),
        ("string_val", 8, "bytes[]"),
    ],
    "Version": [("value", 1, "int64")],
    "ModelSpec": [
        ("name", 1, "string"),
        ("version", 2, "Version"),
        ("signature_name", 3, "string"),
        ("version_label", 4, "string"),
    ],
    "Entry": [("key", 1, "string"), ("value", 2, "Tensor")],
    "PredictRequest": [("model_spec", 1, "ModelSpec"), ("inputs", 2, "Entry[]")],
    "PredictResponse": [("outputs", 1, "Entry[]"), ("model_spec", 2, "ModelSpec")],
    "StatusRequest": [("model_spec", 1, "ModelSpec")],
    "VersionStatus": [("version", 1, "int64"), ("state", 2, "int32")],
    "StatusResponse": [("model_version_status", 1, "VersionStatus[]")],
    "PredictLog": [("request", 1, "PredictRequest")],
    "PredictionLog": [("predict_log", 6, "PredictLog")],
}
_DT_FLOAT, _DT_INT32, _DT_STRING = 1, 3, 7
_NUMBERS = {_DT_FLOAT: (np.dtype("<f4"), "float_val"), _DT_INT32: (np.dtype("<i4"), "int_val")}


def message_classes(package: str, table: Mapping[str, list[tuple[str, int, str]]], *known: Any) -> dict[str, Any]:
    """Classes of messages in a pool of their own.

    Args:
        package: of the messages.
        table: message → fields as (name, number, type): a scalar, a message of the table, or one of a known file by
            its full name; `[]` stands for repeated.
        known: descriptors of other files whose messages the table names.
    """
    file = descriptor_pb2.FileDescriptorProto(name=package, package=package, syntax="proto3")
    file.dependency.extend(other.name for other in known)
    for message, fields in table.items():
        descriptor = file.message_type.add(name=message)
        for name, number, kind in fields:
            scalar, repeated = kind.removesuffix("[]"), kind.endswith("[]")
            field = descriptor.field.add(name=name, number=number, label=3 if repeated else 1)
            if scalar in table:
                field.type_name = f".{package}.{scalar}"
            elif "." in scalar:
                field.type_name = f".{scalar}"
            else:
                field.type = descriptor_pb2.FieldDescriptorProto.Type.Value(f"TYPE_{scalar.upper()}")
    pool = descriptor_pool.DescriptorPool()
    for other in known:
        pool.AddSerializedFile(other.serialized_pb)
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}")) for name in table}


_CLASS = message_classes(_PACKAGE, _MESSAGES)
PredictRequest, PredictResponse = _CLASS["PredictRequest"], _CLASS["PredictResponse"]
StatusRequest, StatusResponse = _CLASS["StatusRequest"], _CLASS["StatusResponse"]
PredictionLog = _CLASS["PredictionLog"]


def predict_request(
    model: str, signature: str, inputs: Mapping[str, np.ndarray], version: int | None = None, label: str = ""
) -> Any:
    """A PredictRequest.

    Args:
        model: name under which it is served.
        signature: of the export.
        inputs: name → array, as `to_tensor` takes them.
        version: number of the version; the newest by default.
        label: of the version, in place of its number.
    """
    request = PredictRequest(inputs=[{"key": name, "value": to_tensor(array)} for name, array in inputs.items()])
    set_model(request.model_spec, model, version, label)
    request.model_spec.signature_name = signature
    return request


def set_model(spec: Any, model: str, version: int | None, label: str) -> None:
    """Writes into a ModelSpec which model is meant, by number, by label, or the newest."""
    spec.name = model
    if version is not None:
        spec.version.value = version
    elif label:
        spec.version_label = label


def to_tensor(array: np.ndarray) -> Any:
    """A float32 or int32 array, or one of bytes objects, as a message."""
    shape = _CLASS["Shape"](dim=[{"size": size} for size in array.shape])
    if array.dtype == object:
        return _CLASS["Tensor"](dtype=_DT_STRING, shape=shape, string_val=array.ravel().tolist())
    for number, (dtype, _) in _NUMBERS.items():
        if array.dtype == dtype:
            return _CLASS["Tensor"](dtype=number, shape=shape, content=array.astype(dtype, copy=False).tobytes())
    raise TypeError(f"no message for an array of {array.dtype}")


def to_array(tensor: Any) -> np.ndarray:
    """A message as a float32 or int32 array, or as one of bytes objects.

    Servers send values either in one piece or one by one; a single one may stand for all, in which case the
    array shares it and takes no more memory, whatever its shape says.

    Raises:
        ValueError: where it holds something else, or not as much as its shape says.
    """
    shape = [dim.size for dim in tensor.shape.dim]
    if any(size < 0 for size in shape):
        raise ValueError(f"a tensor of shape {shape}")
    if tensor.dtype == _DT_STRING:
        if math.prod(shape) != len(tensor.string_val):
            raise ValueError(f"{len(tensor.string_val)} strings for a tensor of shape {shape}")
        return np.array(list(tensor.string_val), object).reshape(shape)
    if tensor.dtype not in _NUMBERS:
        raise ValueError(f"a tensor of data type {tensor.dtype}; expected floats, integers or strings")
    dtype, field = _NUMBERS[tensor.dtype]
    if tensor.content:
        return np.frombuffer(tensor.content, dtype).reshape(shape)
    values = np.array(getattr(tensor, field) or [0], dtype)
    return np.broadcast_to(values[0], shape) if len(values) == 1 else values.reshape(shape)
