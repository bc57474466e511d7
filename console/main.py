"""The console's process: bind, serve, drain."""

import asyncio
import os
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

import structlog
import uvicorn

from console.app import application
from console.calls.upstreams import Upstreams
from console.settings import ConsoleSettings
from core.errors import SettingsError, TandemError
from serving.files.replacing import replacing
from serving.files.watched import Watched
from serving.security.guard import is_loopback
from serving.security.setup import link_of
from serving.telemetry.logs import configure_logging

log = structlog.get_logger()

BACKLOG: Final = 128
CONNECTIONS_A_REQUEST: Final = 4
"""Open connections for each request that may be in flight: browsers keep some open."""
MAX_HEAD_BYTES: Final = 32 * 2**10
"""Of a request's line and headers; a sealed token in a cookie may take 4 KiB."""


def main(settings: ConsoleSettings) -> None:
    """Serves until SIGTERM or SIGINT.

    Raises:
        SystemExit: with 1, and one line in the log, when it cannot start.
    """
    as_json = settings.log_json if settings.log_json is not None else not sys.stderr.isatty()
    configure_logging("console", settings.log_level, as_json=as_json, stream=sys.stderr)
    try:
        asyncio.run(_serve(settings))
    except TandemError as error:
        log.error("cannot serve", reason=error.reason, error=error.message)  # noqa: TRY400
        raise SystemExit(1) from None


async def _serve(settings: ConsoleSettings) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    if settings.stop_on_eof:
        loop.add_reader(sys.stdin.fileno(), _at_eof, stopping)
    async with serving(settings) as address:
        if settings.port_file is not None:
            with replacing(settings.port_file) as file:
                file.write_text(f"{address.rpartition(':')[2]}\n", encoding="ascii")
        log.info("serving", address=address, gateway=settings.gateway)
        await stopping.wait()
        log.info("draining", seconds=settings.drain_seconds)
    log.info("stopped")


def _at_eof(stopping: asyncio.Event) -> None:
    if not os.read(sys.stdin.fileno(), 1024):
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        stopping.set()


@asynccontextmanager
async def serving(settings: ConsoleSettings) -> AsyncIterator[str]:
    """Serves; yields the address, as in a browser. At the end, what is in flight is answered.

    Raises:
        SettingsError: it cannot listen, or a file cannot be used.
    """
    upstreams = Upstreams(
        settings.targets,
        link_of(settings),
        settings.deadlines,
        certified=settings.service_certificate is not None,
        exposed=not is_loopback(settings.host),
    )
    tls = _tls(settings)
    server = _Server(_config(settings, upstreams, tls))
    listener = bind(settings)
    running = asyncio.create_task(server.serve([listener]))
    try:
        while not (server.started or running.done()):  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.01)
        scheme, port = ("https" if tls else "http"), listener.getsockname()[1]
        if not (settings.tls_certificate or is_loopback(settings.host)):
            log.warning("keys come in the clear: there is no --tls-certificate")
        yield f"{scheme}://{settings.host}:{port}"
    finally:
        server.should_exit = True
        await running
        await upstreams.close()


def _config(
    settings: ConsoleSettings, upstreams: Upstreams, tls: ssl.SSLContext | None
) -> uvicorn.Config:
    return uvicorn.Config(
        application(settings, upstreams),
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        http="h11",
        proxy_headers=False,
        server_header=False,
        limit_concurrency=settings.max_concurrent_requests * CONNECTIONS_A_REQUEST,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        timeout_graceful_shutdown=max(1, round(settings.drain_seconds)),
        reset_contextvars=True,
        ssl_context_factory=(lambda *_: tls) if tls else None,
    )


class _Server(uvicorn.Server):
    """A server that leaves signals to the process."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def bind(settings: ConsoleSettings) -> socket.socket:
    """Listens.

    Raises:
        SettingsError: the port is taken, or the address is not one of this machine's.
    """
    bare = settings.host.strip("[]")
    family = socket.AF_INET6 if ":" in bare else socket.AF_INET
    # The protocol is named, because asyncio sends at once (TCP_NODELAY) only where it is.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((bare, settings.port))
    except OSError as error:
        listener.close()
        raise SettingsError(
            f"cannot listen on {settings.host}:{settings.port}; is another server there? "
            f"Choose a free --port ({error.strerror})"
        ) from error
    listener.listen(BACKLOG)
    return listener


def _tls(settings: ConsoleSettings) -> ssl.SSLContext | None:
    if settings.tls_certificate is None and settings.tls_key is None:
        return None
    if settings.tls_certificate is None or settings.tls_key is None:
        raise SettingsError("TLS needs both --tls-certificate and --tls-key")
    files = (settings.tls_certificate, settings.tls_key)
    watched = Watched(files, lambda *_: _context(*files))
    context = watched.current()

    def newest(connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = watched.current()  # called at each handshake, whatever its name says

    context.sni_callback = newest
    return context


def _context(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, key)
    except OSError as error:  # ssl's own are of these
        raise ValueError(f"they do not belong together ({error})") from error
    return context
