"""Runs requests in the order in which they came, joining those that may run as one.

A few threads take turns in forming a batch: the oldest request, and those behind it that fit. A batch waits
for more only while more are to be expected: as many requests as were in the last batch of their kind, and never
longer than `batch_timeout_micros`. So a lone request runs at once, and requests that arrive together run together.
"""

from __future__ import annotations

import collections
import dataclasses
import threading
import time
from collections.abc import Hashable, Sequence
from concurrent.futures import Future

import numpy as np
from grpc import StatusCode

from serving.server import errors
from serving.server.errors import RequestError
from serving.server.metrics import Metrics
from serving.server.servable import Arrays, Servable, Signature
from serving.server.settings import Batching


@dataclasses.dataclass(eq=False)
class _Task:
    servable: Servable
    signature: Signature
    inputs: Arrays
    deadline: float
    kind: Hashable
    rows: int
    enqueued: float = dataclasses.field(default_factory=time.monotonic)
    future: Future[Arrays] = dataclasses.field(default_factory=Future)


class Scheduler:
    """A queue of requests, bounded, and the threads that run them. Close it."""

    def __init__(self, batching: Batching, metrics: Metrics) -> None:
        self._batching = batching
        self._metrics = metrics
        self._queue: collections.deque[_Task] = collections.deque()
        self._queued_rows = 0
        self._expected: dict[Hashable, int] = {}
        self._changed = threading.Condition()
        self._forming = threading.Lock()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"batch-{index}", daemon=True)
            for index in range(batching.num_batch_threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, servable: Servable, signature: Signature, inputs: Arrays, deadline: float) -> Future[Arrays]:
        """Queues a request; its future gives the outputs, or a RequestError. Cancelling it takes it back.

        Args:
            servable: the version that it is for.
            signature: one of its signatures.
            inputs: what fits that signature.
            deadline: on the monotonic clock, in seconds; a request whose deadline has passed is not run.

        Raises:
            RequestError: where the queue is full, the server is being stopped, or inputs that are to be
                joined with others differ in their number of rows.
        """
        task = _Task(servable, signature, inputs, deadline, *self._kind(servable, signature, inputs))
        with self._changed:
            if self._closed:
                raise RequestError(StatusCode.UNAVAILABLE, "the server is being stopped")
            room = self._batching.max_enqueued_batches * self._batching.max_batch_size
            if self._queued_rows + task.rows > room and self._queue:
                raise RequestError(
                    StatusCode.RESOURCE_EXHAUSTED, "The batch scheduling queue to which this task was submitted is full"
                )
            self._queue.append(task)
            self._queued_rows += task.rows
            self._changed.notify()
        return task.future

    def close(self) -> None:
        """Refuses what is queued and ends the threads once they have run what they are at."""
        with self._changed:
            self._closed = True
            left, self._queue = list(self._queue), collections.deque()
            self._changed.notify_all()
        for task in left:
            if task.future.set_running_or_notify_cancel():
                task.future.set_exception(RequestError(StatusCode.UNAVAILABLE, "the server is being stopped"))
        for thread in self._threads:
            thread.join()

    def _kind(self, servable: Servable, signature: Signature, inputs: Arrays) -> tuple[Hashable, int]:
        """What requests must share to be joined, and the number of rows; a kind of its own for what stays alone."""
        if not (self._batching.enabled and signature.joins):
            return object(), 1
        sizes = {len(array) for array in inputs.values()}
        if len(sizes) > 1:
            raise errors.invalid("Batching Run() input tensors must have equal 0th-dimension size")
        return (id(servable), signature.name), sizes.pop()

    def _work(self) -> None:
        while True:
            with self._forming:
                batch = self._next_batch()
            if batch is None:
                return
            self._run(batch)

    def _next_batch(self) -> list[_Task] | None:
        """The oldest request and what may run with it; waits for one. None where the scheduler is closed."""
        with self._changed:
            while not self._queue:
                if self._closed:
                    return None
                self._changed.wait()
            first = self._queue[0]
            until = first.enqueued + self._batching.batch_timeout_micros / 1e6
            while len(batch := self._joinable(first)) < self._expected.get(first.kind, 1) and not self._closed:
                left = until - time.monotonic()
                if left <= 0 or sum(task.rows for task in batch) >= self._batching.max_batch_size:
                    break
                self._changed.wait(left)
            taken = set(map(id, batch))
            self._queue = collections.deque(task for task in self._queue if id(task) not in taken)
            self._queued_rows -= sum(task.rows for task in batch)
            self._remember(first.kind, len(batch))
            return batch

    def _joinable(self, first: _Task) -> list[_Task]:
        batch: list[_Task] = []
        rows = 0
        for task in self._queue:
            if task.kind == first.kind and (not batch or rows + task.rows <= self._batching.max_batch_size):
                batch.append(task)
                rows += task.rows
        return batch

    def _remember(self, kind: Hashable, size: int) -> None:
        if size > 1:
            self._expected[kind] = size
        else:
            self._expected.pop(kind, None)  # most kinds are of one request alone, and must not pile up

    def _run(self, batch: Sequence[_Task]) -> None:
        now = time.monotonic()
        batch = [task for task in batch if _starts(task, now)]
        for task in batch:
            self._metrics.queue_seconds.observe(now - task.enqueued)
        if len(batch) > 1:
            try:
                self._finish_joined(batch)
                return
            except Exception:  # one of them is to blame: the others shall not suffer for it
                pass
        for task in batch:
            try:
                self._metrics.batch_rows.observe(task.rows)
                task.future.set_result(task.servable.run(task.signature, task.inputs))
            except Exception as error:
                task.future.set_exception(errors.of(error))

    def _finish_joined(self, batch: Sequence[_Task]) -> None:
        first, rows = batch[0], [task.rows for task in batch]
        inputs = {name: np.concatenate([task.inputs[name] for task in batch]) for name in first.inputs}
        outputs = first.servable.run(first.signature, inputs)
        if any(len(array) != sum(rows) for array in outputs.values()):
            raise ValueError(f"signature {first.signature.name!r} gives another number of rows than it takes")
        self._metrics.batch_rows.observe(sum(rows))
        ends = np.cumsum(rows)
        for task, end in zip(batch, ends, strict=True):
            task.future.set_result({name: array[end - task.rows : end] for name, array in outputs.items()})


def _starts(task: _Task, now: float) -> bool:
    """Whether a request is still wanted; one whose deadline has passed is told so."""
    if not task.future.set_running_or_notify_cancel():
        return False
    if now >= task.deadline:
        task.future.set_exception(RequestError(StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded"))
        return False
    return True
