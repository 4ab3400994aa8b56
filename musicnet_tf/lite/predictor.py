"""A TFLite file as a predictor: windows side by side, each on a core of its own."""

from __future__ import annotations

import collections
import dataclasses
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import numpy as np

from musicnet_tf import inference
from musicnet_tf.errors import ModelError
from musicnet_tf.lite.container import INPUT, LiteModel, read, sha256
from musicnet_tf.lite.spectra import Spectra
from musicnet_tf.manifest import Manifest
from musicnet_tf.models import ModelSpec

Heard = dict[str, np.ndarray]
"""Head → activations of one window, float32 `(num_frames, num_classes)`."""


@dataclasses.dataclass(frozen=True)
class LitePredictor(inference.Predictor):
    """A TFLite model in this process; each window is heard by one core, as many at once as there are cores."""

    pool: _Pool = dataclasses.field(kw_only=True)

    def map(self, batches: Iterable[np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
        """As calling it with one batch after the other; the next one is heard while the caller works on this one."""
        waiting: collections.deque[list[futures.Future[Heard]]] = collections.deque()
        for batch in batches:
            self.check(batch)
            waiting.append(self.pool.submit(batch))
            if len(waiting) > 1:
                yield self.pool.gather(waiting.popleft())
        while waiting:
            yield self.pool.gather(waiting.popleft())


def runtime() -> Callable[..., Any] | None:
    """The light runtime's interpreter, or None where it is not installed."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        return None
    return Interpreter


def load(folder: Path, interpreter: Callable[..., Any], name: str = "lite") -> LitePredictor:
    """The model of a folder with `model.tflite` and a manifest.

    Args:
        folder: of an export or a shipped model.
        interpreter: class of the light runtime, or of TensorFlow, which runs the same files.
        name: of the runtime, as `Predictor.runtime` tells it.

    Raises:
        ModelError: where the file or its manifest is missing or damaged, or made from other weights than lie there.
    """
    path = folder / inference.LITE_MODEL
    manifest, contents = Manifest.read(folder), read(path)
    spec = ModelSpec.from_dict(contents.description.spec)
    if (spec.clock, spec.heads) != (manifest.geometry.clock, manifest.geometry.heads):
        raise ModelError(f"{path}: has another clock or other heads than {folder / 'manifest.json'}; export it again")
    for weights, checksum in contents.description.weights_sha256.items():
        if (folder / weights).exists() and sha256(folder / weights) != checksum:
            raise ModelError(f"{path}: was made from other weights than {folder / weights}; export the model again")
    pool = _Pool(contents, spec, interpreter)
    try:
        pool.check()
    except (ValueError, RuntimeError, LookupError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"{path}: cannot be run by {interpreter.__module__} ({reason}); export it again") from error
    fitting = manifest.model_copy(update={"spec": contents.description.spec})
    return LitePredictor(fitting, pool, name, pool=pool)


class _Pool:
    """Interpreters of one model, one a thread; each takes a window at a time."""

    def __init__(self, contents: LiteModel, spec: ModelSpec, interpreter: Callable[..., Any]) -> None:
        front_end = contents.description.front_end
        self._spec = spec
        self._features = Spectra(front_end, contents.filters, spec.num_frames) if front_end else np.asarray
        self._make = lambda: interpreter(model_content=contents.model, num_threads=1)
        self._of_thread = threading.local()
        self._threads = futures.ThreadPoolExecutor(len(os.sched_getaffinity(0)), "lite")

    def __call__(self, windows: np.ndarray) -> dict[str, np.ndarray]:
        """`(batch, window_length)` → head → `(batch, num_frames, num_classes)`."""
        return self.gather(self.submit(windows))

    def check(self) -> None:
        """Makes a first interpreter. Raises ValueError, RuntimeError or LookupError where the model is of no use."""
        given = self._threads.submit(self._runner).result().get_output_details()
        for head, promised in self._spec.heads.items():
            shape = (1, self._spec.num_frames, promised.num_classes)
            if tuple(given[head]["shape"]) != shape:
                raise ValueError(f"head {head!r} has shape {tuple(given[head]['shape'])}, not {shape}")

    def submit(self, windows: np.ndarray) -> list[futures.Future[Heard]]:
        return [self._threads.submit(self._hear, np.asarray(window, np.float32)) for window in windows]

    def gather(self, heard: list[futures.Future[Heard]]) -> dict[str, np.ndarray]:
        parts = [future.result() for future in heard]
        return {
            head: np.stack([part[head] for part in parts])
            if parts
            else np.zeros((0, self._spec.num_frames, promised.num_classes), np.float32)
            for head, promised in self._spec.heads.items()
        }

    def _hear(self, window: np.ndarray) -> Heard:
        outputs = self._runner()(**{INPUT: self._features(window)[None]})
        return {head: np.array(outputs[head][0]) for head in self._spec.heads}

    def _runner(self) -> Any:
        """The interpreter of this thread."""
        runner = getattr(self._of_thread, "runner", None)
        if runner is None:
            runner = self._of_thread.runner = self._make().get_signature_runner()
        return runner
