"""Requests that TensorFlow Serving answers to itself when it loads an export, so that no caller pays for first times.

https://www.tensorflow.org/tfx/serving/saved_model_warmup tells of file and format.
"""

from __future__ import annotations

import io
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from musicnet_tf import inference, messages, windowing
from musicnet_tf.manifest import Manifest
from musicnet_tf.models import ModelSpec

FILENAME = "tf_serving_warmup_requests"


def write(assets: Path, manifest: Manifest) -> None:
    """Writes the requests of a model into the `assets.extra/` of its export: a TFRecord of PredictionLog."""
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(assets / FILENAME)) as writer:
        for request in requests(manifest):
            writer.write(messages.PredictionLog(predict_log={"request": request}).SerializeToString())


def requests(manifest: Manifest) -> Iterator[Any]:
    """PredictRequests to every signature; they name no model, as the server knows whose they are.

    Of windows, one goes alone, and then as many as `windowing` hands over at once: taking memory for them makes the
    first such request last three times as long as the next. A server that joins fewer (`max_batch_size`) would refuse
    this one, and with it the model; hence no more than what our configuration joins. One window is enough for the
    signature with the task's name, which runs the same.
    """
    spec = manifest.geometry
    yield messages.predict_request("", inference.DESCRIBE, {inference.EACH: np.zeros(1, np.int32)})
    for count in sorted({1, min(windowing.default_batch_size(spec), inference.MAX_BATCH)}):
        yield _silent_windows(inference.SIGNATURE, count, spec)
    yield _silent_windows(manifest.task, 1, spec)
    yield messages.predict_request("", inference.WAV_SIGNATURE, {inference.WAV: np.array([_silent_wav(spec)], object)})


def _silent_windows(signature: str, count: int, spec: ModelSpec) -> Any:
    windows = np.zeros((0, spec.window_length), np.float32)
    request = messages.predict_request("", signature, {inference.WINDOWS: windows})
    request.inputs[0].value.shape.dim[0].size = count  # a tensor without values is one of zeros, and takes no room
    return request


def _silent_wav(spec: ModelSpec) -> bytes:
    """As long as one window."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((1, 2, spec.clock.sample_rate, 0, "NONE", ""))
        file.writeframes(bytes(2 * spec.window_length))
    return buffer.getvalue()
