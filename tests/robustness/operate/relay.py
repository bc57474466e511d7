"""What stands between a client and a server, and cuts connections at random."""

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

_RESET: Final = struct.pack("ii", 1, 0)
"""A linger of no time: the connection ends with a reset, and what was under way is lost."""
_BYTES: Final = 2**16


class Relay:
    """Passes the bytes of each connection on, in both directions, until it is cut."""

    def __init__(self, target: str, seed: int) -> None:
        host, _, port = target.rpartition(":")
        self._target = host, int(port)
        self._rng = random.Random(seed)  # noqa: S311 - no secret
        self._connections: dict[asyncio.StreamWriter, asyncio.Task[None] | None] = {}
        self.address = ""
        self.cuts = 0

    def cut(self) -> None:
        """Cuts a connection, as a client does that is killed, or one whose machine is."""
        open_ones = [each for each in self._connections if not each.is_closing()]
        if not open_ones:
            return
        ends = self._rng.choice(open_ones)
        if self._rng.random() < 0.5:
            sock = ends.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        ends.transport.abort()
        self.cuts += 1

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection; it ends when either side does."""
        to_reader, to_writer = await asyncio.open_connection(*self._target)
        self._connections[to_writer] = asyncio.current_task()
        passing = [
            asyncio.create_task(_pass_on(reader, to_writer)),
            asyncio.create_task(_pass_on(to_reader, writer)),
        ]
        try:
            await asyncio.wait(passing, return_when=asyncio.FIRST_COMPLETED)
            for each in (writer, to_writer):
                each.transport.abort()
            await asyncio.wait(passing)
        finally:
            del self._connections[to_writer]

    async def close(self) -> None:
        """Cuts all connections, and waits until they are gone."""
        for ends in self._connections:
            ends.transport.abort()
        await asyncio.gather(*filter(None, self._connections.values()))


@asynccontextmanager
async def relaying(target: str, seed: int) -> AsyncIterator[Relay]:
    """A relay to an address, on a port of its own."""
    relay = Relay(target, seed)
    server = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
    relay.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield relay
    finally:
        server.close()
        await relay.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):  # it is cut
        while data := await reader.read(_BYTES):
            writer.write(data)
            await writer.drain()
