"""The port on which a process shows its metrics to Prometheus, by HTTP."""

import socket
import socketserver
import threading
from contextlib import suppress
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from core.errors import SettingsError

MAX_READERS: Final = 4
"""Connections at a time; others are closed at once."""
PATIENCE_SECONDS: Final = 5.0
"""For each read and write of a connection."""
POLL_SECONDS: Final = 0.2
"""After which it notices that it is to close."""


class _Handler(WSGIRequestHandler):
    """One request of one reader, not logged: a process is asked every few seconds."""

    timeout = PATIENCE_SECONDS

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Logs nothing."""


class _Server(ThreadingWSGIServer):
    """A thread for each of a few readers."""

    block_on_close = False

    def __init__(self, *arguments: Any) -> None:
        self._room = threading.BoundedSemaphore(MAX_READERS)
        super().__init__(*arguments)

    def server_bind(self) -> None:
        """Binds, without asking a name server for the name of this machine: it may not answer."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answers a reader, if there is room for it."""
        if self._room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Makes room again."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A reader that goes away in the middle is not worth a line."""


class _Server6(_Server):
    """The same, by IPv6."""

    address_family = socket.AF_INET6


class MetricsServer:
    """Shows a registry at `http://HOST:PORT/metrics`.

    Args:
        registry: what is shown.
        host: to listen on.
        port: to listen on; 0 picks one.

    Raises:
        SettingsError: the port is taken, or the address is not one of this machine's.
    """

    def __init__(self, registry: CollectorRegistry, host: str, port: int) -> None:
        bare = host.strip("[]")
        kind = _Server6 if ":" in bare else _Server
        try:
            self._server: WSGIServer = make_server(
                bare, port, make_wsgi_app(registry), kind, _Handler
            )
        except OSError as error:
            raise SettingsError(
                f"cannot show metrics on {host}:{port}; is another server there? "
                f"Choose a free --metrics-port ({error.strerror})"
            ) from error
        self.port: int = self._server.server_port
        """That it listens on."""
        self._thread = threading.Thread(
            target=lambda: self._server.serve_forever(POLL_SECONDS),
            name="tandem-metrics",
            daemon=True,
        )
        self._thread.start()

    def close(self) -> None:
        """Listens no more."""
        with suppress(OSError):
            self._server.shutdown()
        self._server.server_close()
        self._thread.join()
