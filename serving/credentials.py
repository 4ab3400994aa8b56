"""What a client shows to a server, and what it asks the server to show: tokens and certificates.

No message ever holds a token, nor a line of a key.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from musicnet_tf.errors import ServingError
from serving.address import Address
from serving.options import Options

_TOKEN = re.compile(r"[\x21-\x7e]+")  # what a header can carry; RFC 6750 allows fewer characters still


def check(address: Address, options: Options) -> None:
    """Refuses what would send a token in the clear, or leave certificates unused.

    Raises:
        ServingError: then, or where there is no token.
    """
    secure = f"{'https' if address.is_rest else 'grpcs'}://"
    if not address.is_encrypted and (options.ca_file or options.certificate_file):
        raise ServingError(f"{address}: certificates are of use over TLS alone; write {secure}…")
    if authorization(options) and not (address.is_encrypted or address.is_loopback):
        raise ServingError(f"{address}: the token would be sent unencrypted; write {secure}…")


def authorization(options: Options) -> dict[str, str]:
    """The header that names the caller, empty where there is no token. Raises ServingError."""
    if options.token_file:
        where, token = str(options.token_file), _read(options.token_file, "a token").decode("utf-8", "replace").strip()
    elif options.token_variable:
        where = f"environment variable {options.token_variable}"
        token = os.environ.get(options.token_variable, "").strip()
    else:
        return {}
    if not _TOKEN.fullmatch(token):
        raise ServingError(f"{where}: holds {'no token' if not token else 'what cannot be a token'}")
    return {"authorization": f"Bearer {token}"}


def certificates(options: Options) -> tuple[bytes | None, bytes | None, bytes | None]:
    """What the server's certificate must be signed by, this client's key, and its certificate; all PEM.

    Raises:
        ServingError: where a file cannot be read or is no PEM.
    """
    return (
        _pem(options.ca_file, "certificates"),
        _pem(options.key_file, "a private key"),
        _pem(options.certificate_file, "a certificate"),
    )


def _pem(path: str | Path | None, what: str) -> bytes | None:
    if path is None:
        return None
    content = _read(path, what)
    if b"-----BEGIN " not in content:
        raise ServingError(f"{path}: holds no PEM; expected {what}")
    return content


def _read(path: str | Path, what: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ServingError(f"{path}: {what} cannot be read there ({error.strerror})") from error
