"""Models in NumPy in the place where verbs load trained ones."""

from __future__ import annotations

import types
from collections.abc import Mapping

import pytest

import musicnet_tf
from musicnet_tf.errors import ModelError
from musicnet_tf.manifest import Manifest
from musicnet_tf.transcription import Predictor


def put(patch: pytest.MonkeyPatch, task: str, models: Mapping[str, Predictor]) -> list[tuple[str, str]]:
    """Lets `musicnet_tf.inference` know these models alone, the first as the task's default.

    Gives the names and runtimes of those that are loaded, as they are.
    """
    asked: list[tuple[str, str]] = []

    def read_manifest(name: str) -> Manifest:
        if name not in models:
            raise ModelError(f"{name}: no such model; choose from {', '.join(models)}")
        return models[name].manifest

    def load(name: str, runtime: str) -> Predictor:
        asked.append((name, runtime))
        return models[name]

    defaults = {task: next(iter(models))}
    inference = types.SimpleNamespace(read_manifest=read_manifest, load=load, DEFAULT_MODELS=defaults)
    patch.setattr(musicnet_tf, "inference", inference, raising=False)
    return asked
