"""The books of a fault drill: which outputs were wanted, which came, and whether each came once and right."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import operator
import os
import threading
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

LOOK_SECONDS = 0.02


@dataclasses.dataclass(frozen=True)
class Count:
    """What became of outputs, in numbers.

    Attributes:
        wanted: how many there should be.
        lost: that did not come.
        duplicated: that came again, or that nobody wanted.
        wrong: that came and are not what the model in process gives.
    """

    wanted: int
    lost: int
    duplicated: int
    wrong: int

    @property
    def is_clean(self) -> bool:
        """Whether each came once and right."""
        return not (self.lost or self.duplicated or self.wrong)

    def __add__(self, other: Count) -> Count:
        return Count(*(a + b for a, b in zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)))


class Ledger:
    """Takes down outputs as they are asked for and as they come, from any thread."""

    def __init__(self, is_same: Callable[[Any, Any], bool] = operator.eq) -> None:
        """`is_same` tells whether an output, the first argument, is what was wanted, the second."""
        self._is_same = is_same
        self._wanted: dict[Hashable, Any] = {}
        self._came: collections.Counter[Hashable] = collections.Counter()
        self._wrong: set[Hashable] = set()
        self._lock = threading.Lock()

    def ask(self, key: Hashable, wanted: Any) -> None:
        """Notes that an output is wanted, and what it should be. Asking again changes that alone."""
        with self._lock:
            self._wanted[key] = wanted

    def take(self, key: Hashable, output: Any) -> None:
        """Notes that an output came."""
        with self._lock:
            wrong = key in self._wanted and not self._is_same(output, self._wanted[key])
            self._came[key] += 1
            if wrong:
                self._wrong.add(key)

    def count(self) -> Count:
        """What came so far, held to what was wanted."""
        with self._lock:
            lost = sum(key not in self._came for key in self._wanted)
            again = sum(times - (key in self._wanted) for key, times in self._came.items())
            return Count(len(self._wanted), lost, again, len(self._wrong))


def close(heads: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray]) -> bool:
    """Whether activations are the same, but for the order in which sums are taken in batches of another size."""
    return heads.keys() == wanted.keys() and all(
        heads[name].shape == wanted[name].shape and np.allclose(heads[name], wanted[name], rtol=0, atol=1e-4)
        for name in wanted
    )


class Folder:
    """Watches files being put into a folder, so that one which is put there twice does not look like one."""

    def __init__(self, folder: Path, suffix: str) -> None:
        self._folder, self._suffix = folder, suffix
        self._states: dict[str, set[tuple[int, int]]] = collections.defaultdict(set)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Folder:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._look()

    def num_files(self) -> int:
        """How many there have been."""
        return len(self._states)

    def put(self) -> dict[str, int]:
        """Name below the folder, without suffix → how often it was put there."""
        return {name: len(states) for name, states in self._states.items()}

    def account(self, wanted: Mapping[str, Any], is_same: Callable[[Any, Any], bool] = operator.eq) -> Count:
        """What is in the folder, as often as it was put there, held to name → bytes."""
        ledger = Ledger(is_same)
        for name, content in wanted.items():
            ledger.ask(name, content)
        for name, times in self.put().items():
            path = self._folder / f"{name}{self._suffix}"
            for _ in range(times if path.exists() else 0):
                ledger.take(name, path.read_bytes())
        return ledger.count()

    def _watch(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            self._look()

    def _look(self) -> None:
        """An output is a new file renamed into place: each has a number and a time of its own."""
        for place, folders, names in os.walk(self._folder):
            folders[:] = [name for name in folders if not name.startswith(".")]  # where work goes on, and vanishes
            for path in (Path(place, name) for name in names if name.endswith(self._suffix) and name[0] != "."):
                with contextlib.suppress(OSError):
                    stat = path.stat()
                    name = str(path.relative_to(self._folder).with_suffix(""))
                    self._states[name].add((stat.st_ino, stat.st_mtime_ns))
