"""A WSGI application on a port, with a bounded number of connections, none of which lasts for as long as it likes."""

from __future__ import annotations

import contextlib
import io
import socket
import threading
import time
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

    def __init__(self, host: str, port: int, app: Any, max_connections: int, seconds: float) -> None:
        """Raises ServingError where the port is taken.

        Args:
            host: address to listen on.
            port: likewise; 0 for any that is free.
            app: what answers.
            max_connections: at once; further ones are refused.
            seconds: within which a request must have come whole.
        """
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            listening = socket.create_server((host, port), family=family, backlog=128)
        except OSError as error:
            reason = (error.strerror or str(error)).partition(" (while")[0]
            raise ServingError(
                f"{host}:{port}: cannot listen there ({reason}); choose another by --rest_api_port"
            ) from error
        with listening:
            self._server = _Server(host, port, app, max_connections, seconds, listening.fileno())
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

    server: _Server
    timeout = _IDLE_SECONDS
    sys_version = ""
    server_version = "musicnet"
    error_content_type = "application/json"
    error_message_format = '{"error": "%(explain)s"}'

    def setup(self) -> None:
        super().setup()
        self.rfile = io.BufferedReader(_Hurried(self.connection, self.server.seconds))

    def log(self, type: str, message: str, *args: Any) -> None:
        pass


class _Hurried(io.RawIOBase):
    """What comes over a connection within some seconds; who sends a byte now and then would keep its place for ever."""

    def __init__(self, connection: socket.socket, seconds: float) -> None:
        self._connection, self._until = connection, time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Raises TimeoutError where the time is over."""
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError("the request took too long to come")
        self._connection.settimeout(min(left, _IDLE_SECONDS))
        try:
            return self._connection.recv_into(buffer)
        finally:
            self._connection.settimeout(_IDLE_SECONDS)


class _Server(ThreadedWSGIServer):
    def __init__(self, host: str, port: int, app: Any, max_connections: int, seconds: float, fd: int) -> None:
        self.seconds = seconds
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
