"""Idle connections, which callers keep alive with pings."""

import asyncio

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, PingAckReceived
from h2.exceptions import ProtocolError

from serving import server
from serving.boundary.proxy import Boundary

PINGS = 6


@pytest.mark.parametrize(("apart", "cut"), [(0.03, False), (0.0, True)])
async def test_pings_far_enough_apart_cost_no_connection(
    apart: float, cut: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A caller may ping as often as the server's limit says, and no more often."""
    monkeypatch.setattr(server, "PING_MS", 10)
    serving = server.make_server(Boundary(8), 2**20, 8)
    port = serving.add_insecure_port("127.0.0.1:0")
    await serving.start()
    try:
        async with asyncio.timeout(20):
            assert await is_cut(port, apart) is cut
    finally:
        await serving.stop(None)


async def is_cut(port: int, apart: float) -> bool:
    """Whether a connection is cut for some pings."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    connection = H2Connection(H2Configuration(client_side=True))
    connection.initiate_connection()
    try:
        for number in range(PINGS):
            connection.ping(number.to_bytes(8, "big"))
            writer.write(connection.data_to_send())
            await asyncio.sleep(apart)
        acknowledged = 0
        while acknowledged < PINGS:
            data = await reader.read(2**16)
            events = connection.receive_data(data) if data else []
            if not data or any(isinstance(event, ConnectionTerminated) for event in events):
                return True
            acknowledged += sum(isinstance(event, PingAckReceived) for event in events)
    except (ConnectionError, ProtocolError):  # pings that are answered after the end
        return True
    else:
        return False
    finally:
        writer.close()
