"""A version's folder → a servable that has answered once, so that no client waits for what only the first call does."""

from __future__ import annotations

import itertools
from pathlib import Path

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import prediction_log_pb2

from musicnet_tf import inference
from musicnet_tf.errors import ModelError
from serving.server import tensors
from serving.server.errors import RequestError
from serving.server.servable import Servable, first_line

WARM_UP = "tf_serving_warmup_requests"
MAX_REQUESTS = 1000
"""As many as TensorFlow Serving takes."""


def load(folder: Path) -> Servable:
    """Loads a version and warms it up with the requests that it brings.

    Raises:
        ModelError: where it cannot be loaded, or does not answer its own requests.
    """
    servable = Servable(folder)
    path = folder / inference.ASSETS / WARM_UP
    if path.exists():
        _warm_up(servable, path)
    return servable


def _warm_up(servable: Servable, path: Path) -> None:
    try:
        for record in itertools.islice(tf.data.TFRecordDataset(str(path)).as_numpy_iterator(), MAX_REQUESTS):
            request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
            signature = servable.signature(request.model_spec.signature_name)
            servable.run(signature, tensors.decode(signature, request.inputs, max_rows=MAX_REQUESTS))
    except (RequestError, DecodeError, tf.errors.OpError) as error:
        raise ModelError(f"{path}: a request that the model does not answer ({first_line(error)})") from error
