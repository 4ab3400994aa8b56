"""One version of a model in memory: its signatures as the SavedModel tells them, and running them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from grpc import StatusCode
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import get_model_metadata_pb2

from musicnet_tf import inference
from musicnet_tf.errors import ModelError
from serving.server.errors import RequestError, invalid

Arrays = dict[str, np.ndarray]

DEFAULT_SIGNATURE = "serving_default"
_NODES = re.compile(r"\{\{.*?\}\}|\s*\[\[.*")
_STACK = ("Graph execution error", "Detected at node", "<stack traces", " ", "\t")
_CODES = {code.value[0]: code for code in StatusCode}  # TensorFlow numbers errors as gRPC does


@dataclasses.dataclass(frozen=True)
class TensorSpec:
    """Type and shape that a signature wants; None stands for a size, or a whole shape, that it leaves open."""

    dtype: tf.DType
    shape: tuple[int | None, ...] | None

    @classmethod
    def of(cls, info: Any) -> TensorSpec:
        """Of a `TensorInfo`."""
        shape = tuple(None if dim.size < 0 else dim.size for dim in info.tensor_shape.dim)
        return cls(tf.as_dtype(info.dtype), None if info.tensor_shape.unknown_rank else shape)

    @property
    def is_batch_of_rows(self) -> bool:
        """Whether only the number of rows is open, so that rows of several requests may be put together."""
        return bool(self.shape) and self.shape[0] is None and None not in self.shape[1:]  # type: ignore[index]


@dataclasses.dataclass(frozen=True)
class Signature:
    """A function of the model: names → what goes in and comes out."""

    name: str
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]

    @property
    def joins(self) -> bool:
        """Whether a batch of several requests gives to each what it would have got alone.

        Outputs of open length are padded to the longest of a batch, so those requests stay apart.
        """
        return bool(self.inputs) and all(
            spec.is_batch_of_rows for spec in (*self.inputs.values(), *self.outputs.values())
        )


class Servable:
    """A loaded SavedModel.

    Attributes:
        signatures: name → signature, of those that can be called.
        signature_defs: all of them as a `SignatureDefMap`, as GetModelMetadata gives them.
    """

    def __init__(self, folder: Path) -> None:
        """Loads it. Raises ModelError."""
        try:
            graph = saved_model_pb2.SavedModel.FromString((folder / inference.SAVED_MODEL).read_bytes())
            definitions = graph.meta_graphs[0].signature_def
            self._loaded = tf.saved_model.load(str(folder))  # holds the variables
            self._functions: Mapping[str, Callable[..., Mapping[str, Any]]] = dict(self._loaded.signatures)
        except (OSError, ValueError, LookupError, DecodeError, tf.errors.OpError, AttributeError) as error:
            raise ModelError(f"{folder}: not a SavedModel that can be loaded ({first_line(error)})") from error
        self.signature_defs = get_model_metadata_pb2.SignatureDefMap()
        for name, definition in definitions.items():
            self.signature_defs.signature_def[name].CopyFrom(definition)
        self.signatures = {
            name: Signature(
                name,
                {key: TensorSpec.of(info) for key, info in definition.inputs.items()},
                {key: TensorSpec.of(info) for key, info in definition.outputs.items()},
            )
            for name, definition in definitions.items()
            if name in self._functions
        }

    def signature(self, name: str) -> Signature:
        """The signature of that name, the default one for an empty name. Raises RequestError."""
        name = name or DEFAULT_SIGNATURE
        if name not in self.signatures:
            raise RequestError(StatusCode.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
        return self.signatures[name]

    def run(self, signature: Signature, inputs: Arrays) -> Arrays:
        """Calls a signature on arrays that fit it. Raises RequestError with the model's own complaint."""
        constants = {name: tf.constant(array, signature.inputs[name].dtype) for name, array in inputs.items()}
        try:
            outputs = self._functions[signature.name](**constants)
            return {name: tensor.numpy() for name, tensor in outputs.items()}
        except tf.errors.OpError as error:
            raise RequestError(_CODES.get(error.error_code, StatusCode.INTERNAL), first_line(error)) from error
        except UnicodeDecodeError as error:  # the complaint quotes bytes of the request, and Python cannot read it
            raise invalid("the model refuses the bytes that it was given") from error


def first_line(error: Exception) -> str:
    """What an error says, without the nodes, files and stacks that TensorFlow tells before and after it."""
    text = getattr(error, "message", None) or str(error)
    lines = [line for line in text.splitlines() if line and not line.startswith(_STACK)]
    return _NODES.sub("", lines[0]).strip() if lines else type(error).__name__
