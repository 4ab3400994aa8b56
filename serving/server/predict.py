"""What a request to a model asks for, whether it came over gRPC or REST, and how it is answered."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future

from grpc import StatusCode

from serving.server import tensors
from serving.server.errors import RequestError, invalid
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


class Predictions:
    """Answers requests for predictions."""

    def __init__(self, models: Models, scheduler: Scheduler, max_rows: int) -> None:
        self.models = models
        self.max_rows = max_rows
        self._scheduler = scheduler

    def predict(
        self,
        target: Target,
        signature_name: str,
        read_inputs: Callable[[Signature], Arrays],
        output_filter: list[str],
        deadline: float,
        on_queued: Callable[[Future[Arrays]], None] | None = None,
    ) -> Answer:
        """Runs a signature of a model.

        Args:
            target: which version of which model.
            signature_name: of it; empty for the default.
            read_inputs: gives what the request holds, checked against the signature.
            output_filter: outputs that are wanted; all, where it is empty.
            deadline: on the monotonic clock, in seconds.
            on_queued: is given the request's future, which it may cancel.

        Raises:
            RequestError: where the request cannot be answered.
        """
        if not target.model:
            raise invalid("ModelSpec has no name specified.")
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
        left = deadline - time.monotonic()
        try:
            return future.result(min(left, 1e6))
        except TimeoutError:
            if future.cancel():
                raise RequestError(StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded") from None
            return future.result()  # it is running: the version must stay until it has ended
    except CancelledError:
        raise RequestError(StatusCode.CANCELLED, "the client has gone") from None
