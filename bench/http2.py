"""As much of HTTP/2 (RFC 9113), and of gRPC on it, as clients need that no library can be.

A crowd that is sent by a gRPC library costs as much as what it asks for, on the machine that is to
be measured; and no library opens and resets calls as fast as an attacker does.
"""

import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 0x1, 0x1, 0x4
CANCEL: Final = struct.pack(">I", 0x8)

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_LARGEST_WINDOW: Final = 2**31 - 1
_DEFAULT_WINDOW: Final = 65_535
_FRAME_HEADER: Final = 9
_OUR_SETTINGS: Final = struct.pack(
    ">HIHI",
    *(0x1, 0),  # HEADER_TABLE_SIZE: every header comes as plain text
    *(0x4, _LARGEST_WINDOW),  # INITIAL_WINDOW_SIZE
)


@dataclass(frozen=True)
class Frame:
    """A frame that came."""

    kind: int
    flags: int
    stream: int
    payload: bytes


class Connection:
    """A connection to a gRPC server. Its streams are numbered by whoever opens them."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray()
        window = struct.pack(">I", _LARGEST_WINDOW - _DEFAULT_WINDOW)
        self.send(
            _PREFACE + frame(SETTINGS, 0, 0, _OUR_SETTINGS) + frame(WINDOW_UPDATE, 0, 0, window)
        )

    def send(self, data: bytes) -> None:
        """Sends frames."""
        self.socket.sendall(data)

    def frames(self) -> Iterator[Frame]:
        """The frames that have come, without waiting; SETTINGS and PING are answered.

        Raises:
            ConnectionError: the server closed the connection.
        """
        with suppress(BlockingIOError):
            while True:
                read = self.socket.recv(65_536, socket.MSG_DONTWAIT)
                if not read:
                    raise ConnectionResetError("the server closed the connection")
                self._buffer += read
        while (came := self._next()) is not None:
            if came.kind in (SETTINGS, PING) and not came.flags & ACK:
                answer = came.payload if came.kind == PING else b""
                self.send(frame(came.kind, ACK, 0, answer))
            yield came

    def _next(self) -> Frame | None:
        buffer = self._buffer
        size = _FRAME_HEADER + int.from_bytes(buffer[:3], "big")
        if len(buffer) < max(size, _FRAME_HEADER):
            return None
        kind, flags, stream = struct.unpack_from(">BBI", buffer, 3)
        payload = bytes(buffer[_FRAME_HEADER:size])
        del buffer[:size]
        return Frame(kind, flags, stream, payload)

    def close(self) -> None:
        """Closes it."""
        self.socket.close()


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Writes a frame."""
    return len(payload).to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream) + payload


def call(stream: int, headers: bytes, message: bytes) -> bytes:
    """The frames of a unary call: its headers, and its message with the end of the stream."""
    data = b"\0" + len(message).to_bytes(4, "big") + message
    return frame(HEADERS, END_HEADERS, stream, headers) + frame(DATA, END_STREAM, stream, data)


def call_headers(method: str, timeout_seconds: int) -> bytes:
    """The headers of a call, in HPACK (RFC 7541): indexed in its static table, or literal."""
    return b"".join([
        b"\x83",  # :method: POST
        b"\x86",  # :scheme: http
        b"\x04" + _text(method),  # :path
        b"\x01" + _text("localhost"),  # :authority
        b"\x0f\x10" + _text("application/grpc"),  # content-type
        b"\x00" + _text("te") + _text("trailers"),
        b"\x00" + _text("grpc-timeout") + _text(f"{timeout_seconds}S"),
    ])  # fmt: skip


def status_of(trailers: bytes) -> int:
    """The gRPC status in headers that were sent as plain text."""
    key = b"grpc-status"
    start = trailers.index(key) + len(key)
    return int(trailers[start + 1 : start + 1 + trailers[start]])


def _text(value: str) -> bytes:
    return bytes([len(value)]) + value.encode()
