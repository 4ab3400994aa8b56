"""What a request asks for, whether it came over gRPC or REST, and how it is answered."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future

from grpc import StatusCode

from serving.server import errors, tensors
from serving.server.errors import RequestError
from serving.server.gate import Gate
from serving.server.metrics import Metrics
from serving.server.models import Models
from serving.server.scheduler import Scheduler
from serving.server.servable import Arrays, Signature


@dataclasses.dataclass(frozen=True)
class Target:
    """What a request is addressed to. Version and label are not given together; without both, the newest."""

    model: str
    version: int | None = None
    label: str | None = None


@dataclasses.dataclass(frozen=True)
class Answer:
    """Outputs, and who gave them."""

    version: int
    signature: str
    outputs: Arrays


class Requests:
    """Answers requests, counts them, and knows how many are being answered.

    Attributes:
        models: what can be asked.
        gate: closed when the server is being stopped.
        max_rows: the most windows that one request may hold.
    """

    def __init__(self, models: Models, scheduler: Scheduler, metrics: Metrics, max_rows: int) -> None:
        self.models = models
        self.gate = Gate()
        self.max_rows = max_rows
        self._scheduler = scheduler
        self._metrics = metrics

    @contextlib.contextmanager
    def answering(self, model: str, method: str, entrypoint: str) -> Iterator[None]:
        """Counts the block as one request; whatever goes wrong in it becomes a RequestError."""
        begun, code = time.monotonic(), StatusCode.OK
        known = model if model in self.models.names() else ""
        try:
            with self.gate.passing():
                if not model:
                    raise errors.invalid("ModelSpec has no name specified.")
                yield
        except Exception as error:
            told = errors.of(error)
            code = told.code
            raise told from error
        finally:
            self._metrics.requests.labels(known, method, entrypoint, code.name).inc()
            self._metrics.request_seconds.labels(known, method, entrypoint).observe(time.monotonic() - begun)

    def predict(
        self,
        target: Target,
        signature_name: str,
        read_inputs: Callable[[Signature], Arrays],
        deadline: float,
        output_filter: Sequence[str] = (),
        on_queued: Callable[[Future[Arrays]], None] | None = None,
    ) -> Answer:
        """Runs a signature of a model.

        Args:
            target: which version of which model.
            signature_name: of it; empty for the default.
            read_inputs: gives what the request holds, checked against the signature.
            deadline: on the monotonic clock, in seconds.
            output_filter: outputs that are wanted; all, where it is empty.
            on_queued: is given the request's future, which it may cancel.

        Raises:
            RequestError: where the request cannot be answered.
        """
        with self.models.acquire(target.model, target.version, target.label) as (version, servable):
            signature = servable.signature(signature_name)
            tensors.check_filter(signature, output_filter)
            future = self._scheduler.submit(servable, signature, read_inputs(signature), deadline)
            if on_queued:
                on_queued(future)
            outputs = _result(future, deadline)
        return Answer(version, signature.name, {name: outputs[name] for name in output_filter or outputs})


def _result(future: Future[Arrays], deadline: float) -> Arrays:
    try:
        return future.result(max(0.0, deadline - time.monotonic()))
    except TimeoutError:
        future.cancel()  # of no effect once it runs
        raise RequestError(StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded") from None
    except CancelledError:
        raise RequestError(StatusCode.CANCELLED, "the client has gone") from None
