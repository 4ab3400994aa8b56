"""Both ways of waiting for a server, behind one face."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from serving import aio, client
from serving.client import Options


class Awaited:
    """An asynchronous predictor, called as a synchronous one."""

    def __init__(self, predictor: aio.AsyncPredictor, runner: asyncio.Runner) -> None:
        self._predictor, self._runner = predictor, runner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._predictor, name)

    def __call__(self, windows: np.ndarray) -> dict[str, np.ndarray]:
        return self._runner.run(self._predictor(windows))

    def map(self, batches: Iterable[np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
        answers = self._predictor.map(batches)

        async def end() -> None:
            await answers.aclose()

        try:
            while True:
                yield self._runner.run(_next(answers))
        except StopAsyncIteration:
            return
        finally:
            self._runner.run(end())

    def renew(self) -> None:
        self._runner.run(self._predictor.renew())

    def close(self) -> None:
        self._runner.run(self._predictor.close())


async def _next(answers: Any) -> Any:
    return await answers.__anext__()


@contextlib.contextmanager
def by_asyncio(address: str, options: Options | None = None) -> Iterator[Awaited]:
    """`aio.connect`, in an event loop of its own."""
    with asyncio.Runner() as runner:
        predictor = Awaited(runner.run(aio.connect(address, options)), runner)
        try:
            yield predictor
        finally:
            predictor.close()


WAYS: dict[str, Callable[..., Any]] = {"threads": client.connect, "asyncio": by_asyncio}


def opened(connect, *args):
    """Connects and lets go again."""
    with connect(*args):
        pass
