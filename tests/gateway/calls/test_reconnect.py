"""A client meets a server that was away, or that is far away."""

import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection

import grpc

from tandem import CatalogClient
from tandem.v1 import catalog_service_pb2 as pb
from tests.processes import PATIENCE

AWAY = 2.0
"""Seconds; after these the pauses between attempts to connect are as long as they get."""
HANDSHAKE = 1.5
"""Seconds; longer than a call is tried again."""


def serve(port: int = 0) -> tuple[grpc.Server, int]:
    """A catalog without items."""
    get_items = grpc.unary_unary_rpc_method_handler(
        lambda _request, _context: pb.GetItemsResponse(),
        pb.GetItemsRequest.FromString,
        pb.GetItemsResponse.SerializeToString,
    )
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_registered_method_handlers("tandem.v1.CatalogService", {"GetItems": get_items})
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


def serve_for_good(parent: Connection) -> None:
    server, port = serve()
    parent.send(port)
    server.wait_for_termination()


def test_a_server_is_reached_however_long_the_way() -> None:
    """The kernel takes the connection of a process that is stopped, whose handshake has to wait."""
    spawn = multiprocessing.get_context("spawn")  # gRPC does not survive a fork
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=serve_for_good, args=(theirs,), daemon=True)
    process.start()
    with ours, theirs:
        address = f"127.0.0.1:{ours.recv()}"
    try:
        assert process.pid is not None
        os.kill(process.pid, signal.SIGSTOP)
        going_on = threading.Timer(HANDSHAKE, os.kill, (process.pid, signal.SIGCONT))
        going_on.start()
        with CatalogClient(address, timeout=PATIENCE) as client:
            client.get_items(["a"])
        going_on.join()
    finally:
        process.kill()
        process.join()
