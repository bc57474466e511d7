"""A servicer behind a real server in this process, for tests."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc

from runtime.interceptors import Boundary
from runtime.server import make_server


@asynccontextmanager
async def serving(
    servicer: object,
    attach: Callable[[Any, grpc.aio.Server], None],
    *,
    max_concurrent_rpcs: int = 256,
    max_message_bytes: int = 8 * 2**20,
) -> AsyncIterator[grpc.aio.Channel]:
    """Serves a servicer on a free port of the loopback, with the boundary that all servers have.

    Args:
        servicer: implements a generated base class.
        attach: the generated `add_…Servicer_to_server`.
        max_concurrent_rpcs: as in `ServerSettings`.
        max_message_bytes: as in `ServerSettings`.

    Yields:
        A channel to it.
    """
    server = make_server(Boundary(max_concurrent_rpcs), max_message_bytes)
    attach(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        await server.stop(None)
