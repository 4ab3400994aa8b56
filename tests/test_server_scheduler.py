"""The queue: what is joined, who waits for whom, and that nobody suffers for another's request."""

from __future__ import annotations

import threading
import time
from concurrent.futures import CancelledError

import numpy as np
import pytest

pytest.importorskip("tensorflow_serving", reason="needs the extra 'serving'")

import tensorflow as tf
from grpc import StatusCode
from hypothesis import given
from hypothesis import strategies as st

from serving.server import Batching
from serving.server.errors import RequestError
from serving.server.metrics import Metrics
from serving.server.scheduler import Scheduler
from serving.server.servable import Signature, TensorSpec

ROWS = TensorSpec(tf.float32, (None,))
DOUBLE = Signature("double", {"x": ROWS}, {"y": ROWS})
OPEN = Signature("open", {"x": ROWS}, {"y": TensorSpec(tf.float32, (None, None))})
PAIR = Signature("pair", {"x": ROWS, "z": ROWS}, {"y": ROWS})
NEVER = float("inf")


class Doubling:
    """Doubles its input, refuses negative numbers, and holds on 13 until it is let go.

    Attributes:
        sizes: of each call so far, in the order in which they began.
    """

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.held, self.let_go = threading.Event(), threading.Event()

    def run(self, signature, inputs):
        x = inputs["x"]
        self.sizes.append(len(x))
        if 13 in x:
            self.held.set()
            assert self.let_go.wait(60)
        if (x < 0).any():
            raise RequestError(StatusCode.INVALID_ARGUMENT, "negative")
        return {"y": 2 * x}


@pytest.fixture
def servable():
    servable = Doubling()
    yield servable
    servable.let_go.set()


@pytest.fixture
def scheduler(servable):
    batching = Batching(num_batch_threads=1, max_batch_size=8, max_enqueued_batches=2, batch_timeout_micros=0)
    scheduler = Scheduler(batching, Metrics())
    yield scheduler
    servable.let_go.set()
    scheduler.close()


def array(*values):
    return {"x": np.array(values, np.float32)}


def hold(scheduler, servable):
    """Occupies the only thread, so that what is submitted next waits."""
    future = scheduler.submit(servable, DOUBLE, array(13), NEVER)
    assert servable.held.wait(60)
    return future


def result(future):
    return future.result(60)["y"].tolist()


def test_a_lone_request_runs_alone_and_at_once(scheduler, servable):
    assert result(scheduler.submit(servable, DOUBLE, array(1, 2), NEVER)) == [2, 4]
    assert servable.sizes == [2]


def test_requests_that_wait_are_joined_up_to_the_limit_and_each_gets_its_own(scheduler, servable):
    held = hold(scheduler, servable)
    futures = [scheduler.submit(servable, DOUBLE, array(*range(i, 2 * i)), NEVER) for i in (3, 4, 2, 1)]
    servable.let_go.set()
    assert result(held) == [26]
    assert [result(future) for future in futures] == [[6, 8, 10], [8, 10, 12, 14], [4, 6], [2]]
    assert servable.sizes == [1, 8, 2]  # 3 + 4 + 1 rows fit into 8, and 2 come after


def test_what_has_an_open_length_or_another_signature_or_version_is_not_joined(scheduler, servable):
    hold(scheduler, servable)
    other = Doubling()
    futures = [scheduler.submit(servable, OPEN, array(1), NEVER) for _ in range(2)]
    futures += [scheduler.submit(servable, DOUBLE, array(2), NEVER), scheduler.submit(other, DOUBLE, array(3), NEVER)]
    servable.let_go.set()
    assert [result(future) for future in futures] == [[2], [2], [4], [6]]
    assert (servable.sizes, other.sizes) == ([1, 1, 1, 1], [1])


def test_a_bad_request_does_not_fail_its_neighbours(scheduler, servable):
    hold(scheduler, servable)
    good, bad, too = (scheduler.submit(servable, DOUBLE, array(value), NEVER) for value in (1, -1, 2))
    servable.let_go.set()
    assert (result(good), result(too)) == ([2], [4])
    with pytest.raises(RequestError, match="negative"):
        result(bad)
    assert servable.sizes == [1, 3, 1, 1, 1]


def test_an_unexpected_error_is_told_without_its_words(scheduler, servable, caplog):
    servable.run = lambda signature, inputs: 1 / 0
    with pytest.raises(RequestError) as caught:
        result(scheduler.submit(servable, DOUBLE, array(1), NEVER))
    assert caught.value.code is StatusCode.INTERNAL
    assert "zero" not in caught.value.message
    assert "ZeroDivisionError" in caplog.text


def test_a_model_that_gives_another_number_of_rows_answers_each_alone(scheduler, servable):
    hold(scheduler, servable)
    servable.run = lambda signature, inputs: {"y": np.float32([len(inputs["x"])])}
    futures = [scheduler.submit(servable, DOUBLE, array(1, 1), NEVER) for _ in range(2)]
    servable.let_go.set()
    assert [result(future) for future in futures] == [[2], [2]]


def test_what_is_taken_back_or_too_late_is_not_run(scheduler, servable):
    hold(scheduler, servable)
    gone = scheduler.submit(servable, DOUBLE, array(1), NEVER)
    late = scheduler.submit(servable, DOUBLE, array(2), time.monotonic())
    kept = scheduler.submit(servable, DOUBLE, array(3), NEVER)
    assert gone.cancel()
    servable.let_go.set()
    assert result(kept) == [6]
    with pytest.raises(CancelledError):
        result(gone)
    with pytest.raises(RequestError) as caught:
        result(late)
    assert caught.value.code is StatusCode.DEADLINE_EXCEEDED
    assert servable.sizes == [1, 1]


def test_a_full_queue_refuses(scheduler, servable):
    hold(scheduler, servable)
    futures = [scheduler.submit(servable, DOUBLE, array(*range(8)), NEVER) for _ in range(2)]
    with pytest.raises(RequestError, match="queue to which this task was submitted is full") as caught:
        scheduler.submit(servable, DOUBLE, array(1), NEVER)
    assert caught.value.code is StatusCode.RESOURCE_EXHAUSTED
    servable.let_go.set()
    assert [len(result(future)) for future in futures] == [8, 8]
    assert result(scheduler.submit(servable, DOUBLE, array(1), NEVER)) == [2]


def test_inputs_of_different_numbers_of_rows_are_refused(scheduler, servable):
    inputs = {"x": np.zeros(2, np.float32), "z": np.zeros(3, np.float32)}
    with pytest.raises(RequestError, match="must have equal 0th-dimension size"):
        scheduler.submit(servable, PAIR, inputs, NEVER)


def test_a_request_waits_for_as_many_as_came_together_last_time(servable):
    batching = Batching(num_batch_threads=1, batch_timeout_micros=60_000_000)
    scheduler = Scheduler(batching, Metrics())
    try:
        hold(scheduler, servable)
        futures = [scheduler.submit(servable, DOUBLE, array(value), NEVER) for value in (1, 2, 3)]
        servable.let_go.set()
        assert [result(future) for future in futures] == [[2], [4], [6]]
        again = [scheduler.submit(servable, DOUBLE, array(value), NEVER) for value in (1, 2, 3)]  # within a minute
        assert [result(future) for future in again] == [[2], [4], [6]]
        assert servable.sizes == [1, 3, 3]
    finally:
        scheduler.close()


def test_when_closed_what_runs_ends_and_what_waits_is_refused(servable):
    scheduler = Scheduler(Batching(num_batch_threads=1), Metrics())
    running, waiting = hold(scheduler, servable), scheduler.submit(servable, DOUBLE, array(1), NEVER)
    closing = threading.Thread(target=scheduler.close)
    closing.start()
    with pytest.raises(RequestError, match="being stopped") as caught:
        result(waiting)
    assert caught.value.code is StatusCode.UNAVAILABLE
    servable.let_go.set()
    assert result(running) == [26]
    closing.join(60)
    assert not closing.is_alive()
    with pytest.raises(RequestError, match="being stopped"):
        scheduler.submit(servable, DOUBLE, array(1), NEVER)


def test_nothing_is_joined_where_batching_is_off(servable):
    scheduler = Scheduler(Batching(enabled=False, num_batch_threads=1), Metrics())
    try:
        hold(scheduler, servable)
        futures = [scheduler.submit(servable, DOUBLE, array(value), NEVER) for value in (1, 2)]
        servable.let_go.set()
        assert [result(future) for future in futures] == [[2], [4]]
        assert servable.sizes == [1, 1, 1]
    finally:
        scheduler.close()


@given(st.lists(st.lists(st.integers(-2, 40), max_size=5), min_size=1, max_size=30), st.integers(1, 3))
def test_whatever_is_joined_everyone_gets_the_answer_that_it_would_have_got_alone(requests, num_threads):
    servable = Doubling()
    servable.let_go.set()
    scheduler = Scheduler(
        Batching(max_batch_size=6, num_batch_threads=num_threads, batch_timeout_micros=100), Metrics()
    )
    try:
        futures = [scheduler.submit(servable, DOUBLE, array(*values), NEVER) for values in requests]
        for values, future in zip(requests, futures, strict=True):
            if min(values, default=0) < 0:
                assert isinstance(future.exception(60), RequestError)
            else:
                assert result(future) == [2 * value for value in values]
    finally:
        scheduler.close()
