"""What strangers may send over HTTP: bodies that are hardly JSON, lengths that lie, names that are paths.

As in `test_fuzz_serving.py`: an answer or a refusal in a sentence, and then the next request is served.
"""

from __future__ import annotations

import contextlib
import json
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("tensorflow_serving", reason="needs the extra 'serving'")

from fuzz_target import SECONDS, attack
from hypothesis import given
from hypothesis import strategies as st

from serving.server import ModelConfig, Server, Settings, rest_json
from serving.server.errors import RequestError

pytest_plugins = ["tiny_models", "toy_servables", "fuzz_fixtures"]

BODIES = [
    b'{"signature_name": "picky", "inputs": [1, 2.5]}',
    b'{"signature_name": "picky", "instances": [{"x": 1}, {"x": 2}]}',
    b'{"inputs": {"x": [[1, 2]], "y": [[3, 4]]}}',
    b'{"signature_name": "echo", "instances": [{"b64": "UklGRg=="}, "text"]}',
    b'{"signature_name": "ones", "inputs": {"n": [3]}}',
]
FRAGMENTS = [
    b'"',
    b"[",
    b"]",
    b"{",
    b"}",
    b",",
    b":",
    b"null",
    b"true",
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"-0",
    b"1e-999",
]
FRAGMENTS += [
    b"9" * 400,
    b"9" * 5000,
    b"0.1e400",
    b"[" * 2000,
    b'{"inputs":' * 400,
    b"\xff",
    b"\xed\xa0\x80",
    b'"\\ud800"',
]
FRAGMENTS += [
    b"\\u0000",
    b'"b64"',
    b'"signature_name"',
    b'"inputs"',
    b"\xef\xbb\xbf",
    b"\0",
    b"[],",
    b'{"b64": "=="}',
    b" ",
]


@st.composite
def bodies(draw) -> bytes:
    """Bodies that were once requests."""
    body = draw(st.sampled_from(BODIES))
    for _ in range(draw(st.integers(0, 3))):
        begin = draw(st.integers(0, len(body)))
        end = begin + draw(st.sampled_from([0, 0, 1, 1, 5]))
        body = body[:begin] + draw(st.sampled_from(FRAGMENTS)) * draw(st.sampled_from([1, 1, 2, 20])) + body[end:]
    return draw(st.sampled_from([body, body, body, body.decode("latin1").encode("utf-16"), body + body]))


@attack(80)
@given(bodies())
def test_json_is_answered_or_refused(target, files, body):
    with files.watched() as opened:
        target.refuses_or_answers_json(body)
    assert not opened


@pytest.mark.slow
@attack(4000)
@given(bodies())
def test_many_bodies_of_json_are_answered_or_refused(target, body):
    target.refuses_or_answers_json(body)


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (
            b'{"inputs": [1], "inputs": [-1, 4], "signature_name": "ones", "signature_name": "picky"}',
            400,
            "no negative",
        ),
        (b'{"signature_name": "picky", "inputs": [1e999]}', 200, "Infinity"),
        (b'{"signature_name": "picky", "inputs": [NaN]}', 400, "no negative"),
        (b'{"signature_name": "picky", "inputs": [' + b"9" * 30 + b"]}", 200, "e+29"),
        (b'{"signature_name": "picky", "inputs": ' + b"9" * 5000 + b"}", 400, "a number has thousands of digits"),
        (b'{"signature_name": "echo", "inputs": [' + b'"",' * 80_000 + b'""]}', 400, "Task size 80001"),
        (b'{"inputs": {' + b",".join(b'"%d":0' % n for n in range(20_000)) + b"}}", 400, "{0,1,10,100,1000,10000,"),
        (b'{"signature_name": "' + b"s" * 100_000 + b'", "inputs": 0}', 400, "sss…"),
    ],
    ids=["twice", "infinity", "NaN", "whole", "digits", "lists", "keys", "signature"],
)
def test_json_at_its_edges(target, body, status, reason):
    found, answer = target.post(body)
    assert found == status, answer
    assert reason in answer.decode()
    target.still_answers()


def test_json_of_too_many_parts_is_not_read(target):
    """Empty lists take thirty times as much in memory; so this is counted before it is parsed."""
    with pytest.raises(RequestError, match="more than 524288 lists, objects and texts"):
        rest_json.PredictBody.parse(b'{"inputs": [' + b"[]," * 2**19 + b"[]]}")


GOOD = BODIES[0]


@pytest.mark.parametrize(
    ("headers", "body", "statuses"),
    [
        (["Content-Length: 5"], GOOD, {400}),
        (["Content-Length: 500"], GOOD, {400}),
        (["Content-Length: 99999999999999999999"], GOOD, {413}),
        (["Content-Length: -1"], GOOD, {400}),
        (["Content-Length: 0x10"], GOOD, {400}),
        (["Content-Length: 47", "Content-Length: 5"], GOOD, {400}),
        (["X: y"], GOOD, {400}),
        (["Transfer-Encoding: chunked"], b"ffffffffffffffff\r\n" + GOOD, {400, 413}),
        (["Transfer-Encoding: chunked"], b"-5\r\n" + GOOD, {400}),
        (["Transfer-Encoding: chunked"], b"zz\r\n" + GOOD, {400}),
        (["Transfer-Encoding: chunked"], b"0" * 5000 + b"\r\n" + GOOD, {400}),
        (["Transfer-Encoding: chunked"], b"2f\r\n" + GOOD, {400}),
        (["Transfer-Encoding: chunked"], (b"8000\r\n" + b" " * 2**15 + b"\r\n") * 9 + b"0\r\n\r\n", {413}),
        (["Transfer-Encoding: chunked", "Content-Length: 5"], b"2f\r\n" + GOOD + b"\r\n0\r\n\r\n", {200}),
        (["Content-Encoding: gzip", "Content-Length: 47"], GOOD, {400}),
        (["Content-Encoding: br", "Content-Length: 47"], GOOD, {200}),
    ],
    ids=lambda value: str(value)[:50] if isinstance(value, list) else "",
)
def test_lengths_that_lie(target, headers, body, statuses):
    assert len(GOOD) == 47
    status, answer = target.post(body, "/v1/models/toy:predict", *headers)
    assert status in statuses, (status, answer)
    assert set(json.loads(answer)) == {"outputs" if status == 200 else "error"}
    target.still_answers()


@pytest.mark.parametrize(
    "request_line",
    [
        b"GET /v1/models/toy HTTP/9.9",
        b"GET http://[/ HTTP/1.1",
        b"\0\xff\x16\x03\x01",
        b"GET " + b"x" * 70_000,
        b"",
        b"A B C D",
    ],
    ids=["version", "address", "binary", "long", "empty", "words"],
)
def test_what_is_no_http_ends_the_connection(target, request_line):
    status, answer = target.http(request_line + b"\r\n\r\n")
    assert status in (0, 400, 414, 505)
    assert not answer or set(json.loads(answer)) == {"error"}
    target.still_answers()


def test_a_slow_client_does_not_keep_its_place(toy):
    config = Settings(
        (ModelConfig("toy", toy.parent),), port=0, rest_api_port=0, rest_api_num_threads=1, rest_api_timeout_ms=300
    )
    with Server(config) as server, socket.create_connection(("127.0.0.1", server.rest_port), SECONDS) as slow:
        slow.sendall(b"POST /v1/models/toy:predict HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n")
        slow.settimeout(0.05)
        answer = b""
        while b"\r\n\r\n" not in answer:
            with contextlib.suppress(TimeoutError):
                slow.send(b" ")  # a byte now and then, for ever
                answer += slow.recv(2**16)
        assert answer.startswith(b"HTTP/1.1 400 ")


# ---- names

NAMES = [
    "../../etc/passwd",
    "..",
    "%2e%2e",
    "%2e%2e%2fetc%2fpasswd",
    "a%00b",
    "%ff",
    "~",
    "toy%0d%0aX-Y:z",
    "file:%2f%2f%2fetc",
]


def paths() -> list[str]:
    named = [f"/v1/models/{name}" for name in NAMES]
    numbered = [f"/v1/models/toy/versions/{name}" for name in (*NAMES, "-1", "0", "1e3", "9" * 19, "9" * 400)]
    labelled = [f"/v1/models/toy/labels/{name}" for name in NAMES]
    return [*named, *numbered, *labelled, *NAMES, "//etc/passwd", "/v1/models/", "/monitoring/../../etc/passwd", "*"]


@pytest.mark.parametrize("verb", ["GET", "POST", "PUT", "HEAD"])
def test_no_name_in_an_address_reaches_the_file_system(target, files, verb):
    with files.watched() as opened:
        for path in paths():
            for suffix in ("", "/metadata", ":predict"):
                line = f"{verb} {path}{suffix} HTTP/1.1\r\nContent-Length: {len(GOOD) if verb == 'POST' else 0}\r\n\r\n"
                status, answer = target.http(line.encode() + (GOOD if verb == "POST" else b""))
                assert status in (400, 404), (path, answer)
                assert b"root:" not in answer
    assert not opened
    target.still_answers()


def test_json_is_unfolded_for_one_request_at_a_time(target, monkeypatch):
    """Or 32 connections at once would take 32 times the memory that one may."""
    unfolded, most = [], 0
    parse, take = rest_json.PredictBody.parse, rest_json.PredictBody.take

    def counted(body):
        nonlocal most
        unfolded.append(1)
        most = max(most, len(unfolded))
        return parse(body)

    def released(self, *args):
        arrays = take(self, *args)
        assert self.values is None
        unfolded.pop()
        return arrays

    monkeypatch.setattr(rest_json.PredictBody, "parse", counted)
    monkeypatch.setattr(rest_json.PredictBody, "take", released)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(target.post, [GOOD] * 40)) == {(200, b'{"outputs": [0.5, 1.25]}')}
    assert (most, unfolded) == (1, [])
