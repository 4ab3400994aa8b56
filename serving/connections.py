"""Connections that all clients of a process share."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Shared(Generic[T]):
    """What is made once for a key, used by several, and given back when the last has let go.

    A process that was forked makes its own: connections do not live in two processes.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[Hashable, tuple[T, int]] = {}

    def acquire(self, key: Hashable, make: Callable[[], T]) -> T:
        """What there is for the key, made if need be. `release` it."""
        key = (os.getpid(), key)
        with self._lock:
            if key not in self._held:
                self._held[key] = (make(), 0)
            value, users = self._held[key]
            self._held[key] = (value, users + 1)
            return value

    def release(self, key: Hashable) -> T | None:
        """Lets go; gives what is to be closed, where nobody else uses it."""
        key = (os.getpid(), key)
        with self._lock:
            if key not in self._held:
                return None
            value, users = self._held[key]
            if users > 1:
                self._held[key] = (value, users - 1)
                return None
            del self._held[key]
            return value
