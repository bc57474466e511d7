"""What the gateway's tests share."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.redis_server import RedisServer, redis_flags, redis_server
from tests.gateway.stack import Stack, running
from tests.tiny_bundle import write_tiny_bundle


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    async with running(write_tiny_bundle(tmp_path)) as stack:
        yield stack


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(params=["sqlite", "redis"])
def history_flags(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """The settings of a gateway with an empty store, of each kind."""
    if request.param == "sqlite":
        return {"history": str(tmp_path / "history.sqlite")}
    server: RedisServer = request.getfixturevalue("redis")
    server.command("FLUSHALL")
    return redis_flags(server, tmp_path)
