"""The client against servers that fail on purpose: what is tried again, what is told, and what is sent."""

from __future__ import annotations

import contextlib
import itertools
import json
import ssl
import threading

import grpc
import numpy as np
import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st
from scripted_servers import (
    CLASSES,
    FRAMES,
    MANIFEST,
    SERVERS,
    SPEC,
    WINDOW,
    Disconnect,
    Give,
    Hang,
    Raw,
    Refuse,
    Script,
    grpc_server,
    heard,
    relay,
    rest_server,
)
from serving_ways import WAYS

from musicnet_tf.errors import ServingError, VersionGoneError
from serving import client, retry
from serving.address import Address
from serving.client import Options
from serving.exchange import Answer, Conversation, Pause, Refusal, Send
from serving.session import Session

WINDOWS = np.arange(5 * WINDOW, dtype=np.float32).reshape(5, WINDOW) / 64
ONE = WINDOWS[:1]


@pytest.fixture(params=["threads", "asyncio"])
def connect(request):
    return WAYS[request.param]


@pytest.fixture(params=["grpc", "http"])
def scheme(request):
    return request.param


@pytest.fixture
def hurried(monkeypatch):
    """No pause between attempts."""
    monkeypatch.setattr(retry, "BASE", 0.0)


@pytest.fixture
def play(scheme, connect, hurried):
    """`play(script, options)`: a predictor of a model on a server that plays the script."""
    with contextlib.ExitStack() as stack:

        def start(script, options=None, model="echo"):
            target = stack.enter_context(SERVERS[scheme](script))
            return stack.enter_context(connect(f"{scheme}://{target}/{model}", options))

        yield start


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


def test_answers_come_in_order_and_so_many_are_in_flight(play):
    """The first message is answered once three others have come, and no more come before."""
    arrived, released, most = threading.Semaphore(0), threading.Event(), []
    script = Script(*[Hang(released)] * 4)
    script.meanwhile = arrived.release
    predictor = play(script, Options(in_flight=4))
    while arrived.acquire(blocking=False):
        pass  # those of connecting

    def release():
        for _ in range(4):
            arrived.acquire()
        most.append(len(script.predictions()))
        released.set()

    releasing = threading.Thread(target=release)
    releasing.start()
    taken = []

    def batches():
        for start in range(20):
            taken.append(start)
            yield np.full((1, WINDOW), start, np.float32)

    answers = predictor.map(batches())
    assert taken == []
    first = next(answers)
    releasing.join()
    assert most == [4]
    assert taken[-1] <= 4
    found = [float(heads["frame"][0, 0, 0]) for heads in itertools.chain([first], answers)]
    assert found == list(range(20))


def test_a_batch_of_several_messages_comes_back_whole(play):
    script = Script()
    predictor = play(script, Options(max_windows=2))
    batches = [WINDOWS, WINDOWS[:1], WINDOWS[:0], WINDOWS[1:4]]
    for batch, heads in zip(batches, predictor.map(batches), strict=True):
        np.testing.assert_array_equal(heads["frame"], heard(batch).reshape(-1, FRAMES, CLASSES))
    assert sorted(request.windows for request in script.predictions()) == [1, 1, 1, 2, 2, 2]


def test_nothing_more_is_sent_after_a_failure(play):
    script = Script(Refuse("INVALID_ARGUMENT"))
    predictor = play(script, Options(in_flight=1))
    with pytest.raises(ServingError, match="INVALID_ARGUMENT"):
        list(predictor.map([ONE] * 10))
    assert len(script.predictions()) == 1
    assert len(list(predictor.map([ONE] * 3))) == 3  # the predictor is as good as before


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
        try:
            text = description.decode()
        except UnicodeDecodeError:
            pytest.skip("no JSON can say it")
        script = Script(Raw(json.dumps({"outputs": [text]}).encode()), descriptions=True)
        script.next = _after_status(script)
    with SERVERS[scheme](script) as target, pytest.raises(ServingError, match=told):
        opened(connect, f"{scheme}://{target}/m")


def opened(connect, *args):
    """Connects and lets go again."""
    with connect(*args):
        pass


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


def test_a_closed_predictor_says_so(play):
    predictor = play(Script())
    predictor.close()
    with pytest.raises(ServingError, match="the predictor is closed"):
        predictor(ONE)


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_what_is_sent_is_compressed_if_asked(scheme, connect, compression):
    silence, options = np.zeros((500, WINDOW), np.float32), Options(max_windows=500, compression=compression)
    with SERVERS[scheme](Script()) as target, relay(target) as (address, sizes):
        connected = connect(f"{scheme}://{address}/echo", options)
        with connected as predictor:
            np.testing.assert_array_equal(predictor(silence)["frame"], heard(silence))
    assert (sum(sizes) < silence.nbytes / 2) == (compression == "gzip")


def test_clients_of_one_server_share_one_connection(scheme, connect):
    script = Script()
    with SERVERS[scheme](script) as target:
        address = f"{scheme}://{target}/echo"
        with connect(address) as first:
            with client.connect(address) as second, client.connect(address) as third:
                assert second._transport is third._transport
            first(ONE)
        with client.connect(address) as fourth, client.connect(address, Options(timeout=1)) as fifth:
            assert fourth._transport is not fifth._transport
            fourth(ONE)


# Certificates and tokens


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def files(authority, tmp_path_factory):
    """Options that name the files of a client with a certificate."""
    folder = tmp_path_factory.mktemp("tls")
    issued = authority.issue_cert("client@example.org")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    for index, blob in enumerate(issued.cert_chain_pems):
        blob.write_to_path(folder / "certificate.pem", append=index > 0)
    return {
        "ca_file": folder / "ca.pem",
        "certificate_file": folder / "certificate.pem",
        "key_file": folder / "key.pem",
    }


@pytest.fixture
def encrypted(scheme, authority):
    """Plays a script over TLS to clients with a certificate; gives the address."""
    issued = authority.issue_cert("localhost")
    with contextlib.ExitStack() as stack:

        def start(script):
            if scheme == "grpc":
                pair = (issued.private_key_pem.bytes(), b"".join(blob.bytes() for blob in issued.cert_chain_pems))
                credentials = grpc.ssl_server_credentials([pair], authority.cert_pem.bytes(), True)
                return f"grpcs://{stack.enter_context(grpc_server(script, credentials))}/echo"
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            issued.configure_cert(context)
            authority.configure_trust(context)
            context.verify_mode = ssl.CERT_REQUIRED
            return f"https://{stack.enter_context(rest_server(script, context))}/echo"

        yield start


def test_encrypted_with_certificates_of_both_sides_and_a_token(encrypted, connect, files, tmp_path):
    token = tmp_path / "token"
    token.write_text("first.token\n")
    script = Script()
    with connect(encrypted(script), Options(**files, token_file=token)) as predictor:
        np.testing.assert_array_equal(predictor(ONE)["frame"], heard(ONE))
        token.write_text("second.token")  # as those of a cluster are renewed
        predictor(ONE)
    told = [request.headers["authorization"] for request in script.seen]
    assert set(told[:-1]) == {"Bearer first.token"} and told[-1] == "Bearer second.token"


def test_a_server_that_is_not_trusted_is_refused_at_once(encrypted, connect, files, tmp_path):
    stranger = tmp_path / "stranger.pem"
    trustme.CA().cert_pem.write_to_path(stranger)
    script = Script()
    untrusting = connect, encrypted(script), Options(**{**files, "ca_file": stranger})
    with pytest.raises(ServingError, match="certificate is not trusted; name the file of who signed it"):
        opened(*untrusting)
    assert script.seen == []


@pytest.mark.parametrize("name", ["ca_file", "key_file", "certificate_file"])
def test_certificates_that_are_none(encrypted, files, tmp_path, name):
    (tmp_path / "bad.pem").write_text("nothing of the kind")
    for bad, told in [(tmp_path / "bad.pem", "bad.pem: holds no PEM"), (tmp_path / "gone.pem", "gone.pem: .* be read")]:
        with pytest.raises(ServingError, match=told):
            client.connect(encrypted(Script()), Options(**{**files, name: bad}))


def test_a_token_from_the_environment_is_sent_and_never_told(scheme, connect, monkeypatch, hurried):
    monkeypatch.setenv("A_TOKEN", "s3cr3t")
    script = Script(Refuse("INVALID_ARGUMENT", "not so"))
    options = Options(token_variable="A_TOKEN")
    with SERVERS[scheme](script) as target, connect(f"{scheme}://{target}/echo", options) as predictor:
        with pytest.raises(ServingError) as told:
            predictor(ONE)
        assert script.seen[-1].headers["authorization"] == "Bearer s3cr3t"
        assert "s3cr3t" not in f"{told.value} {options} {predictor.__dict__}"


# Retries on a clock of the test's own: no server, no waiting


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
