"""TensorFlow Serving's JSON ↔ arrays that fit a signature.

In row format a request is `{"instances": [row, …]}` and its answer `{"predictions": [row, …]}`; in column format
`{"inputs": …}` and `{"outputs": …}`. Where there are several inputs or outputs, rows or columns are objects by name.
Bytes are `{"b64": "…"}`. Source: https://www.tensorflow.org/tfx/serving/api_rest
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import itertools
import json
import math
from typing import Any

import numpy as np
import tensorflow as tf

from serving.server import tensors
from serving.server.errors import invalid
from serving.server.servable import Arrays, Signature, TensorSpec

_MAX_NESTING = 16
_MAX_PARTS = 2**19
"""Lists, objects and texts of a request: each takes fifty bytes or more in memory, and two in JSON."""
_BYTES_SUFFIX = "_bytes"
"""Outputs of such a name are bytes, others text."""


@dataclasses.dataclass
class PredictBody:
    """The body of a request, read but not yet compared with a signature.

    Attributes:
        signature_name: empty for the default one.
        in_rows: whether it is in row format; its answer is then, too.
        values: what it holds of inputs, until they are taken.
    """

    signature_name: str
    in_rows: bool
    values: Any

    @classmethod
    def parse(cls, body: bytes) -> PredictBody:
        """Raises RequestError where it is no JSON of this form."""
        if sum(body.count(begin) for begin in (b"[", b"{", b'"')) > _MAX_PARTS:
            raise invalid(f"JSON of more than {_MAX_PARTS} lists, objects and texts")
        try:
            fields = json.loads(body.decode())  # or it would guess at encodings
        except RecursionError:
            raise invalid("JSON Parse error: nested too deeply") from None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise invalid(f"JSON Parse error: {error}") from None
        except ValueError:
            raise invalid("JSON Parse error: a number has thousands of digits") from None
        if not isinstance(fields, dict):
            raise invalid("JSON Value: Is not object")
        name = fields.get("signature_name", "")
        if not isinstance(name, str):
            raise invalid("'signature_name' key must be a string value.")
        given = {"instances", "inputs"} & set(fields)
        if len(given) != 1:
            reason = "expecting only one of" if given else "Missing"
            raise invalid(f"{reason} 'inputs' or 'instances' key")
        in_rows = given == {"instances"}
        values = fields["instances" if in_rows else "inputs"]
        if in_rows and not (isinstance(values, list) and values):
            raise invalid("Expecting 'instances' to be a list of at least one value")
        return cls(name, in_rows, values)

    def take(self, signature: Signature, max_rows: int) -> Arrays:
        """Inputs for a signature, once. Raises RequestError where they are not what it wants, or too many."""
        columns = self._from_rows(signature) if self.in_rows else self._columns(signature)
        self.values = None
        tensors.check_names(signature, set(columns))
        arrays = {name: _array(name, spec, columns[name]) for name, spec in signature.inputs.items()}
        for name, spec in signature.inputs.items():
            tensors.check_shape(name, spec, arrays[name].shape, max_rows)
        return arrays

    def _columns(self, signature: Signature) -> dict[str, Any]:
        return self.values if _is_named(self.values) else _unnamed(signature, self.values)

    def _from_rows(self, signature: Signature) -> dict[str, Any]:
        rows = self.values
        if not any(map(_is_named, rows)):
            return _unnamed(signature, rows)
        if not all(_is_named(row) and row.keys() == rows[0].keys() for row in rows):
            raise invalid("all of 'instances' must be objects with the same keys, or none")
        return {name: [row[name] for row in rows] for name in rows[0]}


def dumps(outputs: Arrays, in_rows: bool) -> bytes:
    """An answer as JSON, in the format of its request. Raises RequestError where outputs have no rows in common."""
    columns = {name: _plain(name, array) for name, array in outputs.items()}
    if not in_rows:
        return _json({"outputs": columns if len(columns) > 1 else next(iter(columns.values()))})
    if len({array.shape[:1] for array in outputs.values()}) != 1 or not next(iter(outputs.values())).shape:
        raise invalid("outputs have no rows in common; ask for them by 'inputs' instead of 'instances'")
    if len(columns) == 1:
        return _json({"predictions": next(iter(columns.values()))})
    return _json({"predictions": [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]})


def error(message: str) -> bytes:
    """An error as JSON."""
    return _json({"error": message})


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def _is_bytes(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"b64"} and isinstance(value["b64"], str)


def _is_named(value: Any) -> bool:
    return isinstance(value, dict) and not _is_bytes(value)


def _unnamed(signature: Signature, values: Any) -> dict[str, Any]:
    if len(signature.inputs) != 1:
        raise invalid(f"inputs must be objects by name, as there are several: {', '.join(sorted(signature.inputs))}")
    return {next(iter(signature.inputs)): values}


def _array(name: str, spec: TensorSpec, value: Any) -> np.ndarray:
    shape, leaves = _flattened(name, value)
    if spec.dtype == tf.string:
        array = np.empty(len(leaves), object)
        array[:] = [_bytes(name, leaf) for leaf in leaves]
        return array.reshape(shape)
    allowed = {bool} if spec.dtype == tf.bool else {int} if spec.dtype.is_integer else {int, float}
    if wrong := set(map(type, leaves)) - allowed:
        kinds = ", ".join(sorted(kind.__name__ for kind in wrong))
        raise invalid(f"input {name!r}: JSON values of type {kinds} are not of expected type: {spec.dtype.name}")
    if spec.dtype != tf.bool and any(not spec.dtype.min <= leaf <= spec.dtype.max for leaf in _extremes(leaves)):
        raise invalid(f"input {name!r}: a value is too large for {spec.dtype.name}")
    return np.array(leaves, spec.dtype.as_numpy_dtype).reshape(shape)


def _extremes(numbers: list[Any]) -> list[Any]:
    """The least and the largest of the finite numbers."""
    finite = [number for number in numbers if isinstance(number, int) or math.isfinite(number)]
    return [min(finite), max(finite)] if finite else []


def _flattened(name: str, value: Any) -> tuple[tuple[int, ...], list[Any]]:
    """Shape and values of nested lists, which must be of equal lengths."""
    shape: list[int] = []
    level = [value]
    while level and isinstance(level[0], list):
        size = len(level[0])
        if any(not isinstance(item, list) or len(item) != size for item in level):
            raise invalid(f"input {name!r}: lists at depth {len(shape) + 1} differ in length")
        shape.append(size)
        if len(shape) > _MAX_NESTING:
            raise invalid(f"input {name!r}: nested too deeply")
        level = list(itertools.chain.from_iterable(level))
    return tuple(shape), level


def _bytes(name: str, leaf: Any) -> bytes:
    if isinstance(leaf, str):
        return leaf.encode("utf-8", "surrogatepass")
    if not _is_bytes(leaf):
        raise invalid(f"input {name!r}: a value is neither text nor an object of 'b64'")
    try:
        return base64.b64decode(leaf["b64"], validate=True)
    except (binascii.Error, ValueError):
        raise invalid("Unable to base64 decode") from None


def _plain(name: str, array: np.ndarray) -> Any:
    if array.dtype != object:
        return array.tolist()
    as_bytes = name.endswith(_BYTES_SUFFIX)
    told = np.empty(array.shape, object)
    for index, value in np.ndenumerate(array):
        told[index] = {"b64": base64.b64encode(value).decode()} if as_bytes else value.decode("utf-8", "replace")
    return told.tolist()
