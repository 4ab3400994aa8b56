"""Trained models ready to run: shipped ones by name, run folders, and exported SavedModels."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from musicnet_tf.errors import ModelError
from musicnet_tf.manifest import Manifest
from musicnet_tf.registry import nearest

PRETRAINED = Path(__file__).parent / "pretrained"
DEFAULT_MODEL = "notes_harmonic_cnn"
SAVED_MODEL = "saved_model.pb"
ASSETS = "assets.extra"
"""Where TensorFlow Serving keeps what is not part of the graph; the manifest of an export lies there."""


@dataclasses.dataclass(frozen=True)
class Predictor:
    """A model in this process.

    Calling it takes float32 windows `(batch, window_length)` and gives head → float32 activations in
    [0, 1], `(batch, num_frames, num_classes)`.
    """

    manifest: Manifest
    run: Callable[[np.ndarray], dict[str, Any]]

    def __call__(self, windows: np.ndarray) -> dict[str, np.ndarray]:
        """Activations of a batch of windows."""
        return {head: np.asarray(values) for head, values in self.run(windows).items()}


def shipped() -> dict[str, Path]:
    """Name → folder of the models that come with the library."""
    return {path.parent.name: path.parent for path in sorted(PRETRAINED.glob("*/manifest.json"))}


def locate(model: str | Path) -> Path:
    """The folder of a model: a shipped one by name, a run folder, or a SavedModel or its parent of versions.

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
    versions = [path for path in folder.iterdir() if path.name.isdigit() and (path / SAVED_MODEL).exists()]
    return max(versions, key=lambda path: int(path.name)) if versions else folder


def load(model: str | Path = DEFAULT_MODEL) -> Predictor:
    """Loads a model for prediction; imports TensorFlow.

    Raises:
        ModelError: where it is missing, incomplete or damaged.
    """
    folder = locate(model)
    if (folder / SAVED_MODEL).exists():
        return _load_saved_model(folder)
    return _load_weights(folder)


def _load_weights(folder: Path) -> Predictor:
    import tensorflow as tf

    from musicnet_tf import trainer

    manifest, experiment, network = trainer.load_run(folder)
    heads = experiment.task.heads(manifest.geometry)

    @tf.function(
        input_signature=[tf.TensorSpec((None, manifest.geometry.window_length), tf.float32)], reduce_retracing=True
    )
    def run(windows: Any) -> dict[str, Any]:
        logits = network(windows, training=False)
        return experiment.task.activations({head: logits[head] for head in heads})

    return Predictor(manifest, run)


def _load_saved_model(folder: Path) -> Predictor:
    import tensorflow as tf

    manifest = Manifest.read(folder / ASSETS)
    try:
        loaded = tf.saved_model.load(str(folder))
        run = loaded.signatures["serving_default"]
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{folder}: not a SavedModel of this program ({error}); export the model again") from error
    return Predictor(manifest, lambda windows: run(tf.convert_to_tensor(windows, tf.float32)))
