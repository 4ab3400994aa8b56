"""TensorFlow Serving's configuration files, protos as text, as settings of this server.

`tensorflow-serving-api` brings the messages of one of the four alone; the fields of the others are from
`tensorflow_serving/servables/tensorflow/session_bundle_config.proto` and
`tensorflow_serving/config/{monitoring,ssl}_config.proto`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf import text_format, wrappers_pb2
from tensorflow_serving.config import model_server_config_pb2

from musicnet_tf.errors import ConfigError
from musicnet_tf.messages import message_classes
from serving.server.settings import Batching, ModelConfig, Settings, Tls, VersionPolicy

_PACKAGE = "musicnet_tf.serving.server"
_WRAPPED = "google.protobuf.Int64Value"
# As of `message_classes`.
_MESSAGES: dict[str, list[tuple[str, int, str]]] = {
    "BatchingParameters": [
        ("max_batch_size", 1, _WRAPPED),
        ("batch_timeout_micros", 2, _WRAPPED),
        ("max_enqueued_batches", 3, _WRAPPED),
        ("num_batch_threads", 4, _WRAPPED),
        ("thread_pool_name", 5, "google.protobuf.StringValue"),
        ("allowed_batch_sizes", 6, "int64[]"),
        ("pad_variable_length_inputs", 7, "bool"),
    ],
    "PrometheusConfig": [("enable", 1, "bool"), ("path", 2, "string")],
    "MonitoringConfig": [("prometheus_config", 1, "PrometheusConfig")],
    "SSLConfig": [
        ("server_key", 1, "string"),
        ("server_cert", 2, "string"),
        ("custom_ca", 3, "string"),
        ("client_verify", 4, "bool"),
    ],
}


_CLASS = message_classes(_PACKAGE, _MESSAGES, wrappers_pb2.DESCRIPTOR)


def read_models(path: str | Path) -> tuple[ModelConfig, ...]:
    """Models of a ModelServerConfig.

    Raises:
        ConfigError: where the file cannot be read, or asks for what this server does not do.
    """
    message = _parse(path, model_server_config_pb2.ModelServerConfig())
    if message.WhichOneof("config") != "model_config_list":
        raise ConfigError(f"{path}: has no model_config_list")
    return tuple(_model(path, config) for config in message.model_config_list.config)


def read_batching(path: str | Path, enabled: bool = True) -> Batching:
    """Batching as BatchingParameters say; what they leave out is as in `Batching`.

    `allowed_batch_sizes`, `pad_variable_length_inputs` and `thread_pool_name` are taken and change nothing:
    windows of a model are all of one length, and batches of any size run.

    Raises:
        ConfigError: where the file cannot be read, or a number is out of range.
    """
    message = _parse(path, _CLASS["BatchingParameters"]())
    given = {
        name: getattr(message, name).value
        for name, _, kind in _MESSAGES["BatchingParameters"]
        if kind == _WRAPPED and message.HasField(name)
    }
    try:
        return Batching(enabled, **given)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def read_monitoring(path: str | Path) -> str | None:
    """Path of the counters on the REST port as a MonitoringConfig says; None where they are off.

    Raises:
        ConfigError: where the file cannot be read, or the path is none.
    """
    prometheus = _parse(path, _CLASS["MonitoringConfig"]()).prometheus_config
    where = prometheus.path or str(Settings.metrics_path)
    if not where.startswith("/"):
        raise ConfigError(f"{path}: key 'prometheus_config.path': must begin with /, got {where!r}")
    return where if prometheus.enable else None


def read_tls(path: str | Path) -> Tls:
    """Certificates of an SSLConfig, which holds them themselves and no paths of files.

    Raises:
        ConfigError: where the file cannot be read, or lacks one that is needed.
    """
    message = _parse(path, _CLASS["SSLConfig"]())
    needed = ["server_key", "server_cert", *(["custom_ca"] if message.client_verify else [])]
    for name in needed:
        if "-----BEGIN" not in getattr(message, name):
            raise ConfigError(f"{path}: key {name!r}: must hold the PEM text itself, from -----BEGIN on")
    authority = message.custom_ca.encode() if message.client_verify else None
    return Tls(message.server_key.encode(), message.server_cert.encode(), authority)


def _parse(path: str | Path, message: Any) -> Any:
    try:
        return text_format.Parse(Path(path).read_text(encoding="utf-8"), message)
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: not found") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    except text_format.ParseError as error:
        kind = message.DESCRIPTOR.name
        reason = " ".join(str(error).replace(f"{_PACKAGE}.", "").split())
        raise ConfigError(f"{path}: not a {kind}, at line:column {reason}") from error


def _model(path: str | Path, config: Any) -> ModelConfig:
    where = f"{path}: model {config.name!r}"
    if not config.name or not config.base_path:
        raise ConfigError(f"{where}: needs a name and a base_path")
    if config.model_platform not in ("", "tensorflow"):
        raise ConfigError(f"{where}: key 'model_platform': must be \"tensorflow\", got {config.model_platform!r}")
    labels = dict(config.version_labels)
    return ModelConfig(config.name, Path(config.base_path), _policy(where, config.model_version_policy), labels)


def _policy(where: str, policy: Any) -> VersionPolicy:
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        return VersionPolicy(all=True)
    if choice == "specific":
        if not policy.specific.versions:
            raise ConfigError(f"{where}: key 'specific': names no version")
        return VersionPolicy(specific=frozenset(policy.specific.versions))
    return VersionPolicy(latest=policy.latest.num_versions or 1)
