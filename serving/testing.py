"""Real servers in this process, for tests."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc

from serving.boundary.proxy import Boundary
from serving.security.guard import Guard
from serving.server import Service, ServiceHost, make_server
from serving.settings import ServerSettings
from serving.telemetry.calls import ServedCalls


@asynccontextmanager
async def listening(
    servicer: object,
    attach: Callable[[Any, grpc.aio.Server], None],
    *,
    max_concurrent_rpcs: int = 256,
    max_message_bytes: int = 8 * 2**20,
    max_connection_calls: int = 256,
    guard: Guard | None = None,
    tls: grpc.ServerCredentials | None = None,
    calls: ServedCalls | None = None,
) -> AsyncIterator[str]:
    """Serves a servicer on a free port of the loopback, behind the boundary that all servers have.

    Args:
        servicer: implements a generated base class.
        attach: the generated `add_…Servicer_to_server`.
        max_concurrent_rpcs: as in `ServerSettings`.
        max_message_bytes: as in `ServerSettings`.
        max_connection_calls: as in `ServerSettings`.
        guard: decides who may call.
        tls: the server's side of TLS; None listens in the clear.
        calls: is told of every call.

    Yields:
        Its address.
    """
    boundary = Boundary(max_concurrent_rpcs, guard=guard, calls=calls)
    boundary.shedder.consult(servicer)
    server = make_server(boundary, max_message_bytes, max_connection_calls)
    attach(servicer, server)
    address = "127.0.0.1:0"
    port = server.add_secure_port(address, tls) if tls else server.add_insecure_port(address)
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


@asynccontextmanager
async def serving(
    servicer: object,
    attach: Callable[[Any, grpc.aio.Server], None],
    *,
    max_concurrent_rpcs: int = 256,
    max_message_bytes: int = 8 * 2**20,
    max_connection_calls: int = 256,
    calls: ServedCalls | None = None,
) -> AsyncIterator[grpc.aio.Channel]:
    """As `listening`, but yields a channel to it."""
    async with (
        listening(
            servicer,
            attach,
            max_concurrent_rpcs=max_concurrent_rpcs,
            max_message_bytes=max_message_bytes,
            max_connection_calls=max_connection_calls,
            calls=calls,
        ) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        yield channel


@asynccontextmanager
async def hosted(
    settings: ServerSettings, service: Service
) -> AsyncIterator[tuple[ServiceHost, str]]:
    """What a process serves, warm: the host and its address."""
    host = ServiceHost(settings, service)
    port = await host.start()
    try:
        await host.load()
        await host.ready()
        yield host, f"127.0.0.1:{port}"
    finally:
        await host.drain()
