"""Certificates of both sides, and tokens: what is trusted, what is sent, and what is never told."""

from __future__ import annotations

import contextlib
import ssl

import grpc
import numpy as np
import pytest
import trustme
from scripted_servers import SERVERS, WINDOW, Refuse, Script, grpc_server, heard, rest_server
from serving_ways import opened

from musicnet_tf.errors import ServingError
from serving import client
from serving.client import Options

pytest_plugins = ["serving_fixtures"]
ONE = np.full((1, WINDOW), 0.5, np.float32)


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


@pytest.mark.parametrize(
    ("address", "options", "told"),
    [
        (
            "grpc://far.example.org/m",
            {"token_variable": "A_TOKEN"},
            "the token would be sent unencrypted; write grpcs://",
        ),
        ("http://10.0.0.1/m", {"token_variable": "A_TOKEN"}, "the token would be sent unencrypted; write https://"),
        ("grpc://localhost/m", {"ca_file": "ca.pem"}, "certificates are of use over TLS alone; write grpcs://"),
        ("grpc://localhost/m", {"token_variable": "NO_TOKEN"}, "environment variable NO_TOKEN: holds no token"),
        ("grpc://localhost/m", {"token_variable": "ODD_TOKEN"}, "ODD_TOKEN: holds what cannot be a token$"),
        ("grpc://localhost/m", {"token_file": "/nowhere/token"}, "/nowhere/token: a token cannot be read there"),
    ],
)
def test_credentials_that_cannot_be_used_are_told_before_anything_is_sent(monkeypatch, address, options, told):
    monkeypatch.setenv("A_TOKEN", "s3cr3t")
    monkeypatch.setenv("ODD_TOKEN", "s3cr3t\nX-Evil: 1")
    monkeypatch.setattr(client, "open_transport", lambda *_: pytest.fail("connected"))
    with pytest.raises(ServingError, match=told) as error:
        client.connect(address, Options(**options))
    assert "s3cr3t" not in str(error.value)
