"""A model on a TensorFlow Serving elsewhere, used as one in this process is.

    with connect("grpc://localhost:8500/notes") as predictor:
        predictor.manifest.geometry.window_length
        predictor(windows)["frame"]

The manifest comes from the model itself, so that a client holds no file and no constant of any model.
Nothing here imports TensorFlow. `serving.aio` has the same for asyncio.

**Versions.** A predictor stays with the version that it began with, as answers of two versions would not fit
together, and thresholds belong to one of them. Where the server has let that one go, it raises VersionGoneError:
`renew` takes up the version that the address means now, and the work on the recording begins again. A
server that keeps two versions (`serving/models.config`) rarely lets it come to that.

**Restarts.** A server that is away or full is asked again until `Options.total_timeout` is over. Nothing else
is: a refused message would be refused again, and after a timeout a second message would add to the load.
"""

from __future__ import annotations

import collections
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Protocol, TypeVar

import numpy as np

from serving.address import Address
from serving.connections import Shared
from serving.exchange import Conversation, Pause, Predict, Refusal, Steps, Versions
from serving.options import TIMEOUT, Options
from serving.session import Gathered, Heads, Remote, joined

__all__ = ["TIMEOUT", "Address", "Options", "RemotePredictor", "connect"]

T = TypeVar("T")


class Transport(Protocol):
    """A way to a server, for any number of threads."""

    def send(self, question: Predict | Versions, timeout: float) -> Any:
        """The answer to a question. Raises Refusal."""

    def close(self) -> None: ...


_TRANSPORTS: Shared[Transport] = Shared()


class RemotePredictor(Remote):
    """A model on a server, with the interface of `inference.Predictor`. Close it, or use it in a `with`.

    Any number of threads may call it.
    """

    def __init__(self, address: Address, options: Options) -> None:
        """Connects and fetches the manifest. Raises ServingError."""
        super().__init__(address, options)
        self._key = (address.scheme, address.target, options)
        self._closed = threading.Event()
        self._transport = _TRANSPORTS.acquire(self._key, lambda: open_transport(address, options))
        self._threads = ThreadPoolExecutor(options.in_flight, thread_name_prefix=str(address))
        try:
            self._run(self._session.open(options.connect_timeout))
        except BaseException:
            self.close()
            raise

    def __call__(self, windows: np.ndarray) -> Heads:
        """Activations of windows, `(batch, window_length)` → head → float32 `(batch, frames, classes)`.

        A large batch goes in several messages.

        Raises:
            VersionGoneError: where the version that this began with is there no longer.
            ServingError: where the windows do not fit the model, or the server refuses or does not answer.
        """
        messages = self._session.messages(windows)
        if len(messages) == 1:  # no other thread needs to be woken
            return self._run(self._session.activations(messages[0]))
        return joined([heads for heads, _ in self._answered((message, False) for message in messages)])

    def map(self, batches: Iterable[np.ndarray]) -> Iterator[Heads]:
        """Activations of each batch, in order, with up to `Options.in_flight` messages waiting for answers at once.

        Batches are taken as it goes: the first answer is given once so many messages are on their way. Whoever hears
        live calls the predictor batch by batch instead.

        Raises:
            ServingError: as a call does; nothing more is sent then.
        """
        gathered = Gathered()
        for heads, is_last in self._answered(self._session.split(batches)):
            yield from gathered.add(heads, is_last)

    def renew(self) -> None:
        """Takes up the version that the address, as it was given, means now. Its manifest may be another.

        Raises:
            ServingError: as `connect` does.
        """
        self._run(self._session.open(self.options.total_timeout))

    def close(self) -> None:
        """Lets go of the connection; messages in flight are given up."""
        if not self._closed.is_set():
            self._closed.set()
            if transport := _TRANSPORTS.release(self._key):
                transport.close()
            self._threads.shutdown(wait=False, cancel_futures=True)

    def __enter__(self) -> RemotePredictor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _answered(self, messages: Iterable[tuple[np.ndarray, bool]]) -> Iterator[tuple[Heads, bool]]:
        """The answers to messages, in order; what is told with a message comes with its answer."""
        waiting: collections.deque[tuple[Future[Heads], bool]] = collections.deque()
        self._check_open(self._closed.is_set())
        try:
            for windows, is_last in messages:
                waiting.append((self._threads.submit(self._run, self._session.activations(windows)), is_last))
                if len(waiting) == self.options.in_flight:
                    future, ended = waiting.popleft()
                    yield future.result(), ended
            while waiting:
                future, ended = waiting.popleft()
                yield future.result(), ended
        finally:
            for future, _ in waiting:
                future.cancel()

    def _run(self, steps: Steps[T]) -> T:
        """Carries out a conversation."""
        conversation = Conversation(steps)
        while step := conversation.step():
            self._check_open(self._closed.is_set())
            if isinstance(step, Pause):
                self._closed.wait(step.seconds)
                continue
            try:
                conversation.answer(self._transport.send(*step))
            except Refusal as refusal:
                conversation.refuse(refusal)
        return conversation.outcome


def connect(address: str, options: Options | None = None) -> RemotePredictor:
    """A model on a server.

    Args:
        address: `grpc://host[:port]/model`, or `grpcs://…`, `http://…`, `https://…`; `model@3` means version 3,
            `model:stable` the version of that label, and without either it is the newest.
        options: of the client; `Options()` by default.

    Raises:
        ServingError: where no server answers, it has no such model, or the model is none of this program.
    """
    return RemotePredictor(Address.parse(address), options or Options())


def open_transport(address: Address, options: Options) -> Transport:
    """The transport that an address asks for; imports its library, and not the other's. Raises ServingError."""
    if address.is_rest:
        from serving.rest import RestTransport

        return RestTransport(address, options)
    from serving.grpc_transport import GrpcTransport

    return GrpcTransport(address, options)
