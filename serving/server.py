"""The life of a server: bind, load, warm, serve, drain.

The port is bound before the bundle is loaded, so that health checks answer NOT_SERVING, rather
than being refused, while it loads; calls that come too early are UNAVAILABLE, reason WARMING_UP.
"""

import asyncio
import contextlib
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
import structlog
from grpc_channelz.v1 import channelz, channelz_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection
from prometheus_client import CollectorRegistry

from core.errors import SettingsError, TandemError
from core.signature import read_public_key
from serving.boundary.grpc_types import Method
from serving.boundary.proxy import Boundary
from serving.bundles.held import HeldBundles
from serving.bundles.named import NamedBundle, NamedBundles, chosen, named_in
from serving.bundles.servicer import BundleServicer
from serving.files.replacing import replacing
from serving.security.guard import Quotas, is_loopback
from serving.security.setup import guard_of, server_tls
from serving.security.tls import CONNECTION_SECONDS, HANDSHAKE_SECONDS
from serving.settings import ServerSettings
from serving.telemetry.logs import configure_logging
from serving.telemetry.process import Telemetry
from tandem.v1 import bundle_service_pb2, bundle_service_pb2_grpc

log = structlog.get_logger()

PING_MS: Final = 5_000
"""How far apart the pings of an idle connection must be; callers send one every ten seconds."""
SWITCH_SECONDS: Final = 1e-4
"""How long a thread that loads, writes or prepares keeps the interpreter from the event loop: a
fiftieth of Python's default, which callers would notice."""
FLUSH_SECONDS: Final = 0.1
"""How long streams of health watchers, which never end, may hold up a drained server."""


@dataclass(frozen=True)
class Api:
    """A protobuf service of a process."""

    name: str
    """Its full name."""
    attach: Callable[[Any, grpc.aio.Server], None]
    """The generated `add_…Servicer_to_server`."""
    part: Callable[[Any], object] = lambda servicer: servicer
    """Takes what answers its methods from what `NamedBundle.load` made."""


@dataclass(frozen=True)
class Service:
    """What a process serves."""

    process: str
    """The name of the process in the logs."""
    apis: Sequence[Api]
    """Its protobuf services, whose health is one."""
    bundles: Mapping[str, NamedBundle]
    """What is served, by the names that calls give it; most processes have one, whose name is
    empty."""
    close: Callable[[], Awaitable[None]] | None = None
    """Releases what all versions share; called when all of them are closed."""
    quotas: Quotas | None = None
    """Counts the calls of those who have a quota."""
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    """Where its metrics are; the server adds its own."""


class ServicerProxy:
    """Stands in for the servicers of one API in a server that already runs.

    gRPC fixes a server's methods when it starts. The proxy is registered in place of a servicer,
    and passes each call on to that of the version that is to answer it.

    Args:
        api: whose methods are called.
        held: the versions of each bundle, by name.
    """

    def __init__(self, api: Api, held: Mapping[str, HeldBundles]) -> None:
        self._api = api
        self._held = held

    def __getattr__(self, rpc: str) -> Method:
        def call(request: Any, context: Any) -> Any:
            held = chosen(self._held, named_in(request)).of(context)
            held.calls.enter(context)
            return getattr(self._api.part(held.servicer), rpc)(request, context)

        return call


class ServiceHost:
    """A gRPC server with health, reflection and a graceful end, around what a process serves."""

    def __init__(self, settings: ServerSettings, service: Service) -> None:
        self._settings = settings
        self._service = service
        guard = guard_of(settings, service.quotas)
        self._bundles = NamedBundles(
            service.bundles,
            lambda servicer: self._boundary.shedder.consult(servicer),
            read_public_key(settings.bundle_key) if settings.bundle_key else None,
        )
        self.telemetry = Telemetry(
            service.process, settings, service.registry, self._bundles.states
        )
        """How the process is seen."""
        self._boundary = Boundary(
            settings.max_concurrent_rpcs, guard=guard, calls=self.telemetry.calls
        )
        self._health = health_aio.HealthServicer()
        self._server = make_server(
            self._boundary,
            settings.max_message_bytes,
            settings.max_connection_calls,
            CONNECTION_SECONDS if settings.tls_client_authority else None,
        )
        for api in service.apis:
            api.attach(ServicerProxy(api, self._bundles.held), self._server)
        bundle_service_pb2_grpc.add_BundleServiceServicer_to_server(
            BundleServicer(self._bundles), self._server
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        health_name = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
        bundles = bundle_service_pb2.DESCRIPTOR.services_by_name["BundleService"].full_name
        names = (*self._names, bundles, health_name, reflection.SERVICE_NAME)
        if settings.channelz:
            channelz.add_channelz_servicer(self._server)
            names += (channelz_pb2.DESCRIPTOR.services_by_name["Channelz"].full_name,)
        reflection.enable_server_reflection(names, self._server)

    @property
    def _names(self) -> list[str]:
        return [api.name for api in self._service.apis]

    async def start(self) -> int:
        """Binds the port and answers health checks with NOT_SERVING. Returns the port.

        Raises:
            SettingsError: a port is taken, an address is not one of this machine's, or files of TLS
                cannot be used.
        """
        await asyncio.to_thread(self.telemetry.start)
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        address = f"{self._settings.host}:{self._settings.port}"
        credentials = server_tls(self._settings)
        try:
            if credentials is None:
                port = self._server.add_insecure_port(address)
            else:
                port = self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise SettingsError(
                f"cannot listen on {address}; is another server there? Choose a free --port"
            ) from error
        await self._server.start()
        if self._settings.port_file is not None:
            with replacing(self._settings.port_file) as file:
                file.write_text(f"{port}\n", encoding="ascii")
        secured = credentials is not None
        log.info("listening", host=self._settings.host, port=port, tls=secured)
        if self._settings.keys_file is None and not is_loopback(self._settings.host):
            log.warning("protected calls are refused: there is no --keys-file")
        return port

    async def load(self) -> None:
        """Loads and warms the bundles that the settings name, and lets calls through to them.

        Raises:
            TandemError: one must not be served.
        """
        await self._bundles.start()

    async def ready(self) -> None:
        """Announces that it serves."""
        # What was loaded stays: the collector must not walk it during a request (100 ms stalls).
        gc.collect()
        gc.freeze()
        await self._set_health(health_pb2.HealthCheckResponse.SERVING)
        log.info("serving", services=self._names)

    async def drain(self) -> None:
        """Turns new calls away, lets those in flight end, and closes the servicer.

        What is not answered after `drain_seconds` is cancelled.
        """
        log.info("draining", seconds=self._settings.drain_seconds)
        await self._health.enter_graceful_shutdown()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._boundary.in_flight.drain(), self._settings.drain_seconds)
        await self._boundary.in_flight.hold_refusals()
        await self._server.stop(FLUSH_SECONDS)
        await self._bundles.close()
        if self._service.close is not None:
            await self._service.close()
        if self._service.quotas is not None:
            await self._service.quotas.close()
        await asyncio.to_thread(self.telemetry.close)
        log.info("stopped")

    async def _set_health(self, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        for name in ("", *self._names):
            await self._health.set(name, status)


def make_server(
    boundary: Boundary,
    max_message_bytes: int,
    max_connection_calls: int,
    max_connection_seconds: int | None = None,
) -> grpc.aio.Server:
    """Makes a server without services, in the way that all of Tandem's are.

    Args:
        boundary: what calls go through.
        max_message_bytes: of a request.
        max_connection_calls: of one connection at a time; gRPC refuses others with UNAVAILABLE.
            Calls that Python has not got rid of yet count too: so a caller that opens calls and
            resets them at once cannot fill the queue, and an honest one must stay below the limit.
        max_connection_seconds: after which a caller has to connect anew, without losing a call.
    """
    aged = max_connection_seconds and ("grpc.max_connection_age_ms", max_connection_seconds * 1_000)
    return grpc.aio.server(
        interceptors=[boundary],
        options=[
            ("grpc.max_receive_message_length", max_message_bytes),
            ("grpc.max_concurrent_streams", max_connection_calls),
            ("grpc.server_handshake_timeout_ms", HANDSHAKE_SECONDS * 1_000),
            ("grpc.so_reuseport", 0),  # a second server on the port is a mistake, not a helper
            # Callers ping to find a dead connection; without this they would be cut off for it.
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", PING_MS),
            *([aged] if aged else []),
        ],
    )


def run(service: Service, settings: ServerSettings) -> None:
    """Runs a server until SIGTERM or SIGINT; the whole of a process.

    Raises:
        SystemExit: with 1, and one line in the log, when it cannot start.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    as_json = settings.log_json if settings.log_json is not None else not sys.stderr.isatty()
    configure_logging(service.process, settings.log_level, as_json=as_json, stream=sys.stderr)
    try:
        asyncio.run(serve(service, settings))
    except TandemError as error:
        log.error("cannot serve", reason=error.reason, error=error.message)  # noqa: TRY400
        raise SystemExit(1) from None


async def serve(service: Service, settings: ServerSettings) -> None:
    """Lives through `start`, `ready` and `drain`.

    Until the service is ready, SIGTERM has its default effect: nothing is in flight.

    Raises:
        SettingsError: it cannot listen.
        BundleError: the bundle must not be served.
    """
    host = ServiceHost(settings, service)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, host.telemetry.dump)
    await host.start()
    if settings.stop_on_eof:
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), _stop_at_eof)
    try:
        await host.load()
        stopping = _termination()
        await host.ready()
        await stopping.wait()
    finally:
        await host.drain()


def _termination() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set."""
    event = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, event.set)
    return event


def _stop_at_eof() -> None:
    if not os.read(sys.stdin.fileno(), 1024):
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        os.kill(os.getpid(), signal.SIGTERM)
