"""A model on a server, for programs that run on asyncio: `serving.client` with `await`.

    async with await connect("grpc://localhost:8500/notes") as predictor:
        (await predictor(windows))["frame"]
        async for activations in predictor.map(batches): ...

Versions, restarts and errors are as told there.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable
from types import TracebackType
from typing import Any, Protocol, TypeVar

import numpy as np

from serving.address import Address
from serving.client import open_transport
from serving.connections import Shared
from serving.exchange import Conversation, Pause, Predict, Refusal, Steps, Versions
from serving.options import Options
from serving.session import Gathered, Heads, Remote, joined

T = TypeVar("T")


class AsyncTransport(Protocol):
    """A way to a server, for one event loop."""

    async def send(self, question: Predict | Versions, timeout: float) -> Any:
        """The answer to a question. Raises Refusal."""

    async def close(self) -> None: ...


_TRANSPORTS: Shared[AsyncTransport] = Shared()


class AsyncPredictor(Remote):
    """A model on a server. `connect` makes one; close it, or use it in an `async with`."""

    def __init__(self, address: Address, options: Options) -> None:
        """Prepares the connection; `connect` opens it."""
        super().__init__(address, options)
        self._key = (asyncio.get_running_loop(), address.scheme, address.target, options)
        self._closed = asyncio.Event()
        self._transport = _TRANSPORTS.acquire(self._key, lambda: _open_transport(address, options))

    async def __call__(self, windows: np.ndarray) -> Heads:
        """As `client.RemotePredictor.__call__`."""
        messages = ((message, False) for message in self._session.messages(windows))
        async with contextlib.aclosing(self._answered(_each(messages))) as answers:
            return joined([heads async for heads, _ in answers])

    async def map(self, batches: Iterable[np.ndarray] | AsyncIterable[np.ndarray]) -> AsyncIterator[Heads]:
        """As `client.RemotePredictor.map`; the batches may come asynchronously too."""
        gathered = Gathered()
        async with contextlib.aclosing(self._answered(self._split(batches))) as answers:
            async for heads, is_last in answers:
                for batch in gathered.add(heads, is_last):
                    yield batch

    async def renew(self) -> None:
        """As `client.RemotePredictor.renew`."""
        await self._run(self._session.open(self.options.total_timeout))

    async def close(self) -> None:
        """Lets go of the connection; messages in flight are given up."""
        if not self._closed.is_set():
            self._closed.set()
            if transport := _TRANSPORTS.release(self._key):
                await transport.close()

    async def __aenter__(self) -> AsyncPredictor:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _split(self, batches: Iterable[Any] | AsyncIterable[Any]) -> AsyncIterator[tuple[np.ndarray, bool]]:
        async for windows in _each(batches):
            for message in self._session.split([windows]):
                yield message

    async def _answered(
        self, messages: AsyncIterable[tuple[np.ndarray, bool]]
    ) -> AsyncGenerator[tuple[Heads, bool], None]:
        waiting: collections.deque[tuple[asyncio.Task[Heads], bool]] = collections.deque()
        self._check_open(self._closed.is_set())
        try:
            async for windows, is_last in messages:
                waiting.append((asyncio.create_task(self._run(self._session.activations(windows))), is_last))
                if len(waiting) == self.options.in_flight:
                    task, ended = waiting.popleft()
                    yield await task, ended
            while waiting:
                task, ended = waiting.popleft()
                yield await task, ended
        finally:
            for task, _ in waiting:
                task.cancel()
            await asyncio.gather(*(task for task, _ in waiting), return_exceptions=True)

    async def _run(self, steps: Steps[T]) -> T:
        """Carries out a conversation."""
        conversation = Conversation(steps)
        while step := conversation.step():
            self._check_open(self._closed.is_set())
            if isinstance(step, Pause):
                await asyncio.sleep(step.seconds)
                continue
            try:
                conversation.answer(await self._transport.send(*step))
            except Refusal as refusal:
                conversation.refuse(refusal)
        return conversation.outcome


async def connect(address: str, options: Options | None = None) -> AsyncPredictor:
    """A model on a server, as `client.connect`. Raises ServingError."""
    predictor = AsyncPredictor(Address.parse(address), options or Options())
    try:
        await predictor._run(predictor._session.open(predictor.options.connect_timeout))
    except BaseException:
        await predictor.close()
        raise
    return predictor


class _InThreads:
    """A transport of threads, for an event loop."""

    def __init__(self, address: Address, options: Options) -> None:
        self._transport = open_transport(address, options)

    async def send(self, question: Predict | Versions, timeout: float) -> Any:
        return await asyncio.to_thread(self._transport.send, question, timeout)

    async def close(self) -> None:
        self._transport.close()


def _open_transport(address: Address, options: Options) -> AsyncTransport:
    if address.is_rest:
        return _InThreads(address, options)
    from serving.grpc_transport import AsyncGrpcTransport

    return AsyncGrpcTransport(address, options)


async def _each(items: Iterable[Any] | AsyncIterable[Any]) -> AsyncIterator[Any]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
