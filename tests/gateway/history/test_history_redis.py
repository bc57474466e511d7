"""A real Redis that is killed, stopped, full, or comes late."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest
from structlog.testing import capture_logs

import tandem
from core.bundle import Bundle
from core.errors import ResourceExhausted, SettingsError, Unavailable
from gateway.history import BundleHistoryStore, Event, Recorded, Retention
from gateway.history.redis import RedisHistoryStore
from gateway.history.redis.connection import Connection
from gateway.history.store import DAY, now
from gateway.history.upkeep import Upkeep
from tests.gateway.redis_server import RedisServer, opened_redis, redis_flags, redis_server
from tests.gateway.stack import running
from tests.processes import PATIENCE, wait_until
from tests.tiny_bundle import write_tiny_bundle

T = TypeVar("T")

TIMEOUT = 0.25


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as server:
        yield server


def opened(
    server: RedisServer, retention: Retention | None = None, seconds: float = 5.0
) -> AbstractAsyncContextManager[RedisHistoryStore]:
    return opened_redis(server, retention, timeout=seconds)


def events(user: str, count: int, start: int = 0) -> list[Event]:
    return [Event(f"e{n}", user, f"{user}'s {n}", n) for n in range(start, start + count)]


async def refused(store: RedisHistoryStore) -> bool:
    """Whether every operation says at once that Redis is not there."""
    calls = (
        store.record(events("bob", 1)),
        store.history("ann"),
        store.events("ann", 1),
        store.delete("bob"),
        store.seed(),
    )
    failures = await asyncio.gather(*calls, return_exceptions=True)
    return all(
        isinstance(failure, Unavailable) and failure.reason == "HISTORY_UNAVAILABLE"
        for failure in failures
    )


async def answered(call: Callable[[], Awaitable[T]]) -> T:
    """The answer to a call that is made until it has one."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await call()
            except Unavailable:
                continue


async def test_killed_and_back(server: RedisServer) -> None:
    async with opened(server) as store:
        await store.record(events("ann", 3))
        for _ in range(2):
            server.kill()
            assert await refused(store)
            server.start()
            await answered(store.seed)
            assert await store.history("ann") == ("ann's 0", "ann's 1", "ann's 2")
            assert await store.record(events("ann", 3)) == Recorded(known=3)


async def test_stopped_and_back(server: RedisServer) -> None:
    users = [f"user {n}" for n in range(200)]
    async with opened(server, seconds=TIMEOUT) as store:
        for user in users:
            await store.record(events(user, 2))
        server.send(signal.SIGSTOP)
        # More calls than connections: all end in time, those that never had one too.
        calls = [store.history(user) for user in users]
        async with asyncio.timeout(10 * TIMEOUT):
            failures = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(failure) for failure in failures} == {Unavailable}
        server.send(signal.SIGCONT)
        await answered(store.seed)
        # No answer to a call that was given up goes to another. All at once they may be too many
        # for the time that each has, on a busy machine.
        found = await asyncio.gather(*(answered(partial(store.history, user)) for user in users))
        assert found == [(f"{user}'s 0", f"{user}'s 1") for user in users]


async def test_acknowledged_events_survive_its_death(server: RedisServer) -> None:
    acknowledged: list[str] = []

    async def write(store: RedisHistoryStore, writer: int) -> None:
        for n in range(10_000):
            user = f"{writer}-{n}"
            try:
                await store.record(events(user, 2))
            except Unavailable:
                return
            acknowledged.append(user)

    def reached(count: int) -> bool:
        return len(acknowledged) >= count

    async with opened(server) as store:
        for round_ in range(2):
            enough = len(acknowledged) + 150 + 40 * round_
            writers = [asyncio.ensure_future(write(store, 10 * round_ + n)) for n in range(8)]
            await asyncio.to_thread(
                wait_until, partial(reached, enough), "events to be acknowledged"
            )
            server.kill()
            await asyncio.gather(*writers)
            server.start()
            await answered(store.seed)
            for user in acknowledged:
                assert await store.history(user) == (f"{user}'s 0", f"{user}'s 1")


async def fill(store: RedisHistoryStore, acknowledged: list[str]) -> None:
    for n in range(10_000):
        await store.record(events(f"user {n}", 200))
        acknowledged.append(f"user {n}")


async def test_its_memory_is_full(tmp_path: Path) -> None:
    with redis_server(tmp_path, "--maxmemory", "4mb") as server:
        async with opened(server) as store:
            acknowledged: list[str] = []
            with pytest.raises(ResourceExhausted) as caught:
                await fill(store, acknowledged)
            assert caught.value.reason == "HISTORY_FULL"
            assert len(await store.history("user 0") or ()) == 200
            for user in acknowledged[::2]:
                assert await store.delete(user) == 200
            assert await store.record(events("ann", 3)) == Recorded(new=3)


async def test_nothing_of_a_deleted_user_is_left(server: RedisServer) -> None:
    async with opened(server) as store:
        await store.record([*events("ann", 5), *events("bob", 1)])
        await store.delete("ann")
        keys = server.command("keys", "*")
        assert sorted(keys) == [
            "tandem:history:arrivals",
            "tandem:history:deleted",
            "tandem:history:events:bob",
            "tandem:history:ids:bob",
            "tandem:history:key",
            "tandem:history:state:bob",
        ]


async def test_identifiers_stay_when_their_events_are_dropped(server: RedisServer) -> None:
    async with opened(server, Retention(events=3)) as store:
        await store.record(events("ann", 10))
        known = server.command("zrange", "tandem:history:ids:ann", "0", "-1")
        assert known == [f"e{n}" for n in range(10)]


async def test_identifiers_go_when_events_of_their_time_do(server: RedisServer) -> None:
    async with opened(server) as store:
        await store.record([Event(f"e{n}", "ann", "i", now() - n * DAY) for n in range(5)])
    async with opened(server, Retention(events=2, days=2.5)) as store:
        await store.record([Event("e", "ann", "i", now())])
        known = server.command("zrange", "tandem:history:ids:ann", "0", "-1")
        assert known == ["e2", "e1", "e0", "e"]


async def test_identifiers_of_an_earlier_version_are_known(server: RedisServer) -> None:
    async with opened(server) as store:
        await store.record(events("ann", 3))
        server.command("del", "tandem:history:ids:ann")
        server.command("sadd", "tandem:history:ids:ann", "e0", "e1", "e2")
        assert await store.record(events("ann", 4)) == Recorded(new=1, known=3)


async def test_users_expire_by_themselves(server: RedisServer) -> None:
    async with opened(server, Retention(days=2)) as store:
        await store.record([Event("e1", "ann", "i1", now() - DAY)])
        for key in ("events", "ids", "state"):
            (seconds,) = server.command("ttl", f"tandem:history:{key}:ann")
            assert 86_000 < int(seconds) <= 86_400


async def test_one_that_comes_late_is_filled_when_it_does(
    server: RedisServer, tmp_path: Path
) -> None:
    bundle = Bundle.open(write_tiny_bundle(tmp_path))
    server.kill()
    async with opened(server) as store:
        upkeep = Upkeep(store, bundle, Retention())
        with capture_logs() as logs:
            await upkeep.start()
            assert logs[-1]["event"] == "the history store is not ready"
            server.start()
            filled = "filled the history store"
            await asyncio.to_thread(
                wait_until, lambda: any(line["event"] == filled for line in logs), filled
            )
        assert await store.history("ann") == await BundleHistoryStore(bundle).history("ann")
        await upkeep.stop()


async def test_one_that_keeps_nothing_is_warned_of(tmp_path: Path) -> None:
    options = ("--appendonly", "no", "--maxmemory-policy", "allkeys-lru")
    with redis_server(tmp_path, *options) as server:
        async with opened(server) as store:
            with capture_logs() as logs:
                await store.tend()
    assert [line["event"] for line in logs] == [
        "redis loses events when it restarts: set appendonly yes",
        "redis may drop histories: set maxmemory-policy noeviction",
    ]


async def test_a_gateway_says_so_and_recommends_for_given_histories(
    server: RedisServer, tmp_path: Path
) -> None:
    path = write_tiny_bundle(tmp_path)
    async with running(path, **redis_flags(server)) as stack:
        await stack.servicer.warm_up()
        server.kill()
        for call in (
            stack.client.record_events([tandem.event("ann", "i5")]),
            stack.client.get_history("ann"),
            stack.client.delete_user("bob"),
        ):
            with pytest.raises(tandem.Unavailable) as caught:
                await call
            assert caught.value.reason == "HISTORY_UNAVAILABLE"
            assert caught.value.metadata == {"store": "redis"}
        response = await stack.client.recommend(history=["i0"], strategy="embedding")
        assert len(response.recommendations) == 10
        server.start()
        async with asyncio.timeout(30):
            while not await _recorded(stack.client):
                continue
        assert len((await stack.client.get_history("ann")).events) == 4


async def _recorded(client: tandem.AsyncClient) -> bool:
    try:
        await client.record_events([tandem.event("ann", "i5", event_id="e5")])
    except tandem.Unavailable:
        return False
    return True


def test_an_address_that_is_none() -> None:
    with pytest.raises(SettingsError, match="not the address of a Redis"):
        Connection("http://localhost", 1.0)
