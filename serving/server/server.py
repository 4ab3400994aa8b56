"""The parts put together: ports, services, the watch over the models' folders, and an orderly end."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

import grpc
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

from musicnet_tf.errors import ServingError
from serving.server.grpc_services import ModelService, PredictionService
from serving.server.metrics import Metrics
from serving.server.models import Models
from serving.server.predict import Predictions
from serving.server.scheduler import Scheduler
from serving.server.servable import Servable
from serving.server.settings import Settings

GRACE_SECONDS = 30.0


class Server:
    """Serves models until it is stopped. Use it in a `with`, or `start` and `stop` it.

    Attributes:
        models: what it serves; `models.configure` changes it.
        metrics: its counters.
        grpc_port: on which it listens, once started.
        rest_port: likewise; None where there is no REST.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.models = Models(Servable, self.metrics, settings.allow_labels_of_unavailable_versions)
        self.grpc_port = 0
        self.rest_port: int | None = None
        self._scheduler = Scheduler(settings.batching, self.metrics)
        self._predictions = Predictions(self.models, self._scheduler, settings.batching.max_batch_size)
        self._stopping = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="watch", daemon=True)
        self._grpc: grpc.Server | None = None

    def start(self) -> None:
        """Loads the models, then opens the ports.

        Raises:
            ConfigError: where a label names a version that is not available.
            ServingError: where a port is taken.
        """
        self._grpc = self._grpc_server()
        self.models.configure(self.settings.models)
        self._grpc.start()
        if self.settings.poll_seconds:
            self._watcher.start()

    def stop(self, grace: float = GRACE_SECONDS) -> None:
        """Refuses new requests, lets those that run end for up to `grace` seconds, and closes everything."""
        self._stopping.set()
        if self._grpc:
            self._grpc.stop(grace).wait()
        if self._watcher.ident:
            self._watcher.join()
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
        settings, limit = self.settings, self.settings.max_message_bytes
        server = grpc.server(
            ThreadPoolExecutor(settings.grpc_max_threads, thread_name_prefix="grpc"),
            options=[
                ("grpc.so_reuseport", 0),  # or two servers would share a port, each with half of the requests
                ("grpc.max_receive_message_length", limit),
                ("grpc.max_send_message_length", -1),
            ],
            maximum_concurrent_rpcs=2 * settings.grpc_max_threads,
        )
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            PredictionService(self._predictions, self.metrics), server
        )
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(self._predictions, self.metrics), server)
        address = f"{settings.host}:{settings.port}"
        try:
            self.grpc_port = server.add_insecure_port(address)
        except RuntimeError:
            self.grpc_port = 0
        if not self.grpc_port:
            raise ServingError(f"{address}: cannot listen there; is the port taken? choose another by --port")
        return server

    def _watch(self) -> None:
        while not self._stopping.wait(self.settings.poll_seconds):
            with contextlib.suppress(Exception):
                self.models.poll()
