"""The few messages of TensorFlow Serving's Predict that a client needs, without TensorFlow.

The stubs of tensorflow-serving-api import all of TensorFlow: 20 s and 560 MB on two busy cores, where this
client, which only sends and receives, takes 1.2 s and 70 MB. Messages are what their fields' numbers and
types are on the wire; these are taken from `tensorflow_serving/apis/{predict,model}.proto` and
`tensorflow/core/framework/{tensor,tensor_shape}.proto`. They live in a pool of their own, so that the full
ones can be imported beside them. A test holds them against the stubs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PREDICT = "/tensorflow.serving.PredictionService/Predict"

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
}
_DT_FLOAT, _DT_INT32, _DT_STRING = 1, 3, 7
_DTYPES = {"float32": _DT_FLOAT, "int32": _DT_INT32}


def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="predict", package=_PACKAGE, syntax="proto3")
    for message, fields in _MESSAGES.items():
        descriptor = file.message_type.add(name=message)
        for name, number, kind in fields:
            scalar, repeated = kind.removesuffix("[]"), kind.endswith("[]")
            field = descriptor.field.add(name=name, number=number, label=3 if repeated else 1)
            if scalar in _MESSAGES:
                field.type_name = f".{_PACKAGE}.{scalar}"
            else:
                field.type = descriptor_pb2.FieldDescriptorProto.Type.Value(f"TYPE_{scalar.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    find = pool.FindMessageTypeByName
    return {name: message_factory.GetMessageClass(find(f"{_PACKAGE}.{name}")) for name in _MESSAGES}


_CLASS = _classes()
PredictRequest, PredictResponse = _CLASS["PredictRequest"], _CLASS["PredictResponse"]


def to_tensor(array: np.ndarray) -> Any:
    """A float32 or int32 array as a message."""
    little_endian = array.astype(array.dtype.newbyteorder("<"), copy=False)
    shape = _CLASS["Shape"](dim=[{"size": size} for size in array.shape])
    return _CLASS["Tensor"](dtype=_DTYPES[array.dtype.name], shape=shape, content=little_endian.tobytes())


def to_array(tensor: Any) -> np.ndarray:
    """A message as a float32 array, or as one of bytes objects.

    Servers send values either in one piece or one by one; a single one may stand for all.

    Raises:
        ValueError: where it holds something else, or not as much as its shape says.
    """
    shape = [dim.size for dim in tensor.shape.dim]
    if tensor.dtype == _DT_STRING:
        return np.array(list(tensor.string_val), object).reshape(shape)
    if tensor.dtype != _DT_FLOAT:
        raise ValueError(f"a tensor of data type {tensor.dtype}; expected floats or strings")
    if tensor.content:
        return np.frombuffer(tensor.content, "<f4").astype(np.float32, copy=False).reshape(shape)
    values = np.array(tensor.float_val or [0.0], np.float32)
    return np.broadcast_to(values, shape) if len(values) == 1 else values.reshape(shape)
