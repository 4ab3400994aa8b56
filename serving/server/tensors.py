"""Tensors on the wire ↔ arrays that fit a signature.

Whoever sends a request is not trusted: types and shapes are compared with the signature, and sizes with what is
there, before anything is allocated. (In a `TensorProto` that holds fewer values than its shape says, the last one
stands for those that are left out, and zero for all: a few bytes may claim any size. Strings must all be there, as
one of many megabytes would otherwise be many.)
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from serving.server.errors import RequestError, invalid
from serving.server.servable import Arrays, Signature, TensorSpec

_MAX_REPEATED = 2**24
"""Elements of the largest tensor whose values may be left out."""
_MAX_DIMENSIONS = 254
"""As many as TensorFlow itself takes."""
_MAX_NAMES = 10
"""So many are told of inputs that are wrong."""
_FIELDS = {
    tf.float32: "float_val",
    tf.float64: "double_val",
    tf.int64: "int64_val",
    tf.bool: "bool_val",
    **dict.fromkeys([tf.int32, tf.int16, tf.int8, tf.uint8], "int_val"),
}


def check_names(signature: Signature, names: set[str]) -> None:
    """Raises RequestError where a request does not hold the signature's inputs and them alone."""
    wanted = set(signature.inputs)
    if names == wanted:
        return
    raise invalid(
        f"input size does not match signature: {len(names)}!={len(wanted)}"
        f" len({_named(names)}) != len({_named(wanted)})."
        f" Sent extra: {_named(names - wanted)}. Missing but required: {_named(wanted - names)}."
    )


def check_shape(name: str, spec: TensorSpec, shape: tuple[int, ...], max_rows: int) -> None:
    """Raises RequestError where an input has not the signature's shape, or too many rows for one request."""
    wanted = spec.shape
    if wanted is not None and (
        len(shape) != len(wanted)
        or any(size != want for size, want in zip(shape, wanted, strict=True) if want is not None)
    ):
        raise invalid(f"input {name!r} has shape {_listed(shape)}; the signature wants {_listed(wanted)}")
    if shape and shape[0] > max_rows:
        raise invalid(f"Task size {shape[0]} is larger than maximum input batch size {max_rows}")


def decode(signature: Signature, messages: Mapping[str, Any], max_rows: int) -> Arrays:
    """Inputs of a request (`TensorProto`s) as arrays; strings as an array of bytes objects.

    Raises:
        RequestError: where they are not what the signature wants, or more than `max_rows` in number.
    """
    check_names(signature, set(messages))
    return {name: _decode(name, spec, messages[name], max_rows) for name, spec in signature.inputs.items()}


def _decode(name: str, spec: TensorSpec, message: Any, max_rows: int) -> np.ndarray:
    if message.dtype != spec.dtype.as_datatype_enum:
        raise invalid(f"input {name!r} is of data type {_type_name(message.dtype)}; expected {spec.dtype.name}")
    if len(message.tensor_shape.dim) > _MAX_DIMENSIONS:
        raise invalid(f"input {name!r} has more than {_MAX_DIMENSIONS} dimensions")
    if message.tensor_shape.unknown_rank or any(dim.size < 0 for dim in message.tensor_shape.dim):
        raise invalid(f"input {name!r} does not say what shape it has")
    shape = tuple(dim.size for dim in message.tensor_shape.dim)
    check_shape(name, spec, shape, max_rows)
    size = math.prod(shape)
    content = message.tensor_content
    if content and spec.dtype != tf.string:
        item = np.dtype(spec.dtype.as_numpy_dtype).newbyteorder("<")
        if len(content) != size * item.itemsize:
            raise _wrong_size(name, shape, len(content), "bytes")
        return np.frombuffer(content, item).reshape(shape)
    return _from_values(name, spec, message, shape, size)


def _from_values(name: str, spec: TensorSpec, message: Any, shape: tuple[int, ...], size: int) -> np.ndarray:
    field = "string_val" if spec.dtype == tf.string else _FIELDS.get(spec.dtype)
    if field is None:
        raise invalid(f"input {name!r}: values of type {spec.dtype.name} must be sent as tensor_content")
    values = getattr(message, field)
    held, is_text = len(values), spec.dtype == tf.string
    if held > size or (held < size and (is_text or size > _MAX_REPEATED)):
        raise _wrong_size(name, shape, held, "values")
    array = np.empty(size, object if is_text else spec.dtype.as_numpy_dtype)
    array[:held] = list(values)
    array[held:] = values[-1] if held else 0
    return array.reshape(shape)


def encode(array: np.ndarray, message: Any) -> None:
    """Writes an array into a `TensorProto`, numbers in one piece: value by value takes a hundred times as long."""
    dtype = tf.string if array.dtype == object else tf.as_dtype(array.dtype)
    message.dtype = dtype.as_datatype_enum
    for size in array.shape:
        message.tensor_shape.dim.add(size=size)
    if dtype == tf.string:
        message.string_val.extend(array.ravel().tolist())
    else:
        message.tensor_content = np.ascontiguousarray(array).tobytes()


def check_filter(signature: Signature, output_filter: Sequence[str]) -> None:
    """Raises RequestError where a wanted output is not there, or wanted twice."""
    for index, name in enumerate(output_filter):
        if name not in signature.outputs:
            raise invalid(
                f"output tensor alias not found in signature: {name}"
                f" Outputs expected to be in the set {{{','.join(sorted(signature.outputs))}}}."
            )
        if name in output_filter[:index]:
            raise invalid(f"duplicate output tensor alias: {name}")


def _named(names: set[str]) -> str:
    listed = ",".join(heapq.nsmallest(_MAX_NAMES, names))
    return f"{{{listed}{',…' if len(names) > _MAX_NAMES else ''}}}"


def _wrong_size(name: str, shape: tuple[int, ...], held: int, what: str) -> RequestError:
    return invalid(f"input {name!r} says shape {_listed(shape)} but holds {held} {what}")


def _listed(shape: tuple[int | None, ...]) -> str:
    return f"[{', '.join('?' if size is None else str(size) for size in shape)}]"


def _type_name(number: int) -> str:
    try:
        return tf.as_dtype(number).name
    except TypeError:
        return str(number)
