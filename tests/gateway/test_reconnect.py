"""A client meets a server that was away, or that is far away."""

import asyncio
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack

import grpc

from tandem import CatalogClient
from tandem.v1 import candidate_service_pb2 as pb
from tests.processes import PATIENCE

AWAY = 2.0
"""Seconds; after these the pauses between attempts to connect are as long as they get."""


def serve(port: int = 0) -> tuple[grpc.Server, int]:
    """A catalog without items."""
    get_items = grpc.unary_unary_rpc_method_handler(
        lambda _request, _context: pb.GetItemsResponse(),
        pb.GetItemsRequest.FromString,
        pb.GetItemsResponse.SerializeToString,
    )
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_registered_method_handlers("tandem.v1.CandidateService", {"GetItems": get_items})
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    return server, port


def test_the_first_call_after_a_server_came_back_is_answered() -> None:
    def lose_and_find_again(seconds: float) -> None:
        server, port = serve()
        with CatalogClient(f"127.0.0.1:{port}", timeout=PATIENCE) as client:
            client.get_items(["a"])
            server.stop(None).wait()
            time.sleep(seconds)
            server, _ = serve(port)
            client.get_items(["a"])
        server.stop(None).wait()

    # Several, for a client may just be about to connect.
    with ThreadPoolExecutor() as pool:
        list(pool.map(lose_and_find_again, [AWAY, AWAY + 0.2, AWAY + 0.4, AWAY + 0.6]))


async def test_a_server_is_reached_however_long_the_way() -> None:
    """A proxy holds the first bytes of the handshake back."""
    server, port = serve()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(2**16):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(1.5)
        back, forth = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(copy(reader, forth), copy(back, writer), return_exceptions=True)

    async with AsyncExitStack() as stack:
        proxy = await asyncio.start_server(forward, "127.0.0.1", 0, family=socket.AF_INET)
        stack.push_async_callback(proxy.wait_closed)
        stack.callback(proxy.close)
        target = f"127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
        with CatalogClient(target, timeout=PATIENCE) as client:
            await asyncio.to_thread(client.get_items, ["a"])
    await asyncio.to_thread(server.stop(None).wait)
