"""How a client deals with a server: patience, limits, and what it shows of itself."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from musicnet_tf.errors import ConfigError
from musicnet_tf.inference import MAX_BATCH

TIMEOUT = 60.0
COMPRESSIONS = ("none", "gzip")


@dataclasses.dataclass(frozen=True)
class Options:
    """How a client deals with a server. Everything has a default that suits a server nearby.

    Attributes:
        timeout: seconds that the server may take for one message.
        total_timeout: seconds for one message with its retries; a server that comes back within them is none
            that failed.
        connect_timeout: the same for the first message, where a wrong address is likelier than a restart.
        in_flight: messages that wait for their answers at once.
        max_windows: windows in one message; a server that batches takes no more than its `max_batch_size`.
        max_message_bytes: of one message; by default what gRPC servers take, less room for what is not samples.
            One window alone is sent, whatever its size. Where a server takes less, messages are split further.
        max_answer_bytes: of one answer; a larger one is not read.
        compression: of messages, `none` or `gzip`. Audio hardly shrinks: of use on slow connections alone.
        ca_file: certificates (PEM) that the server's must be signed by; by default those that gRPC, or for
            HTTPS this machine, trusts.
        certificate_file: this client's own certificate (PEM), where the server asks for one.
        key_file: the private key (PEM) of that certificate.
        token_file: holds a bearer token, read again for each message, as tokens are renewed.
        token_variable: name of an environment variable that holds the token instead.
    """

    timeout: float = TIMEOUT
    total_timeout: float = 300.0
    connect_timeout: float = 10.0
    in_flight: int = 4
    max_windows: int = MAX_BATCH
    max_message_bytes: int = 4 * 2**20 - 2**12
    max_answer_bytes: int = 64 * 2**20
    compression: str = "none"
    ca_file: str | Path | None = None
    certificate_file: str | Path | None = None
    key_file: str | Path | None = None
    token_file: str | Path | None = None
    token_variable: str | None = None

    def __post_init__(self) -> None:
        """Raises ConfigError where values are out of range or do not go together."""
        for name in ("timeout", "total_timeout", "connect_timeout"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ConfigError(f"{name}={getattr(self, name)}: expected seconds above 0")
        for name in ("in_flight", "max_windows", "max_message_bytes", "max_answer_bytes"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)}: expected at least 1")
        if self.compression not in COMPRESSIONS:
            raise ConfigError(f"compression={self.compression}: choose from {', '.join(COMPRESSIONS)}")
        if bool(self.certificate_file) != bool(self.key_file):
            raise ConfigError("a client's certificate and its key are given together or not at all")
        if self.token_file and self.token_variable:
            raise ConfigError("give the token in a file or in an environment variable, not both")
