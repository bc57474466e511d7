"""Reading from a real Redis: what it takes, what others write, and what 0.1.0 wrote."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.history import Event, Recorded, Retention
from gateway.history.redis import RedisHistoryStore
from gateway.history.store import DAY, now
from tests.gateway.redis_server import RedisServer, opened_redis, redis_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
async def stores(
    server: RedisServer, tmp_path: Path
) -> AsyncIterator[tuple[RedisHistoryStore, RedisHistoryStore]]:
    """Those of two gateways."""
    server.command("FLUSHALL")
    async with (
        opened_redis(server, None, tmp_path, timeout=30) as one,
        opened_redis(server, None, tmp_path, timeout=30) as other,
    ):
        yield one, other


def event(number: int, user: str = "ann", time: int | None = None) -> Event:
    return Event(f"event {number}", user, f"i{number}", number if time is None else time)


def sent(server: RedisServer) -> int:
    """Bytes that Redis has sent."""
    (line,) = (line for line in server.command("INFO", "stats") if "total_net_output" in line)
    return int(line.rpartition(":")[2])


async def test_a_long_history_is_read_in_few_bytes(
    server: RedisServer,
    stores: tuple[RedisHistoryStore, RedisHistoryStore],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    writer, reader = stores
    events = [Event(f"{n:036}", "ann", f"item_{n:04}", n) for n in range(1_000)]
    await writer.record(events)
    await reader.seed()
    monkeypatch.delattr("json.loads")  # nothing is decoded event by event
    overhead = -sent(server) + sent(server)  # what asking for the number sends
    before = sent(server)
    assert await reader.history("ann") == tuple(event.item_id for event in events)
    assert sent(server) - before - overhead < 1_000 * len("item_0000 ") + 2_000
    before = sent(server)
    for _ in range(24):
        assert len(await reader.history("ann") or ()) == 1_000
    assert sent(server) - before - overhead < 24 * 100


async def test_another_gateways_write_is_seen(
    stores: tuple[RedisHistoryStore, RedisHistoryStore],
) -> None:
    one, other = stores
    await one.record([event(2)])
    assert [await store.history("ann") for store in stores] == [("i2",)] * 2
    await other.record([event(1)])
    assert [await store.history("ann") for store in stores] == [("i1", "i2")] * 2
    assert await other.record([event(1)]) == Recorded(known=1)
    await one.delete("ann")
    assert [await store.history("ann") for store in stores] == [None] * 2
    await other.record([event(2)])
    assert [await store.history("ann") for store in stores] == [("i2",)] * 2


async def test_what_is_in_memory_goes_with_a_flush(
    server: RedisServer, stores: tuple[RedisHistoryStore, RedisHistoryStore]
) -> None:
    one, _ = stores
    await one.record([event(1)])
    assert [await store.history("ann") for store in stores] == [("i1",)] * 2
    server.command("FLUSHALL")
    await one.record([event(2)])
    assert [await store.history("ann") for store in stores] == [("i2",)] * 2


async def test_what_is_in_memory_expires(
    server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.command("FLUSHALL")
    async with opened_redis(server, Retention(days=2), tmp_path, timeout=30) as store:
        start = now()
        await store.record([event(1, time=start - DAY), event(2, time=start)])
        assert await store.history("ann") == ("i1", "i2")
        monkeypatch.setattr("gateway.history.store.now", lambda: start + DAY + 1)
        assert await store.history("ann") == ("i2",)


async def check(stores: list[RedisHistoryStore], steps: list[tuple[str, int, int, int]]) -> None:
    expected: dict[str, list[Event]] = {}
    for step, which, user, number in steps:
        name, store = f"user {user}", stores[which]
        kept = expected.get(name, [])
        match step:
            case "record":
                new = event(number, name)
                await store.record([new])
                if new not in kept and (len(kept) < 3 or new.time > kept[0].time):
                    expected[name] = sorted([*kept, new], key=lambda each: each.time)[-3:]
            case "delete":
                assert await store.delete(name) == len(kept)
                expected.pop(name, None)
            case "read":
                items = tuple(each.item_id for each in kept)
                assert await store.history(name) == (items or None)
                assert await store.events(name, 9) == kept


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["record", "delete", "read"]),
        st.integers(0, 1),
        st.integers(0, 3),
        st.integers(0, 6),
    ),
    max_size=30,
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(STEPS)
def test_two_gateways_read_what_one_would(
    server: RedisServer, tmp_path: Path, steps: list[tuple[str, int, int, int]]
) -> None:
    """Each step is of one of two gateways, on one of four users, with one of seven events."""

    async def run() -> None:
        server.command("FLUSHALL")
        kept = Retention(events=3)
        async with (
            opened_redis(server, kept, tmp_path, timeout=30) as one,
            opened_redis(server, kept, tmp_path, timeout=30) as other,
        ):
            await check([one, other], steps)

    asyncio.run(run())


async def test_histories_of_the_version_before_are_read_and_go_on(
    server: RedisServer, tmp_path: Path
) -> None:
    server.command("FLUSHALL")
    bodies = ['["e1","i1"]', '["a\\"b","日本"]', '["a\\u0000b","i3"]']
    for number, body in enumerate(bodies, start=1):
        member = f"{number:016}{body}"
        server.command("ZADD", "tandem:history:events:ann", str(number), member)
    for event_id in ("e1", 'a"b'):
        server.command("SADD", "tandem:history:ids:ann", event_id)
    server.command("SET", "tandem:history:arrivals", "3")
    async with opened_redis(server, Retention(events=4), tmp_path, timeout=30) as store:
        assert await store.history("ann") == ("i1", "日本", "i3")
        assert [e.event_id for e in await store.events("ann", 9)] == ["e1", 'a"b', "a\0b"]
        # Of the same time as one of before, it comes after it.
        again = Event("e1", "ann", "other", 9)
        assert await store.record([again, event(5, time=3)]) == Recorded(new=1, known=1)
        assert await store.history("ann") == ("i1", "日本", "i3", "i5")
        await store.record([event(6), event(7)])
        assert await store.history("ann") == ("i3", "i5", "i6", "i7")
        known = server.command("ZRANGE", "tandem:history:ids:ann", "0", "-1")
        assert sorted(known) == ["a\0b", 'a"b', "e1", "event 5", "event 6", "event 7"]
        assert await store.delete("ann") == 4
