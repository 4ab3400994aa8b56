"""The client against servers that fail on purpose: what is tried again, what is told, and what is sent."""

from __future__ import annotations

import contextlib
import itertools
import json
import threading

import numpy as np
import pytest
from scripted_servers import (
    CLASSES,
    FRAMES,
    MANIFEST,
    SERVERS,
    WINDOW,
    Disconnect,
    Give,
    Hang,
    Raw,
    Refuse,
    Script,
    heard,
    relay,
)
from serving_ways import opened

from musicnet_tf.errors import ServingError, VersionGoneError
from serving import retry
from serving.client import Options

pytest_plugins = ["serving_fixtures"]
# What is judged without a transport is the same for both ways of waiting.
one_way = pytest.mark.parametrize("connect", ["threads"], indirect=True)
WINDOWS = np.arange(5 * WINDOW, dtype=np.float32).reshape(5, WINDOW) / 64
ONE = WINDOWS[:1]


@pytest.mark.parametrize("code", ["UNAVAILABLE", "RESOURCE_EXHAUSTED"])
def test_what_passes_is_tried_again(play, code):
    script = Script(Refuse(code), Refuse(code))
    predictor = play(script)
    np.testing.assert_array_equal(predictor(ONE)["frame"], heard(ONE))
    assert len(script.predictions()) == 3


def test_a_connection_that_breaks_in_the_middle_of_an_answer_is_tried_again(play):
    script = Script(Disconnect(), Disconnect())
    predictor = play(script)
    np.testing.assert_array_equal(predictor(ONE)["frame"], heard(ONE))
    assert len(script.predictions()) == 3


def test_a_server_that_restarts_in_the_middle_of_a_recording_loses_nothing(scheme, connect, monkeypatch):
    """It goes after the first answer, and comes back on the same port when it has been missed."""
    before, after, missed = Script(), Script(), threading.Event()
    second = contextlib.ExitStack()

    def come_back():
        missed.wait(30)
        second.enter_context(SERVERS[scheme](after, port=int(target.rpartition(":")[2])))

    def pauses(uniform):
        for count in itertools.count():
            if count:
                missed.set()
            yield 0.01

    monkeypatch.setattr(retry, "pauses", pauses)
    with second:
        with SERVERS[scheme](before) as target:
            predictor = second.enter_context(connect(f"{scheme}://{target}/echo", Options(in_flight=1)))
            answers = predictor.map(WINDOWS[k : k + 1] for k in range(5))
            found = [next(answers)]
        returning = threading.Thread(target=come_back)
        returning.start()
        found.extend(answers)
        returning.join()
    np.testing.assert_array_equal(np.concatenate([heads["frame"] for heads in found]), heard(WINDOWS))
    assert (len(before.predictions()), len(after.predictions())) == (1, 4)


@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "NOT_FOUND"])
def test_what_does_not_pass_is_asked_once(play, code):
    script = Script(Refuse(code, "a bad \x1b[31mrequest\nof yours"))
    predictor = play(script, model="echo@1")
    with pytest.raises(ServingError) as told:
        predictor(ONE)
    assert len(script.predictions()) == 1
    assert "\x1b" not in str(told.value) and "\n" not in str(told.value)
    if code == "INVALID_ARGUMENT":
        assert str(told.value).endswith("echo@1: the server refused: INVALID_ARGUMENT (a bad [31mrequest of yours)")


def test_a_server_that_stays_away_ends_patience(play):
    script = Script(*[Refuse("UNAVAILABLE")] * 10_000)
    predictor = play(script, Options(total_timeout=0.05))
    with pytest.raises(ServingError, match="no server answers there; is it running, and is this its"):
        predictor(ONE)
    assert 1 < len(script.predictions()) < 10_000


def test_a_slow_server_is_told_apart_and_not_asked_again(play):
    released = threading.Event()
    script = Script(Hang(released))
    predictor = play(script, Options(timeout=0.2))
    with pytest.raises(ServingError, match=r"no answer within 0\.2 s; allow it more time"):
        predictor(ONE)
    released.set()
    assert len(script.predictions()) == 1


@one_way
@pytest.mark.parametrize(
    "refusal",
    [
        Refuse("RESOURCE_EXHAUSTED", "SERVER: Received message larger than max (5000 vs. 4000)"),
        Refuse("RESOURCE_EXHAUSTED", "grpc: received message larger than max (5000 vs. 4000)"),
        Refuse("RESOURCE_EXHAUSTED", "gRPC message exceeds maximum size 4000: 5000"),
        Refuse("INVALID_ARGUMENT", "Task size 5 is larger than maximum input batch size 2"),
    ],
    ids=lambda refusal: refusal.details.split()[0],
)
def test_what_is_too_large_for_the_server_goes_in_halves_and_later_ones_do_so_at_once(play, refusal):
    script = Script()
    script.max_windows, script.too_large = 2, refusal
    predictor = play(script)
    np.testing.assert_array_equal(predictor(WINDOWS)["frame"], heard(WINDOWS))
    assert [request.windows for request in script.predictions()] == [5, 3, 2, 1, 2]
    script.seen.clear()
    np.testing.assert_array_equal(predictor(WINDOWS)["frame"], heard(WINDOWS))
    assert sorted(request.windows for request in script.predictions()) == [1, 2, 2]


def test_one_window_that_is_too_large_is_told(play):
    script = Script()
    script.max_windows = 0
    with pytest.raises(ServingError, match="takes no message as large as one window needs; raise its limit"):
        play(script)(ONE)
    assert len(script.predictions()) == 1


def test_an_answer_that_is_too_large_is_not_read(play):
    script = Script(Give({"frame": np.zeros((5, 100, 100), np.float32)}))
    predictor = play(script, Options(max_answer_bytes=10_000))
    np.testing.assert_array_equal(predictor(WINDOWS)["frame"], heard(WINDOWS))  # in halves
    assert [request.windows for request in script.predictions()] == [5, 3, 2]


@one_way
@pytest.mark.parametrize(
    ("outputs", "told"),
    [
        (
            {"frame": np.zeros((1, FRAMES, CLASSES + 1), np.float32)},
            r"shape \(1, 2, 4\), its manifest promises \(1, 2, 3\)",
        ),
        (
            {"frame": np.zeros((2, FRAMES, CLASSES), np.float32)},
            r"shape \(2, 2, 3\), its manifest promises \(1, 2, 3\)",
        ),
        ({"frame": np.full((1, FRAMES, CLASSES), np.nan, np.float32)}, "'frame' holds what is not a finite number"),
        ({"frame": np.full((1, FRAMES, CLASSES), np.inf, np.float32)}, "'frame' holds what is not a finite number"),
        ({"onset": np.zeros((1,), np.float32), "x": np.zeros((1,), np.float32)}, "gives no head 'frame'"),
        ({}, "gives no head 'frame'|cannot be read"),
        ({"frame": np.array([b"a"], object)}, r"shape \(1,\), its manifest promises"),
    ],
)
def test_answers_that_break_the_manifests_promises(play, outputs, told):
    predictor = play(Script(Give(outputs)))
    with pytest.raises(ServingError, match=told):
        predictor(ONE)


@one_way
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 40,
        b"I am no server of models",
        b'{"outputs": [[[1, 2], [3]]]}',
        b'{"outputs": "text"}',
        b'{"outputs": {"frame": {"b64": "AA=="}}}',
        b'{"outputs": [[[1, "2", 3], [1, 2, 3]]]}',
        b'{"outputs": ' + b"[" * 100_000,
        b'{"outputs": [[[1e999, 1, 1], [1, 1, 1]]]}',
        b'{"error": "sorry"}',
        b"[]",
        b"null",
    ],
)
def test_garbage_is_one_clear_error(play, content):
    predictor = play(Script(Raw(content)))
    with pytest.raises(ServingError, match=r"cannot be read|gives no head|not a finite number|has shape") as told:
        predictor(ONE)
    assert "\n" not in str(told.value)


@one_way
@pytest.mark.parametrize(
    ("description", "told"),
    [
        (b"{}", "does not describe itself as `musicnet export` would have it"),
        (b"\xff", "does not describe itself"),
        (
            MANIFEST.model_copy(update={"format_version": 2}).model_dump_json().encode(),
            "of format version 2, this program",
        ),
        (MANIFEST.model_copy(update={"spec": {}}).model_dump_json().encode(), "does not describe itself"),
    ],
)
def test_models_that_do_not_describe_themselves(scheme, connect, description, told):
    script = Script(Give({"manifest": np.array([description], object)}), descriptions=True)
    if scheme == "http":
        script = Script(Raw(json.dumps({"outputs": [description.decode("latin-1")]}).encode()), descriptions=True)
        script.next = _after_status(script)
    with SERVERS[scheme](script) as target, pytest.raises(ServingError, match=told):
        opened(connect, f"{scheme}://{target}/m")


def _after_status(script):
    """The script, but for requests of versions, which are answered as usual."""
    play = script.next
    return lambda request: None if not request.signature else play(request)


def test_a_client_stays_with_its_version_until_it_is_gone(play):
    script = Script(versions=(1,))
    predictor = play(script)
    assert predictor.address.version == 1
    script.versions.add(2)
    predictor(ONE)
    assert script.predictions()[-1].version == 1
    script.versions.remove(1)
    script.manifest = MANIFEST.model_copy(update={"name": "newer"})
    with pytest.raises(VersionGoneError, match=r"echo@1: the server has let this version go.*; it has version 2"):
        predictor(ONE)
    predictor.renew()
    assert (predictor.address.version, predictor.manifest.name) == (2, "newer")
    np.testing.assert_array_equal(predictor(ONE)["frame"], heard(ONE))


def test_a_version_that_was_asked_for_by_number_is_not_replaced(play):
    script = Script(versions=(1, 2))
    predictor = play(script, model="echo@1")
    script.versions.remove(1)
    with pytest.raises(
        ServingError, match=r"echo@1: the server has no such model or version; it has version 2"
    ) as told:
        predictor(ONE)
    assert not isinstance(told.value, VersionGoneError)


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_what_is_sent_is_compressed_if_asked(scheme, connect, compression):
    silence, options = np.zeros((500, WINDOW), np.float32), Options(max_windows=500, compression=compression)
    with SERVERS[scheme](Script()) as target, relay(target) as (address, sizes):
        connected = connect(f"{scheme}://{address}/echo", options)
        with connected as predictor:
            np.testing.assert_array_equal(predictor(silence)["frame"], heard(silence))
    assert (sum(sizes) < silence.nbytes / 2) == (compression == "gzip")
