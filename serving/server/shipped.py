"""The models that come with the library, exported once so that they can be served."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import keras
import tensorflow as tf

from musicnet_tf import export, files, inference
from musicnet_tf.errors import OutputError
from musicnet_tf.manifest import Manifest
from serving.server.settings import ModelConfig

VERSION = 1


def default_cache() -> Path:
    """Where exports are kept from one start to the next, as the XDG base directory specification has it."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "musicnet_tf" / "serving"


def shipped_models(cache: Path, report: Callable[[str], None]) -> tuple[ModelConfig, ...]:
    """Every shipped model, ready to be served under its own name; the first of a task under the task's, too.

    Args:
        cache: folder for exports; an export that is there and of the same model and library is taken as it is.
        report: is told what takes a while.

    Raises:
        ModelError: where a shipped model is damaged.
        OutputError: where the cache cannot be written to.
    """
    names = _default_first(inference.shipped())
    tasks: set[str] = set()
    configs = []
    for name, source in names.items():
        task = Manifest.read(source).task
        aliases = (task,) if task not in tasks | set(names) else ()
        tasks.add(task)
        configs.append(ModelConfig(name, _exported(name, source, cache, report), aliases=aliases))
    return tuple(configs)


def _default_first(names: dict[str, Path]) -> dict[str, Path]:
    return dict(sorted(names.items(), key=lambda item: item[0] not in inference.DEFAULT_MODELS.values()))


def _exported(name: str, source: Path, cache: Path, report: Callable[[str], None]) -> Path:
    folder = files.make_folder(cache / name / _digest(source))
    version = folder / str(VERSION)
    if not version.exists():
        report(f"exporting {name} into {folder}, once")
        try:
            export.export(name, folder, VERSION)
        except OutputError:
            if not version.exists():  # another server may have exported it meanwhile
                raise
    return folder


def _digest(source: Path) -> str:
    """Differs where the model, the library or TensorFlow does, so that no export outlives what made it."""
    digest = hashlib.sha256(f"{tf.__version__} {keras.__version__}".encode())
    library = Path(inference.__file__).parent
    for path in [*sorted(library.rglob("*.py")), *sorted(source.iterdir())]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]
