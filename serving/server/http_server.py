"""A WSGI application on a port, with a bounded number of connections."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Any

from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler

from musicnet_tf.errors import ServingError

_IDLE_SECONDS = 30
_FULL_BODY = b'{"error": "the server has all hands occupied"}'
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(_FULL_BODY), _FULL_BODY)
)


class HttpServer:
    """Listens from the moment it is made; answers once started.

    Attributes:
        port: on which it listens.
    """

    def __init__(self, host: str, port: int, app: Any, max_connections: int) -> None:
        """Raises ServingError where the port is taken."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            listening = socket.create_server((host, port), family=family, backlog=128)
        except OSError as error:
            raise ServingError(
                f"{host}:{port}: cannot listen there ({error.strerror}); choose another by --rest_api_port"
            ) from error
        with listening:
            self._server = _Server(host, port, app, max_connections, listening.fileno())
        self.port = self._server.port
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="rest", daemon=True
        )

    def start(self) -> None:
        """Begins to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Takes no more connections."""
        if self._thread.ident:
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()


class _Handler(WSGIRequestHandler):
    """Writes no log of requests, and gives up on clients that say nothing."""

    timeout = _IDLE_SECONDS

    def log(self, type: str, message: str, *args: Any) -> None:
        pass


class _Server(ThreadedWSGIServer):
    def __init__(self, host: str, port: int, app: Any, max_connections: int, fd: int) -> None:
        self._places = threading.BoundedSemaphore(max_connections)
        super().__init__(host, port, app, _Handler, fd=fd)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
            return
        with contextlib.suppress(OSError):
            request.sendall(_FULL)
        self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke is no fault of ours; what the application does wrong, it tells itself."""
