"""Addresses as people write them, and options that are out of range."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicnet_tf.errors import ConfigError, ServingError
from serving import client
from serving.address import MAX_VERSION, Address
from serving.client import Options


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("grpc://host:1/notes", ("grpc", "host", 1, "notes")),
        ("grpc://host/notes@12", ("grpc", "host", 8500, "notes", 12)),
        ("grpc://host/notes@0", ("grpc", "host", 8500, "notes", 0)),
        (f"grpc://host/notes@{MAX_VERSION}", ("grpc", "host", 8500, "notes", MAX_VERSION)),
        ("grpcs://[::1]:9/notes:canary", ("grpcs", "[::1]", 9, "notes", None, "canary")),
        ("http://10.0.0.7/my-notes_2.1/", ("http", "10.0.0.7", 8501, "my-notes_2.1")),
        ("https://models.example.org/notes:2", ("https", "models.example.org", 443, "notes", None, "2")),
    ],
)
def test_addresses(text, parsed):
    assert Address.parse(text) == Address(*parsed)


HOSTS = st.sampled_from(["localhost", "a.example.org", "127.0.0.1", "[::1]"])
NAMES = st.text("abcxyz019._-", min_size=1, max_size=8)
WHICH = st.one_of(st.tuples(st.integers(0, MAX_VERSION), st.just("")), st.tuples(st.none(), NAMES), st.just((None, "")))


@given(st.sampled_from(["grpc", "grpcs", "http", "https"]), HOSTS, st.integers(1, 65535), NAMES, WHICH)
def test_an_address_reads_what_it_writes(scheme, host, port, model, which):
    address = Address(scheme, host, port, model, *which)
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        *("host:8500/notes", "ftp://host/notes", "grpc://host:8500", "grpc:///m", "grpc://h:x/m", "grpc://h/a/b", ""),
        *("grpc://h/m?x=1", "grpc://h/m#x", "grpc://h/@3", "grpc://h/m@", "grpc://h/m:", "grpc://h/m@3:stable"),
        *(
            f"grpc://h/m@{2**63}",
            f"grpc://h/m@{'9' * 5000}",
            "grpc://h:70000/m",
            "grpc://[::1/m",
            "grpc://h/m n",
            "grpc://a b/m",
            "grpc://h%2f/m",
        ),
    ],
)
def test_what_is_no_address(text):
    with pytest.raises(ServingError, match="not an address"):
        client.connect(text)


@given(st.text(max_size=30))
def test_any_text_is_an_address_or_refused_in_one_line(text):
    try:
        Address.parse(text)
    except ServingError as error:
        assert "an address" in str(error)


def test_a_label_in_the_old_form_is_shown_the_new_one():
    with pytest.raises(ServingError, match=r"a version is a number \(notes@3\), a label follows a colon: notes:stable"):
        Address.parse("grpc://host/notes@stable")


def test_a_password_in_an_address_is_refused_and_not_told():
    with pytest.raises(ServingError, match="holds no name and no password") as told:
        Address.parse("https://me:s3cr3t@host/notes")
    assert "s3cr3t" not in str(told.value)


@pytest.mark.parametrize(
    ("host", "expected"),
    [("localhost", True), ("127.0.0.1", True), ("127.1.2.3", True), ("[::1]", True), ("10.0.0.1", False), ("h", False)],
)
def test_what_stays_on_this_machine(host, expected):
    assert Address.parse(f"grpc://{host}/m").is_loopback == expected


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"timeout": 0}, "timeout=0: expected seconds above 0"),
        ({"total_timeout": float("nan")}, "total_timeout=nan: expected seconds"),
        ({"connect_timeout": float("inf")}, "connect_timeout=inf: expected seconds"),
        ({"in_flight": 0}, "in_flight=0: expected at least 1"),
        ({"max_windows": 0}, "max_windows=0: expected at least 1"),
        ({"compression": "zip"}, "compression=zip: choose from none, gzip"),
        ({"key_file": "k"}, "certificate and its key are given together"),
        ({"certificate_file": "c"}, "certificate and its key are given together"),
        ({"token_file": "t", "token_variable": "T"}, "in a file or in an environment variable, not both"),
    ],
)
def test_options_out_of_range(options, told):
    with pytest.raises(ConfigError, match=told):
        Options(**options)
