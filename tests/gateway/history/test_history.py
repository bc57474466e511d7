"""What every history store promises, on SQLite and on a real Redis."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from core.bundle import Bundle
from gateway.history import Event, HistoryStore, Recorded, Retention
from gateway.history.bundle import fill
from gateway.history.sqlite import SqliteHistoryStore
from gateway.history.store import now
from tests.gateway.redis_server import RedisServer, open_redis
from tests.tiny_bundle import HISTORIES, item_id, manifest, write_tiny_bundle

DAY = 86_400_000_000
Open = Callable[[Retention], Awaitable[HistoryStore]]


@pytest.fixture(params=["sqlite", "redis"])
async def opened(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Open]:
    """Opens the one store of a test with any retention; opening it again closes it before."""
    kind, current = request.param, AsyncExitStack()
    server: RedisServer | None = None
    if kind == "redis":
        server = request.getfixturevalue("redis")
        assert server is not None
        server.command("FLUSHALL")

    async def open_store(retention: Retention) -> HistoryStore:
        await current.aclose()
        store: HistoryStore
        if server is not None:
            store = open_redis(server, retention, tmp_path, timeout=5)
        else:
            store = SqliteHistoryStore.open(tmp_path / "history.sqlite", retention)
        current.push_async_callback(store.close)
        return store

    yield open_store
    await current.aclose()


@pytest.fixture
async def store(opened: Open) -> HistoryStore:
    return await opened(Retention())


def event(number: int, user: str = "ann", time: int | None = None) -> Event:
    return Event(f"e{number}", user, f"i{number}", 1_000 + number if time is None else time)


def shuffled_by(seed: int, events: list[Event]) -> list[Event]:
    return [events[n] for n in np.random.default_rng(seed).permutation(len(events))]


async def test_events_come_back_in_the_order_of_their_times(store: HistoryStore) -> None:
    assert await store.history("ann") is None
    events = [event(n) for n in range(50)]
    shuffled = shuffled_by(1, events)
    for part in (shuffled[:7], shuffled[7:30], shuffled[30:]):
        assert await store.record(part) == Recorded(new=len(part))
    assert await store.history("ann") == tuple(e.item_id for e in events)
    assert await store.events("ann", 1_000) == events
    assert await store.events("ann", 3) == events[-3:]
    assert await store.history("bob") is None
    assert await store.events("bob", 3) == []


async def test_events_of_the_same_time_stay_in_the_order_of_arrival(store: HistoryStore) -> None:
    events = [event(n, time=now()) for n in (3, 1, 10, 2)]
    for each in events[:2]:
        await store.record([each])
    await store.record(events[2:])
    assert await store.history("ann") == ("i3", "i1", "i10", "i2")


async def test_an_event_is_recorded_once(store: HistoryStore) -> None:
    await store.record([event(1), event(2)])
    assert await store.record([event(2), event(3), event(3)]) == Recorded(new=1, known=2)
    # Whatever else it says now: the identifier decides, and the first one stays.
    assert await store.record([Event("e1", "ann", "other", 5)]) == Recorded(known=1)
    assert await store.history("ann") == ("i1", "i2", "i3")
    # Identifiers belong to their users.
    assert await store.record([event(1, "bob")]) == Recorded(new=1)
    assert await store.history("bob") == ("i1",)


async def test_many_batches_at_once_are_recorded_once(store: HistoryStore) -> None:
    users = [f"user {n}" for n in range(5)]
    events = [event(n, user) for user in users for n in range(20)]
    batches = [shuffled_by(n, events)[:40] for n in range(20)]
    counts = await asyncio.gather(*map(store.record, batches))
    total = sum(counts, Recorded())
    assert total.new == len({e for batch in batches for e in batch})
    assert total.new + total.known == 20 * 40
    for user in users:
        expected = {e for batch in batches for e in batch if e.user_id == user}
        assert await store.events(user, 100) == sorted(expected, key=lambda e: e.time)


async def test_only_the_newest_are_kept(opened: Open) -> None:
    store = await opened(Retention(events=3))
    assert await store.record([event(n) for n in (5, 1, 4, 2, 3)]) == Recorded(new=5)
    assert await store.history("ann") == ("i3", "i4", "i5")
    # Sent again, what was dropped is not new; what was not there before is older than all of it.
    again = [event(n) for n in (5, 1, 4, 2, 3)]
    assert await store.record(again) == Recorded(known=5)
    assert await store.record([event(0), event(6)]) == Recorded(new=1, outdated=1)
    assert await store.history("ann") == ("i4", "i5", "i6")


async def test_sending_again_changes_nothing_among_events_of_the_same_time(opened: Open) -> None:
    store = await opened(Retention(events=3))
    batch = [event(n, time=7) for n in range(5)]
    await store.record(batch)
    for _ in range(3):
        assert await store.record(batch) == Recorded(known=5)
        assert await store.history("ann") == ("i2", "i3", "i4")


async def test_a_smaller_cap_holds_from_the_next_event(opened: Open) -> None:
    store = await opened(Retention(events=10))
    await store.record([event(n) for n in range(10)])
    store = await opened(Retention(events=4))
    assert await store.history("ann") == ("i6", "i7", "i8", "i9")
    await store.record([event(10)])
    store = await opened(Retention(events=10))
    assert await store.history("ann") == ("i7", "i8", "i9", "i10")


async def test_what_is_too_old_is_neither_read_nor_recorded(opened: Open) -> None:
    store = await opened(Retention())
    await store.record([event(1, time=now() - 3 * DAY), event(2, time=now() - DAY)])
    await store.record([event(3, "bob", time=now() - 3 * DAY)])
    store = await opened(Retention(days=2))
    assert await store.history("ann") == ("i2",)
    assert [e.event_id for e in await store.events("ann", 9)] == ["e2"]
    assert await store.history("bob") is None
    late = [event(4, time=now() - 3 * DAY), event(5, time=now())]
    assert await store.record(late) == Recorded(new=1, outdated=1)
    store = await opened(Retention())
    assert await store.history("ann") == ("i2", "i5")


async def test_a_deleted_user_is_a_new_user(store: HistoryStore) -> None:
    await store.record([event(n, user) for user in ("ann", "bob") for n in range(10)])
    assert await store.delete("ann") == 10
    assert await store.delete("ann") == 0
    assert await store.delete("nobody") == 0
    assert await store.history("ann") is None
    assert len(await store.events("bob", 100)) == 10
    # Not even the identifiers are remembered.
    assert await store.record([event(3)]) == Recorded(new=1)
    assert await store.history("ann") == ("i3",)


async def test_any_text_is_an_identifier(store: HistoryStore) -> None:
    texts = ['"', "\\", "a\0b", "it's", "日本語", "🎬", "{x}", "a:b", " ", "\n", "%", "é" * 256]
    for text in texts:
        await store.record([Event(text, text, text, 1), Event(text + "2", text, text, 2)])
    for text in texts:
        assert await store.history(text) == (text, text)
        assert (await store.events(text, 1))[0].event_id == text + "2"
        assert await store.delete(text) == 2
    assert [await store.history(text) for text in texts] == [None] * len(texts)


async def test_a_history_of_the_largest_size(opened: Open) -> None:
    store = await opened(Retention(events=10_000))
    events = [event(n) for n in range(10_500)]
    for start in range(0, len(events), 1_000):
        await store.record(events[start : start + 1_000])
    assert await store.history("ann") == tuple(e.item_id for e in events[500:])
    assert await store.delete("ann") == 10_000


async def test_it_is_all_there_after_opening_it_again(opened: Open) -> None:
    store = await opened(Retention())
    await store.record([event(1), event(2)])
    await store.set_seed("tiny/1")
    store = await opened(Retention())
    assert await store.history("ann") == ("i1", "i2")
    assert await store.seed() == "tiny/1"
    assert await store.record([event(1), event(3, time=0)]) == Recorded(new=1, known=1)
    assert await store.history("ann") == ("i3", "i1", "i2")


async def test_it_is_filled_with_a_bundle_once(store: HistoryStore, tmp_path: Path) -> None:
    bundle = Bundle.open(write_tiny_bundle(tmp_path))
    assert await store.seed() is None
    # As if the first attempt had been interrupted.
    await store.record([Event("tiny#1#i1", "ann", "i1", 1_767_225_600_000_000 - 2)])
    await fill(store, bundle, 100)
    for user, items in HISTORIES.items():
        assert await store.history(user) == (tuple(map(item_id, items)) or None)
    assert await store.seed() == "tiny/1"
    # What users do afterwards comes after, and whoever was deleted does not come back.
    await store.record([event(9, time=now())])
    assert await store.history("ann") == ("i0", "i1", "i2", "i9")
    await store.delete("bob")
    await fill(store, bundle, 100)
    assert await store.history("bob") is None


async def test_filling_keeps_the_newest_of_each_user(store: HistoryStore, tmp_path: Path) -> None:
    await fill(store, Bundle.open(write_tiny_bundle(tmp_path)), 2)
    assert await store.history("ann") == ("i1", "i2")


MADE = 1_767_225_600_000_000  # when the tiny bundle was made, the beginning of 2026


async def test_a_bundle_s_events_have_their_real_times(store: HistoryStore, tmp_path: Path) -> None:
    times = [MADE - 9 * DAY, MADE - 9 * DAY, MADE + DAY, 0]  # the third cannot be
    await fill(store, Bundle.open(write_tiny_bundle(tmp_path, times=times)), 100)
    assert [e.time for e in await store.events("ann", 9)] == [*times[:2], MADE]
    assert [e.time for e in await store.events("bob", 9)] == [0]


async def test_what_came_between_data_and_build_comes_last(
    store: HistoryStore, tmp_path: Path
) -> None:
    times = [MADE - 9 * DAY, MADE - 8 * DAY, MADE - 7 * DAY, 0]
    await store.record([event(9, time=MADE - 1 * DAY)])
    await fill(store, Bundle.open(write_tiny_bundle(tmp_path, times=times)), 100)
    await store.record([event(8, time=MADE - 2 * DAY)])
    assert await store.history("ann") == ("i0", "i1", "i2", "i8", "i9")


async def test_a_bundle_s_events_expire_by_their_real_times(opened: Open, tmp_path: Path) -> None:
    start = now()
    times = [start - 30 * DAY, start - 20 * DAY, start - 5 * DAY, start - 30 * DAY]
    made = {"created": datetime.fromtimestamp(start / 1e6, UTC).isoformat()}
    provenance = manifest().provenance.model_copy(update=made)
    path = write_tiny_bundle(tmp_path, times=times, provenance=provenance)
    store = await opened(Retention(days=10))
    await fill(store, Bundle.open(path), 100)
    assert await store.history("ann") == ("i2",)
    assert await store.history("bob") is None
