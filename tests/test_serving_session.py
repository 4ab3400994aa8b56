"""What a client decides, on a clock of the test's own: no server, no waiting."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_servers import MANIFEST, SPEC, WINDOW, heard

from musicnet_tf.errors import ServingError, VersionGoneError
from serving import retry
from serving.address import Address
from serving.client import Options
from serving.exchange import Answer, Conversation, Pause, Refusal, Send
from serving.session import Session

ONE = np.full((1, WINDOW), 0.5, np.float32)


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def session(clock, uniform=lambda: 0.5, **options):
    begun = Session(Address.parse("grpc://localhost/echo"), Options(**options), clock, uniform)
    begun.manifest = MANIFEST
    return begun


def converse(steps, clock, replies, duration=0.0):
    """Carries out steps, each answer after `duration` seconds; gives the outcome, the messages and the pauses."""
    conversation, sent, pauses = Conversation(steps), [], []
    while step := conversation.step():
        if isinstance(step, Pause):
            pauses.append(step.seconds)
            clock.now += step.seconds
            continue
        assert isinstance(step, Send)
        sent.append(step)
        clock.now += duration
        reply = next(replies)
        conversation.refuse(reply) if isinstance(reply, Refusal) else conversation.answer(reply)
    return conversation.outcome, sent, pauses


GOOD = Answer({"frame": np.array(heard(ONE))}, 1)


def test_pauses_double_up_to_a_limit():
    clock = Clock()
    away = [Refusal("UNAVAILABLE")] * 9
    _, sent, pauses = converse(session(clock, lambda: 0.5).activations(ONE), clock, iter([*away, GOOD]))
    assert len(sent) == 10
    assert pauses == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.5, 2.5, 2.5])


@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=12, max_size=12))
def test_pauses_are_anywhere_between_none_and_the_limit(draws):
    limits = [min(0.1 * 2**k, 5.0) for k in range(12)]
    found = list(itertools.islice(retry.pauses(iter(draws).__next__), 12))
    assert found == pytest.approx([limit * draw for limit, draw in zip(limits, draws, strict=True)])


def test_a_restart_of_twenty_seconds_is_survived():
    clock = Clock()
    back = clock.now + 20

    def server():
        while True:
            yield GOOD if clock.now >= back else Refusal("UNAVAILABLE", "Connection refused")

    heads, sent, pauses = converse(session(clock, lambda: 0.99).activations(ONE), clock, server())
    np.testing.assert_array_equal(heads["frame"], heard(ONE))
    assert clock.now - back <= 5
    assert len(sent) == len(pauses) + 1 < 20


def test_patience_is_over_when_the_total_is():
    clock = Clock()
    with pytest.raises(ServingError, match="no server answers there"):
        converse(session(clock, total_timeout=30).activations(ONE), clock, itertools.repeat(Refusal("UNAVAILABLE")))
    assert 30 - 5 < clock.now - 1000 <= 30


def test_nothing_is_sent_after_a_pause_that_outlasts_patience():
    clock, sent = Clock(), []
    steps = session(clock, lambda: 0.99, total_timeout=10).activations(ONE)
    conversation = Conversation(steps)
    with pytest.raises(ServingError, match="no server answers there"):
        while step := conversation.step():
            sent.append(step)
            if isinstance(step, Pause):
                clock.now += 10  # as on a machine that was asleep
            else:
                conversation.refuse(Refusal("UNAVAILABLE"))
    assert [type(step) for step in sent] == [Send, Pause]


def test_what_was_wrong_before_time_ran_out_is_told():
    clock = Clock()
    replies = iter([Refusal("UNAVAILABLE", "Connection refused"), Refusal("DEADLINE_EXCEEDED")])
    steps = session(clock, lambda: 0.0, timeout=60, total_timeout=30).activations(ONE)
    with pytest.raises(ServingError, match=r"no server answers there.*Connection refused"):
        converse(steps, clock, replies)


def test_no_message_may_take_longer_than_what_is_left():
    clock = Clock()
    replies = iter([Refusal("RESOURCE_EXHAUSTED", "queue is full")] * 4 + [GOOD])
    _, sent, _ = converse(
        session(clock, lambda: 0.0, timeout=60, total_timeout=100).activations(ONE), clock, replies, duration=20
    )
    assert [step.timeout for step in sent] == [60, 60, 60, 40, 20]


@pytest.mark.parametrize(
    "code",
    [
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "INTERNAL",
        "UNAUTHENTICATED",
        "FAILED_PRECONDITION",
        "CANCELLED",
        "UNREADABLE",
    ],
)
def test_nothing_else_is_tried_again(code):
    clock = Clock()
    with pytest.raises(ServingError):
        converse(session(clock).activations(ONE), clock, iter([Refusal(code)]))


@pytest.mark.parametrize(
    ("signature", "refusal", "told"),
    [
        (
            "activations",
            Refusal("UNAUTHENTICATED", "who?"),
            r"does not let this client in; give it a token .*\(who\?\)",
        ),
        ("activations", Refusal("PERMISSION_DENIED"), "does not let this client in"),
        (
            "open",
            Refusal("FAILED_PRECONDITION", 'Serving signature key "describe" not found.'),
            "no signature 'describe'",
        ),
        ("open", Refusal("INVALID_ARGUMENT", "Unrecognized servable version label: new"), "no version labelled 'new'"),
        ("activations", Refusal("UNREADABLE", "x" * 5000), r"an answer that cannot be read \(x{300}…\)"),
    ],
)
def test_refusals_in_plain_words(signature, refusal, told):
    clock = Clock()
    begun = Session(Address.parse("grpc://localhost/echo:new"), Options(), clock)
    begun.manifest = MANIFEST
    steps = begun.open(10) if signature == "open" else begun.activations(ONE)
    with pytest.raises(ServingError, match=told):
        converse(steps, clock, iter([refusal]))


def test_versions_that_go_while_a_client_connects_are_followed():
    clock = Clock()
    begun = Session(Address.parse("http://localhost/echo"), Options(), clock)
    described = Answer({"": np.array([MANIFEST.model_dump_json().encode()], object)})
    gone = Refusal("NOT_FOUND")
    _, sent, _ = converse(begun.open(10), clock, iter([[1, 2], gone, [3], [3], described]))
    assert begun.address.version == 3 and begun.manifest == MANIFEST
    assert [getattr(step.question, "signature", "") for step in sent] == ["", "describe", "", "", "describe"]
    with pytest.raises(VersionGoneError):
        converse(begun.open(10), clock, itertools.cycle([[1], gone, [2]]))


@given(st.integers(0, 40), st.integers(1, 9), st.integers(1, 5000))
def test_a_batch_is_divided_without_loss_below_every_limit(count, max_windows, max_message_bytes):
    begun = session(Clock(), max_windows=max_windows, max_message_bytes=max_message_bytes)
    windows = np.arange(count * WINDOW, dtype=np.float32).reshape(count, WINDOW)
    parts = begun.messages(windows)
    np.testing.assert_array_equal(np.concatenate(parts), windows)
    sizes = [len(part) for part in parts]
    assert max(sizes) <= max(1, min(max_windows, max_message_bytes // (4 * WINDOW)))
    assert max(sizes) - min(sizes) <= 1
    assert SPEC.window_length == WINDOW
