"""Bytes to messages, one at a time or as a caller streams them.

Messages are parsed here rather than by gRPC, which answers bytes that are no message with INTERNAL:
they are the caller's mistake.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from core.errors import InvalidArgument
from serving.boundary.grpc_types import Context

Parse = Callable[[bytes], Any]


def parse(raw: bytes, read: Parse) -> Any:
    """Reads a message.

    Raises:
        InvalidArgument: reason MALFORMED_MESSAGE.
    """
    try:
        return read(raw)
    except DecodeError as error:
        raise InvalidArgument(
            "the request is not a protobuf message of this method's type "
            "(a string that is not UTF-8 has this effect too)",
            reason="MALFORMED_MESSAGE",
        ) from error


class StreamedRequests:
    """The requests that a caller streams, until it has no more or the server drains."""

    def __init__(self, context: Context, read: Parse, draining: asyncio.Event) -> None:
        self._context = context
        self._read = read
        self._draining = draining
        self.cut_off = False
        """Whether the server ended the stream, and not the caller."""

    async def __aiter__(self) -> AsyncIterator[Any]:
        drained = asyncio.ensure_future(self._draining.wait())
        try:
            while True:
                # Never cancelled: gRPC would go on to write into memory that was freed. A read
                # that is left behind ends with the call.
                reading = asyncio.ensure_future(self._context.read())
                reading.add_done_callback(_forget)
                await asyncio.wait({reading, drained}, return_when=asyncio.FIRST_COMPLETED)
                if not reading.done():
                    self.cut_off = True
                    return
                raw = await reading
                if raw is grpc.aio.EOF:
                    return
                yield parse(raw, self._read)
        finally:
            drained.cancel()


def _forget(reading: "asyncio.Future[Any]") -> None:
    """Takes an outcome that nobody waits for, which asyncio would complain of otherwise."""
    if not reading.cancelled():
        reading.exception()
