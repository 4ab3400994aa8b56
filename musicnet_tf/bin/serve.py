"""Serve models over gRPC and REST as TensorFlow Serving does, for development.

Examples:
    musicnet serve
    musicnet serve --model_name=notes --model_base_path=exported/notes --port=8500 --rest_api_port=8501
    musicnet serve --model_config_file=serving/models.config --batching_parameters_file=serving/batching.config

Without a model it serves those that come with the program, each by its name and the first of each task by the
task's: `musicnet transcribe song.flac --server=grpc://localhost:8500/notes`. Flags and files are those of
tensorflow_model_server, which serves the same exports in production; serving/README.md shows how. New versions in
a model's folder are taken up while it runs. On SIGTERM or Ctrl-C it lets running requests end and exits with 0.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import app, flags

if TYPE_CHECKING:
    from serving.server import Batching, ModelConfig, Server, Settings

_PORT = flags.DEFINE_integer("port", 8500, "Port of gRPC; 0 for any that is free.", 0, 65535)
_REST_API_PORT = flags.DEFINE_integer(
    "rest_api_port", 8501, "Port of REST; 0 for any that is free, -1 for no REST.", -1, 65535
)
_HOST = flags.DEFINE_string("host", "127.0.0.1", "Address to listen on; 0.0.0.0 lets other machines in.")
_MODEL_NAME = flags.DEFINE_string("model_name", "default", "Name of the one model at --model_base_path.")
_MODEL_BASE_PATH = flags.DEFINE_string("model_base_path", None, "Folder of one model, which holds its versions.")
_MODEL_CONFIG_FILE = flags.DEFINE_string("model_config_file", None, "Models, a ModelServerConfig as text.")
_MODEL_CONFIG_POLL = flags.DEFINE_float(
    "model_config_file_poll_wait_seconds", 0.0, "Seconds between two looks at --model_config_file; 0 for none.", 0.0
)
_FILE_SYSTEM_POLL = flags.DEFINE_float(
    "file_system_poll_wait_seconds", 1.0, "Seconds between two looks for new versions; 0 for none.", 0.0
)
_ANY_LABEL = flags.DEFINE_bool(
    "allow_version_labels_for_unavailable_models", False, "Lets a label name a version that is not there yet."
)
_ENABLE_BATCHING = flags.DEFINE_bool("enable_batching", True, "Runs requests that come together as one.")
_BATCHING_FILE = flags.DEFINE_string("batching_parameters_file", None, "How, BatchingParameters as text.")
_MONITORING_FILE = flags.DEFINE_string(
    "monitoring_config_file", None, "Where counters for Prometheus are, a MonitoringConfig as text."
)
_SSL_FILE = flags.DEFINE_string("ssl_config_file", None, "Certificates for gRPC, an SSLConfig as text.")
_GRPC_MAX_THREADS = flags.DEFINE_integer("grpc_max_threads", 64, "gRPC requests at once.", 1)
_REST_NUM_THREADS = flags.DEFINE_integer("rest_api_num_threads", 32, "REST connections at once.", 1)
_REST_TIMEOUT = flags.DEFINE_integer("rest_api_timeout_in_ms", 30_000, "Longest time for a REST request.", 1)
_INTRA_OP = flags.DEFINE_integer(
    "tensorflow_intra_op_parallelism", 0, "Threads within an operation; 0: a batch thread's share of the cores.", 0
)
_INTER_OP = flags.DEFINE_integer("tensorflow_inter_op_parallelism", 0, "Operations at once; 0: all cores.", 0)
_GRACE = flags.DEFINE_float("grace_seconds", 30.0, "Longest time for running requests when stopped.", 0.0)
_CACHE_DIR = flags.DEFINE_string(
    "cache_dir", None, "Folder for exports of the models that come with the program; the user's cache by default."
)


def main(argv: list[str]) -> int:
    """Serves until it is told to stop."""
    if argv[1:]:
        raise app.UsageError(f"unexpected argument {argv[1]!r}; everything is named by a flag")
    if _MODEL_BASE_PATH.value and _MODEL_CONFIG_FILE.value:
        raise app.UsageError("give --model_base_path or --model_config_file, not both")
    if flags.FLAGS["model_name"].present and not _MODEL_BASE_PATH.value:
        raise app.UsageError("--model_name names the model at --model_base_path, which is not given")
    logging.getLogger("serving").setLevel(logging.INFO)  # of loads and unloads; TensorFlow is too talkative
    logging.getLogger("grpc._common").setLevel(logging.CRITICAL)  # has a stack trace for every malformed message
    from serving.server import Server

    _limit_threads(_batching())
    gc.freeze()  # what was imported stays; going through it for each version that is let go of takes long
    with contextlib.ExitStack() as stack:
        server = Server(_settings(stack))
        stack.callback(server.stop, _GRACE.value)
        server.start()
        with _told_to_stop() as told:
            print(_greeting(server), flush=True)
            told.wait()
    return 0


def _settings(stack: contextlib.ExitStack) -> Settings:
    from serving.server import Settings, config_files

    metrics_path = Settings.metrics_path
    if _MONITORING_FILE.value:
        metrics_path = config_files.read_monitoring(_MONITORING_FILE.value)
    return Settings(
        tls=config_files.read_tls(_SSL_FILE.value) if _SSL_FILE.value else None,
        models=_models(stack),
        host=_HOST.value,
        port=_PORT.value,
        rest_api_port=None if _REST_API_PORT.value < 0 else _REST_API_PORT.value,
        batching=_batching(),
        metrics_path=metrics_path,
        poll_seconds=_FILE_SYSTEM_POLL.value,
        model_config_file=Path(_MODEL_CONFIG_FILE.value) if _MODEL_CONFIG_FILE.value else None,
        model_config_poll_seconds=_MODEL_CONFIG_POLL.value,
        allow_labels_of_unavailable_versions=_ANY_LABEL.value,
        grpc_max_threads=_GRPC_MAX_THREADS.value,
        rest_api_num_threads=_REST_NUM_THREADS.value,
        rest_api_timeout_ms=_REST_TIMEOUT.value,
    )


def _batching() -> Batching:
    from serving.server import Batching, config_files

    if _BATCHING_FILE.value:
        return config_files.read_batching(_BATCHING_FILE.value, _ENABLE_BATCHING.value)
    return Batching(enabled=_ENABLE_BATCHING.value)


def _models(stack: contextlib.ExitStack) -> tuple[ModelConfig, ...]:
    from serving.server import config_files, settings, shipped

    if _MODEL_CONFIG_FILE.value:
        return config_files.read_models(_MODEL_CONFIG_FILE.value)
    if _MODEL_BASE_PATH.value:
        return (settings.single_model(_MODEL_NAME.value, Path(_MODEL_BASE_PATH.value)),)
    return shipped.shipped_models(_cache(stack), _say)


def _cache(stack: contextlib.ExitStack) -> Path:
    """The folder that is asked for, or else the user's cache, or where that cannot be written, a passing one."""
    from musicnet_tf import files
    from musicnet_tf.errors import OutputError
    from serving.server import shipped

    if _CACHE_DIR.value:
        return Path(_CACHE_DIR.value)
    try:
        return files.make_folder(shipped.default_cache())
    except OutputError as error:
        _say(f"{error}; exporting into a temporary folder")
        return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="musicnet_serve_")))


def _limit_threads(batching: Batching) -> None:
    """Shares the cores among the batches that run at once: threads of each for all cores would wait for one another."""
    import tensorflow as tf

    each = max(1, (os.cpu_count() or 1) // batching.num_batch_threads) if batching.enabled else 0
    with contextlib.suppress(RuntimeError):  # where this process has run TensorFlow before, its threads stay
        tf.config.threading.set_intra_op_parallelism_threads(_INTRA_OP.value or each)
        tf.config.threading.set_inter_op_parallelism_threads(_INTER_OP.value)


@contextlib.contextmanager
def _told_to_stop() -> Any:
    """An event that SIGTERM or Ctrl-C sets; a second one ends the process as it would have without us."""
    told = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def stop(*_: Any) -> None:
        restore()
        told.set()

    for number in before:
        signal.signal(number, stop)
    try:
        yield told
    finally:
        restore()


def _greeting(server: Server) -> str:
    ports = f"gRPC on {_HOST.value}:{server.grpc_port}"
    if server.rest_port is not None:
        ports += f", REST on {_HOST.value}:{server.rest_port}"
    models = [f"{name}@{max(versions)}" if versions else name for name, versions in server.models.names().items()]
    return f"musicnet serve: for development, production is TensorFlow Serving; {ports}; models: {', '.join(models)}"


def _say(text: str) -> None:
    print(f"musicnet serve: {text}", flush=True)
