"""Trained models ready to run: shipped ones by name, run folders, exported SavedModels and TFLite files."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from musicnet_tf.errors import ModelError
from musicnet_tf.manifest import Manifest
from musicnet_tf.registry import nearest

if TYPE_CHECKING:
    import keras

    from musicnet_tf.config import Experiment

PRETRAINED = Path(__file__).parent / "pretrained"
DEFAULT_MODELS = {"notes": "notes_harmonic_cnn", "beats": "beats_tcn", "tags": "tags_instruments"}
"""Task → the shipped model that is taken where nobody names one."""
DEFAULT_MODEL = DEFAULT_MODELS["notes"]
"""Of what is for notes, or for any task."""
SAVED_MODEL = "saved_model.pb"
WEIGHTS = "model.weights.h5"
"""Of a run or shipped model, as `runs.save_weights` writes them."""
LITE_MODEL = "model.tflite"
"""Of `lite/container.py`: the graph of an export without TensorFlow, or beside the weights of the same model."""
Runtime = Literal["auto", "tensorflow", "lite"]
"""What a model is run by: `lite` is the package ai-edge-litert, which takes files `LITE_MODEL` alone; `auto` is that
where there are both file and package, and else TensorFlow, which takes every form."""
ASSETS = "assets.extra"
"""Where TensorFlow Serving keeps what is not part of the graph; the manifest of an export lies there."""

SIGNATURE, WINDOWS = "serving_default", "windows"
"""Signature of an export, and its input: float32 `(batch, window_length)` → head → activations.

It has the name of the model's task, too, `notes`, `beats` or `tags`: whoever asks by that is refused by a model of
another task instead of being given activations that mean something else.
"""
DESCRIBE, EACH, MANIFEST = "describe", "each", "manifest"
"""Signature that gives the manifest: int32 `(batch,)` of any values → its JSON, a string for each.

There is a batch axis because a server that batches requests refuses inputs without one.
"""
WAV_SIGNATURE, WAV, NUM_FRAMES = "wav", "wav", "num_frames"
"""Signature that takes whole recordings, for callers who cut no windows.

Its input is string `(batch,)`, each the bytes of a 16-bit PCM WAV at the model's rate; channels are averaged. It gives
each head as float32 `(batch, most_frames, classes)`, frame `k` speaking for sample `k * hop_length`, zeros after the
end of the shorter ones, and int32 `(batch,)`, how many frames each recording has. A recording that is refused brings
down its batch, also where a server joined it with those of others.
"""
MAX_WAV_SECONDS, MAX_WAV_CHANNELS = 600, 8
"""Length and channels that a recording sent to it may have.

Longer ones go window by window, as `windowing.posteriorgrams` sends them, in memory that does not grow.
"""
MAX_WAV_BATCH_SECONDS = 1800
"""Length that all recordings of a batch may have together, each counted as the longest, as its answer has that size.

Otherwise one of ten minutes and 63 of a sample each would be answered with gigabytes of zeros. The bytes of all may be
those of the largest that may come alone.
"""
MAX_BATCH = 64
"""Windows or recordings in one request: `max_batch_size` of serving/batching.config, beyond which a server refuses."""


@dataclasses.dataclass(frozen=True)
class Predictor:
    """A model in this process.

    Calling it takes float32 windows `(batch, window_length)` and gives head → float32 activations in
    [0, 1], of a head `embedding` any numbers, `(batch, num_frames, num_classes)`.

    Attributes:
        manifest: of the model; its geometry is that of the windows that this takes.
        run: what is called with windows of that length.
        runtime: `tensorflow` or `lite`.
    """

    manifest: Manifest
    run: Callable[[np.ndarray], dict[str, Any]]
    runtime: str = "tensorflow"

    def __call__(self, windows: np.ndarray) -> dict[str, np.ndarray]:
        """Activations of a batch of windows. Raises ModelError where they are not of the model's length."""
        self.check(windows)
        return {head: np.asarray(values) for head, values in self.run(windows).items()}

    def check(self, windows: np.ndarray) -> None:
        """Raises ModelError where windows are not of the model's length."""
        expected = self.manifest.geometry.window_length
        if np.ndim(windows) != 2 or np.shape(windows)[1] != expected:
            raise ModelError(
                f"{self.manifest.name} takes windows of shape (batch, {expected}), got {np.shape(windows)}"
            )


def shipped() -> dict[str, Path]:
    """Name → folder of the models that come with the library."""
    return {path.parent.name: path.parent for path in sorted(PRETRAINED.glob("*/manifest.json"))}


def locate(model: str | Path) -> Path:
    """The folder of a model: a shipped one by name, a run folder, or an export or its parent of versions.

    Raises:
        ModelError: where there is no such folder; the message lists the shipped models.
    """
    names = shipped()
    if str(model) in names:
        return names[str(model)]
    folder = Path(model).expanduser()
    if not folder.is_dir():
        raise ModelError(
            f"{model}: no folder and no shipped model{nearest(str(model), names)};"
            f" shipped: {', '.join(names) or 'none'}"
        )
    versions = [path for path in folder.iterdir() if path.name.isdigit() and _holds_graph(path)]
    return max(versions, key=lambda path: int(path.name)) if versions else folder


def _holds_graph(folder: Path) -> bool:
    return (folder / SAVED_MODEL).exists() or (folder / LITE_MODEL).exists()


def is_export(folder: Path) -> bool:
    """Whether a folder holds a graph without the weights that it was made from."""
    return _holds_graph(folder) and not (folder / WEIGHTS).exists()


def read_manifest(model: str | Path = DEFAULT_MODEL) -> Manifest:
    """What a model says of itself, without loading it. Raises ModelError as `load` does."""
    folder = locate(model)
    return Manifest.read(folder / ASSETS if (folder / SAVED_MODEL).exists() else folder)


def load(model: str | Path = DEFAULT_MODEL, runtime: Runtime = "tensorflow") -> Predictor:
    """Loads a model for prediction.

    What it gives does not depend on the runtime, but for rounding where the file has the model's own precision; the
    length of the windows that it takes may.

    Args:
        model: as of `locate`.
        runtime: what runs it; TensorFlow is imported only where it is that.

    Raises:
        ModelError: where it is missing, incomplete or damaged, or not for that runtime.
    """
    folder = locate(model)
    if runtime != "tensorflow" and (light := _load_lite(folder, required=runtime == "lite")):
        return light
    if (folder / SAVED_MODEL).exists():
        return _load_saved_model(folder)
    if is_export(folder):
        return _load_lite_by_tensorflow(folder)
    return _load_weights(folder)


def _load_lite(folder: Path, required: bool) -> Predictor | None:
    """By the light runtime; None where file or package are missing and not required."""
    from musicnet_tf.lite import predictor

    interpreter = predictor.runtime()
    if interpreter and (folder / LITE_MODEL).exists():
        return predictor.load(folder, interpreter)
    if not required:
        return None
    if interpreter:
        raise ModelError(
            f"{folder}: holds no {LITE_MODEL}; make one by `musicnet export --format=tflite`, or take"
            " --runtime=tensorflow"
        )
    raise ModelError(
        "--runtime=lite needs the package ai-edge-litert: install musicnet_tf[lite]; or take --runtime=auto"
    )


def _load_lite_by_tensorflow(folder: Path) -> Predictor:
    import tensorflow as tf

    from musicnet_tf.lite import predictor

    return predictor.load(folder, tf.lite.Interpreter, "tensorflow")


def _load_weights(folder: Path) -> Predictor:
    import tensorflow as tf

    from musicnet_tf import runs

    manifest, experiment, network = runs.load(folder)
    windows = tf.TensorSpec((None, manifest.geometry.window_length), tf.float32)
    return Predictor(manifest, tf.function(forward(experiment, network), input_signature=[windows]))


def forward(experiment: Experiment, network: keras.Model) -> Callable[[Any], dict[str, Any]]:
    """What is run and what is served: windows `(batch, window_length)` → head of the task → activations."""
    heads = experiment.task.served(experiment.model.spec()).heads

    def run(windows: Any) -> dict[str, Any]:
        logits = network(windows, training=False)
        return experiment.task.activations({head: logits[head] for head in heads})

    return run


def _load_saved_model(folder: Path) -> Predictor:
    import tensorflow as tf

    manifest = Manifest.read(folder / ASSETS)
    try:
        loaded = tf.saved_model.load(str(folder))
        run = loaded.signatures[SIGNATURE]
        _, inputs = run.structured_input_signature
        if inputs[WINDOWS].shape.as_list() != [None, manifest.geometry.window_length]:
            raise ValueError(f"its windows have shape {inputs[WINDOWS].shape}, which its manifest does not tell")
    except (OSError, ValueError, LookupError, tf.errors.OpError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"{folder}: not a SavedModel of this program ({reason}); export the model again") from error

    def predict(windows: np.ndarray, loaded: Any = loaded) -> dict[str, Any]:
        return run(tf.convert_to_tensor(windows, tf.float32))  # `loaded` holds the variables of `run`

    return Predictor(manifest, predict)
