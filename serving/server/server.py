"""The parts put together: ports, services, the watch over the models' folders, and an orderly end."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

from musicnet_tf.errors import MusicNetError, ServingError
from serving.server import config_files, loading
from serving.server.grpc_services import ModelService, PredictionService
from serving.server.http_server import HttpServer
from serving.server.metrics import Metrics
from serving.server.models import Models
from serving.server.predict import Requests
from serving.server.rest import RestApi
from serving.server.scheduler import Scheduler
from serving.server.settings import ModelConfig, Settings

GRACE_SECONDS = 30.0
LAST_WORDS_SECONDS = 1.0
_LOG = logging.getLogger(__name__)


class Server:
    """Serves models until it is stopped. Use it in a `with`, or `start` and `stop` it.

    Attributes:
        models: what it serves.
        metrics: its counters.
        grpc_port: on which it listens, once started.
        rest_port: likewise; None where there is no REST.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.models = Models(loading.load, self.metrics, settings.allow_labels_of_unavailable_versions)
        self.grpc_port = 0
        self.rest_port: int | None = None
        self._scheduler = Scheduler(settings.batching, self.metrics)
        self._requests = Requests(self.models, self._scheduler, self.metrics, settings.batching.max_batch_size)
        self._health = health.HealthServicer()
        self._told_of: set[str] = set()
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._grpc: grpc.Server | None = None
        self._rest: HttpServer | None = None

    def start(self) -> None:
        """Takes the ports, loads the models, and answers from then on.

        Raises:
            ConfigError: where a label names a version that is not available.
            ServingError: where a port is taken.
        """
        self._grpc = self._grpc_server()
        if self.settings.rest_api_port is not None:
            api = RestApi(self._requests, self.metrics, self.settings)
            self._rest = HttpServer(
                self.settings.host,
                self.settings.rest_api_port,
                api,
                self.settings.rest_api_num_threads,
                self.settings.rest_api_timeout_ms / 1000,
            )
            self.rest_port = self._rest.port
        self.configure(self.settings.models)
        self._grpc.start()
        if self._rest:
            self._rest.start()
        self._repeat(self.settings.poll_seconds, self._poll)
        if path := self.settings.model_config_file:
            reload = _Reload(path, self.settings.models, self.configure)
            self._repeat(self.settings.model_config_poll_seconds, reload)

    def configure(self, models: Sequence[ModelConfig]) -> None:
        """Serves these models from now on; what stays is not loaded again. Raises ConfigError."""
        self.models.configure(models)
        self._tell_health()

    def stop(self, grace: float = GRACE_SECONDS) -> None:
        """Refuses new requests, lets those that run end for up to `grace` seconds, and closes everything.

        The ports stay open meanwhile, so that who comes is told, and whoever asks for its health too.
        """
        self._stopping.set()
        self._health.enter_graceful_shutdown()
        self._requests.gate.close()
        self._requests.gate.wait_until_empty(grace)
        if self._rest:
            self._rest.stop()
        if self._grpc:  # last answers are still on their way; whoever watches health would never go
            self._grpc.stop(min(grace, LAST_WORDS_SECONDS)).wait()
        for thread in self._threads:
            thread.join()
        self._scheduler.close()
        self.models.close()

    def __enter__(self) -> Server:
        try:
            self.start()
        except BaseException:
            self.stop(0)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _grpc_server(self) -> grpc.Server:
        settings = self.settings
        server = grpc.server(
            ThreadPoolExecutor(settings.grpc_max_threads, thread_name_prefix="grpc"),
            options=[
                ("grpc.so_reuseport", 0),  # or two servers would share a port, each with half of the requests
                ("grpc.max_receive_message_length", settings.max_message_bytes),
                ("grpc.max_send_message_length", -1),
            ],
            maximum_concurrent_rpcs=2 * settings.grpc_max_threads,
        )
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(PredictionService(self._requests), server)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(self._requests), server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        address = f"{host}:{settings.port}"
        try:
            if tls := settings.tls:
                credentials = grpc.ssl_server_credentials(
                    [(tls.key, tls.certificate)], tls.client_authority, tls.client_authority is not None
                )
                self.grpc_port = server.add_secure_port(address, credentials)
            else:
                self.grpc_port = server.add_insecure_port(address)
        except RuntimeError as error:
            doubt = ", or are the certificates no PEM" if settings.tls else ""
            raise ServingError(
                f"{address}: cannot listen there; is the port taken{doubt}? choose another by --port"
            ) from error
        return server

    def _repeat(self, seconds: float, action: Callable[[], None]) -> None:
        if not seconds:
            return

        def repeat() -> None:
            while not self._stopping.wait(seconds):
                try:
                    action()
                except Exception:
                    _LOG.exception("a look at files failed; another follows")

        thread = threading.Thread(target=repeat, name="watch", daemon=True)
        thread.start()
        self._threads.append(thread)

    def _poll(self) -> None:
        self.models.poll()
        self._tell_health()

    def _tell_health(self) -> None:
        """Whether the server as a whole answers, and whether each model does, under its name."""
        told, names = health_pb2.HealthCheckResponse, self.models.names()
        for name in self._told_of | set(names):
            self._health.set(name, told.SERVING if names.get(name) else told.NOT_SERVING)
        self._health.set("", told.SERVING)
        self._told_of = set(names)


class _Reload:
    """Looks whether the file of models has changed, and takes it then; one that is faulty changes nothing."""

    def __init__(
        self, path: Path, models: Sequence[ModelConfig], take: Callable[[Sequence[ModelConfig]], None]
    ) -> None:
        self._path = path
        self._taken = tuple(models)
        self._take = take
        self._stamp: tuple[int, int] | None = None

    def __call__(self) -> None:
        try:
            stat = self._path.stat()
            if (stat.st_mtime_ns, stat.st_size) == self._stamp:
                return
            self._stamp = stat.st_mtime_ns, stat.st_size
            configs = config_files.read_models(self._path)
            if configs != self._taken:
                self._take(configs)
                self._taken = configs
                _LOG.info("%s: taken up", self._path)
        except (MusicNetError, OSError) as error:
            _LOG.error("%s; the models stay as they are until the file changes", error)
