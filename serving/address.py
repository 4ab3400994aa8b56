"""Where a model is served: its address, as a person writes it."""

from __future__ import annotations

import dataclasses
import ipaddress
import re
import urllib.parse

from musicnet_tf.errors import ServingError

PORTS = {"grpc": 8500, "grpcs": 8500, "http": 8501, "https": 443}
"""Scheme → its usual port. TensorFlow Serving itself encrypts gRPC alone; HTTPS is a proxy's."""
MAX_VERSION = 2**63 - 1

_PATH = re.compile(r"/(?P<model>[^/@:\s]+)(?:@(?P<version>[^/@:\s]+)|:(?P<label>[^/@:\s]+))?/?")
_HOST = re.compile(r"[\w.-]+|\[[\w:.%]+\]")
_FORM = "grpc://host:port/model, or http://…, and model@3 for a version or model:stable for a label"


@dataclasses.dataclass(frozen=True)
class Address:
    """A model on a server: `scheme://host[:port]/model[@version]` or `…/model[:label]`.

    Attributes:
        scheme: `grpc`, `grpcs` (with TLS), `http` or `https`.
        host: name or number; an IPv6 one in brackets.
        port: of the server.
        model: name under which it is served.
        version: its number; None for the newest, or for the one that the label names.
        label: of a version, as the server's configuration gives them; empty for none.
    """

    scheme: str
    host: str
    port: int
    model: str
    version: int | None = None
    label: str = ""

    @classmethod
    def parse(cls, text: str) -> Address:
        """Raises ServingError where the text is no such address."""
        try:
            parts = urllib.parse.urlsplit(text)
            port = parts.port
        except ValueError as error:
            raise ServingError(f"{text}: not an address ({error})") from error
        if parts.username is not None or parts.password is not None:
            raise ServingError("an address holds no name and no password; give a token in a file instead")
        path = _PATH.fullmatch(parts.path)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
        if parts.scheme not in PORTS or not _HOST.fullmatch(host) or not path or parts.query or parts.fragment:
            raise ServingError(f"{text}: not an address; write {_FORM}")
        version = _version(text, path["model"], path["version"])
        return cls(parts.scheme, host, port or PORTS[parts.scheme], path["model"], version, path["label"] or "")

    @property
    def target(self) -> str:
        """Host and port."""
        return f"{self.host}:{self.port}"

    @property
    def is_rest(self) -> bool:
        """Whether it speaks JSON over HTTP; gRPC otherwise."""
        return self.scheme in ("http", "https")

    @property
    def is_encrypted(self) -> bool:
        """Whether it speaks TLS."""
        return self.scheme in ("grpcs", "https")

    @property
    def is_loopback(self) -> bool:
        """Whether what is sent there stays on this machine."""
        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return self.host == "localhost"

    def at(self, version: int) -> Address:
        """The same model in one version."""
        return dataclasses.replace(self, version=version, label="")

    def __str__(self) -> str:
        which = f"@{self.version}" if self.version is not None else f":{self.label}" if self.label else ""
        return f"{self.scheme}://{self.target}/{self.model}{which}"


def _version(text: str, model: str, version: str | None) -> int | None:
    if version is None:
        return None
    if not (version.isascii() and version.isdecimal()):
        raise ServingError(
            f"{text}: not an address; a version is a number ({model}@3), a label follows a colon: {model}:{version}"
        )
    if len(version) > 19 or int(version) > MAX_VERSION:
        raise ServingError(f"{text}: not an address (no server numbers a version above {MAX_VERSION})")
    return int(version)
