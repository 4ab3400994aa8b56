"""A run folder and an export of it, small and untrained, for the tests that need a model: a pytest plugin."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Path]:
    """Makes a run folder: `make_run(folder)` of configs/tiny.yaml, `make_run(folder, config, *overrides)`."""
    return _make_run


def _make_run(folder: Path, config_file: str | Path = "tiny", *overrides: str) -> Path:
    """As training leaves it, with weights as drawn and normalisation that is no identity; a config by name or path."""
    import keras

    from musicnet_tf import config, runs
    from musicnet_tf.manifest import Manifest

    path = config_file if isinstance(config_file, Path) else ROOT / f"configs/{config_file}.yaml"
    experiment = config.load(path, overrides)
    keras.utils.set_random_seed(7)
    network = experiment.model.build()
    rng = np.random.default_rng(7)
    for variable in network.variables:
        if {"moving_mean", "moving_variance", "beta"} & set(variable.path.split("/")):
            variable.assign(variable.numpy() + rng.uniform(0.1, 0.5, variable.shape))
        elif variable.name == "kernel" and not np.any(variable):  # as linear layers on top begin
            variable.assign(rng.normal(0.0, 0.5, variable.shape))
    decoder = experiment.task.decoder_params()
    folder.mkdir(parents=True)
    network.save_weights(folder / runs.WEIGHTS)
    experiment.write(folder)
    Manifest(
        name=experiment.name,
        task=experiment.task.name,
        spec=experiment.task.served(experiment.model.spec()).to_dict(),
        decoder=decoder | {name: 0.37 for name in decoder if name == "onset_threshold"},
        experiment=experiment.model_dump(mode="json"),
        num_parameters=sum(int(np.prod(v.shape)) for v in network.trainable_variables),
        training_data=[{"corpus": "maps", "licence": "CC BY-NC-SA"}],
        licence="CC BY-NC-SA 4.0",
        scores={"maps/validation": {"onset/f1": 0.5}},
    ).write(folder)
    return folder


@pytest.fixture(scope="session")
def run_of() -> Callable[..., contextlib.AbstractContextManager[Path]]:
    """`run_of(family, folder, name, task)`: a run folder of a test's own family, which registries know within it."""
    return _run_of


@contextlib.contextmanager
def _run_of(family: type, folder: Path, name: str, task: dict[str, Any]) -> Iterator[Path]:
    from musicnet_tf import files
    from musicnet_tf.registry import MODELS

    with pytest.MonkeyPatch.context() as patched:
        MODELS.names()  # finds those of the program first
        patched.setitem(MODELS._classes, "own", family)
        patched.setattr(family, "name", "own")
        described = {"name": name, "task": task, "model": {"name": "own"}, "data": {"train": [{"records": "none"}]}}
        files.write_text(folder / "own.yaml", json.dumps(described))
        yield _make_run(folder / "run", folder / "own.yaml")


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained run of configs/tiny.yaml; not to be changed."""
    return _make_run(tmp_path_factory.mktemp("runs") / "tiny")


@pytest.fixture(scope="session")
def tiny_export(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Version 1 of its export; not to be changed."""
    from musicnet_tf import export

    return export.export(tiny_run, tmp_path_factory.mktemp("exported") / "tiny")


@pytest.fixture(scope="session")
def rising_tone() -> np.ndarray:
    """3.3 s of a rising tone in noise at 16 kHz, float32."""
    seconds = np.arange(int(3.3 * 16000)) / 16000
    tone = np.sin(2 * np.pi * (200 + 100 * seconds) * seconds)
    noise = np.random.default_rng(1).standard_normal(len(seconds))
    return (0.5 * tone + 0.01 * noise).astype(np.float32)
