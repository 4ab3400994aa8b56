"""Who is within, and whether more may come: what an orderly end waits for."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from grpc import StatusCode

from serving.server.errors import RequestError


class Gate:
    """Counts requests that are being answered, and once closed lets no more in."""

    def __init__(self) -> None:
        self._within = 0
        self._closed = False
        self._changed = threading.Condition()

    @property
    def is_open(self) -> bool:
        """Whether requests are let in."""
        return not self._closed

    @contextlib.contextmanager
    def passing(self) -> Iterator[None]:
        """Counts the block as a request. Raises RequestError where the gate is closed."""
        with self._changed:
            if self._closed:
                raise RequestError(StatusCode.UNAVAILABLE, "the server is being stopped")
            self._within += 1
        try:
            yield
        finally:
            with self._changed:
                self._within -= 1
                self._changed.notify_all()

    def close(self) -> None:
        """Lets no more in."""
        with self._changed:
            self._closed = True

    def wait_until_empty(self, seconds: float) -> bool:
        """Whether all who were within have left, for which it waits up to that long."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._within, seconds)
