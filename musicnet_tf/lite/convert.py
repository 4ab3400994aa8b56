"""Trained networks → TFLite files of built-in operations; needs TensorFlow.

Batch normalisation is folded into convolutions on the way. Where the network begins with
`LogFrequencySpectrogram`, the file takes its spectra, which are then computed by `spectra.py`; otherwise it takes
windows of the waveform.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from musicnet_tf import inference, runs
from musicnet_tf.errors import ConfigError
from musicnet_tf.lite.container import INPUT, Description, FrontEnd, LiteModel, Precision, sha256, write

if TYPE_CHECKING:
    import keras

    from musicnet_tf.config import Experiment
    from musicnet_tf.frontends import LogFrequencySpectrogram
    from musicnet_tf.manifest import Manifest


def write_model(
    folder: Path, manifest: Manifest, experiment: Experiment, network: keras.Model, precision: Precision, weights: Path
) -> None:
    """Writes `model.tflite` into a folder.

    Args:
        folder: where to; it is there.
        manifest: of the network, with the windows that it takes.
        experiment: that it is of.
        network: what to convert.
        precision: of the weights.
        weights: the file that they came from.

    Raises:
        ConfigError: where the network has an operation that TFLite lacks, or cannot have that precision.
        OutputError: where the file cannot be written.
    """
    layer = front_end_of(network)
    if precision == "int8" and layer is None:
        raise ConfigError(
            f"precision=int8: the front end of model {experiment.model.name!r} would be rounded with the rest, and"
            " its spectra span more than int8 holds; take float32"
        )
    model = convert(experiment, network, layer, precision)
    description = Description(
        precision=precision,
        spec=manifest.spec,
        front_end=layer
        and FrontEnd(hop_length=layer.hop_length, window_lengths=layer.window_lengths, floor_db=layer.floor_db),
        model_bytes=len(model),
        model_sha256=hashlib.sha256(model).hexdigest(),
        weights_sha256={weights.name: sha256(weights)},
        versions=runs.versions(),
    )
    write(folder / inference.LITE_MODEL, LiteModel(description, model, _filters(layer) if layer else {}))


def front_end_of(network: keras.Model) -> LogFrequencySpectrogram | None:
    """The layer that `spectra.py` can stand for, where nothing else reads the waveform."""
    from musicnet_tf.frontends import LogFrequencySpectrogram

    readers = [layer for layer in network.layers if any(source is network.inputs[0] for source in _inputs(layer))]
    return readers[0] if len(readers) == 1 and isinstance(readers[0], LogFrequencySpectrogram) else None


def convert(
    experiment: Experiment, network: keras.Model, layer: LogFrequencySpectrogram | None, precision: Precision
) -> bytes:
    """One window, or its spectra if `layer` is given, `(1, …)` → head → activations `(1, frames, classes)`."""
    import keras
    import tensorflow as tf
    from tensorflow.lite.python.convert_phase import ConverterError

    heard = keras.Model(layer.output, network.output) if layer else network
    forward, taken = inference.forward(experiment, heard), heard.inputs[0].shape[1:]
    served = tf.Module()
    served.weights_of_network = [variable.value for variable in heard.weights]
    served.run = tf.function(lambda values: forward(values), input_signature=[tf.TensorSpec((1, *taken), name=INPUT)])
    try:
        with tempfile.TemporaryDirectory() as folder:  # only from there, outputs keep their names
            tf.saved_model.save(served, folder, signatures=served.run)
            converter = tf.lite.TFLiteConverter.from_saved_model(folder)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
            if precision == "int8":
                converter.optimizations = [tf.lite.Optimize.DEFAULT]
            return converter.convert()
    except ConverterError as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), "no reason given").strip()
        raise ConfigError(
            f"model {experiment.model.name!r} has operations that TFLite lacks ({reason}); take --format=saved_model"
        ) from error


def _inputs(layer: keras.layers.Layer) -> list[object]:
    """The tensors that a layer of a functional network takes."""
    import keras

    return [] if isinstance(layer, keras.layers.InputLayer) else keras.tree.flatten(layer.input)


def _filters(layer: LogFrequencySpectrogram) -> dict[int, np.ndarray]:
    from musicnet_tf.frontends import log_frequency_filters

    return {
        length: log_frequency_filters(layer.sample_rate, length, layer.fmin, layer.bins_per_octave, layer.num_bins)
        for length in layer.window_lengths
    }
