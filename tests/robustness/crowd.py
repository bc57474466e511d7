"""A client that opens thousands of streams over many connections, and keeps them."""

import socket
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final

import grpc
from google.protobuf.message import Message
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived, StreamReset, TrailersReceived

from bench.lib.resets import connected, open_call
from tests.processes import PATIENCE

SECONDS: Final = 600
"""That each stream may take."""
_CODES: Final = {str(code.value[0]): code.name for code in grpc.StatusCode}


@contextmanager
def crowd(
    address: str, method: str, request: Message, connections: int, streams: int
) -> Iterator[Counter[str]]:
    """Opens streams, sends one request on each, and keeps all of them for as long as the block.

    Args:
        address: of the server.
        method: of streams of answers.
        request: to send.
        connections: how many.
        streams: on each connection.

    Yields:
        How many streams had an answer (`ANSWERED`), and how many were refused with each code.
    """
    message = request.SerializeToString()
    framed = b"\0" + len(message).to_bytes(4, "big") + message
    fates: Counter[str] = Counter()
    with ExitStack() as opened:
        for _ in range(connections):
            wire, connection = opened.enter_context(connected(address))
            wire.settimeout(PATIENCE)
            for _ in range(streams):
                connection.send_data(open_call(connection, SECONDS, method), framed)
            fates.update(_fates(wire, connection, streams).values())
        yield fates


def _fates(wire: socket.socket, connection: H2Connection, streams: int) -> dict[int, str]:
    """What became of each stream of a connection: its first answer, or the code of its end."""
    fates: dict[int, str] = {}
    while len(fates) < streams:
        wire.sendall(connection.data_to_send())
        if not (came := wire.recv(2**16)):
            raise ConnectionError(f"cut off after {len(fates)} of {streams} streams")
        for each in connection.receive_data(came):
            match each:
                case DataReceived(stream_id=int(stream)):
                    connection.acknowledge_received_data(each.flow_controlled_length or 0, stream)
                    fates.setdefault(stream, "ANSWERED")
                case StreamReset(stream_id=int(stream)):
                    fates.setdefault(stream, "RESET")
                case (
                    ResponseReceived(stream_id=int(stream))
                    | TrailersReceived(stream_id=int(stream))
                ):
                    if code := _code(each.headers or ()):
                        fates.setdefault(stream, code)
    wire.sendall(connection.data_to_send())
    return fates


def _code(headers: Sequence[tuple[bytes, bytes]]) -> str | None:
    found = dict(headers).get(b"grpc-status")
    return None if found is None else _CODES[found.decode()]
