"""What tests give the bulk job as its model: importable and quick to import, by whatever process works."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from musicnet_tf.errors import ServingError, VersionGoneError
from musicnet_tf.manifest import Manifest
from musicnet_tf.models import HeadSpec, ModelSpec
from musicnet_tf.timebase import FrameClock

RATE, HOP, FRAMES = 8000, 80, 100
SPEC = ModelSpec(
    clock=FrameClock(RATE, HOP, origin=HOP // 2),
    window_length=FRAMES * HOP,
    num_frames=FRAMES,
    margin=0,
    heads={"frame": HeadSpec(4, 60)},
)
MANIFEST = Manifest(name="levels", task="notes", spec=SPEC.to_dict(), decoder={"frame_threshold": 0.5})

calls: list[str] = []
"""What happened in this process: `open`, and `window` for each batch."""


class Levels:
    """Pitch 60 sounds in frames louder than 0.1, 61 above 0.2, and so on to 63."""

    manifest = MANIFEST

    def __call__(self, windows):
        calls.append("window")
        level = np.sqrt((windows.reshape(len(windows), FRAMES, HOP) ** 2).mean(axis=2))
        return {"frame": (level[:, :, np.newaxis] > np.arange(1, 5) / 10).astype(np.float32)}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def levels():
    calls.append("open")
    return Levels()


class _Failing(Levels):
    """Raises what `fault` makes, once each time that the countdown in a file ends."""

    def __init__(self, fault, countdowns):
        self._fault, self._countdowns = fault, countdowns

    def __call__(self, windows):
        left = [int(word) for word in self._countdowns.read_text().split()]
        if left and left[0] == 0:
            self._countdowns.write_text(" ".join(map(str, left[1:])))
            raise self._fault()
        self._countdowns.write_text(" ".join(map(str, [left[0] - 1, *left[1:]] if left else [])))
        return super().__call__(windows)


def _open_failing(kind, countdowns):
    calls.append("open")
    faults = {
        "gone": lambda: VersionGoneError("grpc://host:8500/levels@1: the server has let this version go"),
        "refused": lambda: ServingError("grpc://host:8500/levels: the server refused"),
        "away": lambda: ServingError("grpc://host:8500/levels: no server answers there"),
        "fault": lambda: KeyError("no such thing"),
    }
    if kind == "away" and countdowns.read_text().startswith("0"):
        raise faults[kind]()
    return _Failing(faults[kind], countdowns)


def failing(kind: str, countdowns: Path, batches: list[int]):
    """A model that fails after so many batches, and again after so many more."""
    countdowns.write_text(" ".join(map(str, batches)))
    return functools.partial(_open_failing, kind, countdowns)


class _Stopping(Levels):
    """Tells in a file that the `number`-th recording has begun, and waits to be killed."""

    def __init__(self, number, told):
        self._left, self._told = number, told

    def __call__(self, windows):
        self._left -= 1
        if not self._left and not self._told.exists():
            self._told.write_text(str(os.getpid()))
            threading.Event().wait()
        return super().__call__(windows)


def stopping(number: int, told: Path):
    return functools.partial(_Stopping, number, told)


def write_levels(path: Path, levels: list[float], seconds: float = 0.5) -> Path:
    """A recording of so many levels, each for so long."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.repeat(np.asarray(levels, np.float32), round(seconds * RATE))
    samples[1::2] *= -1
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    return path


hooks: dict[str, Callable[[], None]] = {}
"""Called before each batch by the models that `watched` opens, in this process alone."""


class _Watched:
    def __init__(self, predictor, hook):
        self.manifest, self._predictor, self._hook = predictor.manifest, predictor, hook

    def __call__(self, windows):
        hooks[self._hook]()
        return self._predictor(windows)


def _open_watched(open_predictor, hook):
    calls.append("open")
    return _Watched(open_predictor(), hook)


def watched(open_predictor, hook: str):
    """A model as it is opened, with a hook."""
    return functools.partial(_open_watched, open_predictor, hook)
