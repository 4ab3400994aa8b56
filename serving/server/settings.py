"""What a server serves, where, and within which limits."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from musicnet_tf import inference
from musicnet_tf.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class VersionPolicy:
    """Which of the versions in a model's folder are served.

    Attributes:
        latest: that many with the highest numbers.
        specific: those with these numbers, instead.
        all: every one, instead.
    """

    latest: int = 1
    specific: frozenset[int] = frozenset()
    all: bool = False

    def choose(self, versions: Iterable[int]) -> set[int]:
        """Those of `versions` that are to be served."""
        found = set(versions)
        if self.all:
            return found
        if self.specific:
            return found & self.specific
        return set(sorted(found)[-self.latest :])


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """A model to serve.

    Attributes:
        name: in addresses and requests.
        base_path: folder that holds its versions, each a SavedModel in a folder named by a number.
        policy: which of them.
        labels: label → version.
        aliases: further names for the same model.
    """

    name: str
    base_path: Path
    policy: VersionPolicy = VersionPolicy()
    labels: Mapping[str, int] = dataclasses.field(default_factory=dict)
    aliases: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All names that it goes by."""
        return (self.name, *self.aliases)


@dataclasses.dataclass(frozen=True)
class Batching:
    """How requests are joined; the parameters are those of TensorFlow Serving's `BatchingParameters`.

    Attributes:
        enabled: whether requests are joined at all.
        max_batch_size: windows in one batch, and so the most that one request may hold.
        batch_timeout_micros: longest time for which the first request of a batch waits for others, which it
            does only while others are to be expected.
        max_enqueued_batches: requests beyond that many full batches are refused.
        num_batch_threads: batches that run at once.
    """

    enabled: bool = True
    max_batch_size: int = 64
    batch_timeout_micros: int = 2000
    max_enqueued_batches: int = 64
    num_batch_threads: int = dataclasses.field(default_factory=lambda: os.cpu_count() or 1)

    def __post_init__(self) -> None:
        for name in ("max_batch_size", "max_enqueued_batches", "num_batch_threads"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: must be at least 1, got {getattr(self, name)}")
        if self.batch_timeout_micros < 0:
            raise ConfigError(f"batch_timeout_micros: must not be negative, got {self.batch_timeout_micros}")


@dataclasses.dataclass(frozen=True)
class Tls:
    """Certificates of the gRPC port, PEM.

    Attributes:
        key: private key of the server.
        certificate: its certificate and those that lead to the root.
        client_authority: root of the certificates that clients show; None where they need none.
    """

    key: bytes = dataclasses.field(repr=False)
    certificate: bytes
    client_authority: bytes | None = None


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything about a server.

    Attributes:
        models: what it serves.
        host: address of the interface that it listens on.
        port: of gRPC; 0 for any that is free.
        rest_api_port: of REST; 0 for any that is free, None for no REST.
        batching: how requests are joined.
        tls: certificates of the gRPC port; None for a connection in the clear.
        metrics_path: where on the REST port Prometheus finds the counters; None for nowhere.
        poll_seconds: between two looks into the models' folders; 0 for one look at the start alone.
        model_config_file: from which `models` were read, to be read again when it changes.
        model_config_poll_seconds: between two looks at it; 0 for none.
        allow_labels_of_unavailable_versions: whether a label may name a version that is not there.
        grpc_max_threads: gRPC requests at once; as many again wait, further ones are refused.
        rest_api_num_threads: REST connections at once; further ones are refused.
        rest_api_timeout_ms: longest time that a REST request may take to come, and then to be answered.
        max_message_bytes: size of a gRPC message.
        max_json_bytes: size of a REST request.
    """

    models: tuple[ModelConfig, ...]
    host: str = "127.0.0.1"
    port: int = 8500
    rest_api_port: int | None = 8501
    batching: Batching = dataclasses.field(default_factory=Batching)
    tls: Tls | None = None
    metrics_path: str | None = "/monitoring/prometheus/metrics"
    poll_seconds: float = 1.0
    model_config_file: Path | None = None
    model_config_poll_seconds: float = 0.0
    allow_labels_of_unavailable_versions: bool = False
    grpc_max_threads: int = 64
    rest_api_num_threads: int = 32
    rest_api_timeout_ms: int = 30_000
    max_message_bytes: int = 64 * 2**20
    max_json_bytes: int = 16 * 2**20

    def __post_init__(self) -> None:
        check_models(self.models)


def check_models(models: Iterable[ModelConfig]) -> None:
    """Raises ConfigError where two models share a name, or one has none."""
    seen: set[str] = set()
    for name in (name for model in models for name in model.names):
        if not name or name in seen:
            raise ConfigError(f"model {name!r}: is named twice" if name else "a model has no name")
        seen.add(name)


def single_model(name: str, base_path: Path) -> ModelConfig:
    """The newest version of one model.

    Raises:
        ConfigError: where the folder is not there, or is a version itself.
    """
    if not base_path.is_dir():
        raise ConfigError(f"{base_path}: no such folder; name the one that holds the model's versions")
    if (base_path / inference.SAVED_MODEL).exists():
        raise ConfigError(f"{base_path}: is a version itself; name the folder above it")
    return ModelConfig(name, base_path)
