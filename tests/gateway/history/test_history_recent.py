"""Histories that are kept in memory: never older than what somebody was told is recorded."""

import asyncio
import gc
import threading
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import Unavailable
from gateway.history import Event, Recorded, Retention
from gateway.history.recent import History, RecentHistories
from gateway.history.sqlite import SqliteHistoryStore, writes
from gateway.history.store import DAY, now

ROOM = 10_000
"""Bytes for more than a test has."""


class Store:
    """Counts reads, and lets them end when it is told to."""

    def __init__(self) -> None:
        self.kept: dict[str, History] = {}
        self.reads = 0
        self.may_end = asyncio.Event()
        self.may_end.set()

    def of(self, user: str) -> Callable[[], Awaitable[History | None]]:
        async def read() -> History | None:
            self.reads += 1
            found = self.kept.get(user)
            await self.may_end.wait()
            return found

        return read


def history(*items: str, since: int = 1) -> History:
    return History(items, since)


def size(*items: str) -> int:
    """Bytes that a history counts."""
    recent = RecentHistories(ROOM)
    recent.keep("a", history(*items))
    return recent.bytes


def histories(items: int, letter: str) -> list[tuple[str, History]]:
    """Of many users, in objects of their own."""
    return [
        (f"user {user}", History(tuple(f"{letter}{user}_{n}" for n in range(items)), 10**15 + user))
        for user in range(6_000 // (items + 6))
    ]


@pytest.mark.parametrize("letter", ["a", "é", "日", "🎬"])
@pytest.mark.parametrize("items", [1, 10, 1_000])
def test_no_more_memory_is_taken_than_it_may(items: int, letter: str) -> None:
    room = 300_000
    tracemalloc.start()
    try:
        recent = RecentHistories(room)
        for user_id, kept in histories(items, letter):
            recent.keep(user_id, kept)
        del user_id, kept
        gc.collect()
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0.5 * recent.bytes < taken <= 1.02 * recent.bytes
    assert 0.6 * room < recent.bytes <= room


async def test_one_item_takes_as_much_room_as_it_is_long() -> None:
    store, recent = Store(), RecentHistories(100_000)
    store.kept = {"ann": history("a" * 90_000), "bob": history("b" * 90_000)}
    for user in ("ann", "bob", "ann"):
        assert await recent.of(user, 0, store.of(user)) == store.kept[user].items
    assert store.reads == 3


async def test_a_history_is_read_once() -> None:
    store, recent = Store(), RecentHistories(ROOM)
    store.kept["ann"] = history("a", "b")
    for _ in range(3):
        assert await recent.of("ann", 0, store.of("ann")) == ("a", "b")
    assert store.reads == 1


async def test_what_changed_is_read_again() -> None:
    store, recent = Store(), RecentHistories(ROOM)
    store.kept |= {"ann": history("a"), "bob": history("b")}
    for user in store.kept:
        await recent.of(user, 0, store.of(user))
    store.kept["ann"] = history("a", "c")
    recent.forget(["ann", "nobody"])
    assert await recent.of("ann", 0, store.of("ann")) == ("a", "c")
    assert await recent.of("bob", 0, store.of("bob")) == ("b",)
    assert store.reads == 3


async def test_a_change_during_a_read_is_not_missed_by_the_next() -> None:
    store, recent = Store(), RecentHistories(ROOM)
    store.kept["ann"] = history("a")
    store.may_end.clear()
    early = asyncio.ensure_future(recent.of("ann", 0, store.of("ann")))
    await asyncio.sleep(0)
    store.kept["ann"] = history("a", "b")
    recent.forget(["ann"])
    store.may_end.set()
    assert await early == ("a",)
    assert await recent.of("ann", 0, store.of("ann")) == ("a", "b")


async def test_what_is_too_old_by_now_is_read_again() -> None:
    store, recent = Store(), RecentHistories(ROOM)
    store.kept["ann"] = history("a", "b", since=5)
    assert await recent.of("ann", 5, store.of("ann")) == ("a", "b")
    store.kept["ann"] = history("b", since=9)
    assert await recent.of("ann", 6, store.of("ann")) == ("b",)


async def test_the_history_that_was_not_asked_for_the_longest_goes_first() -> None:
    store, recent = Store(), RecentHistories(2 * size("a", "a"))
    store.kept = {user: history(user, user) for user in "abc"}
    for user in "abac":  # "c" takes the place of "b"
        await recent.of(user, 0, store.of(user))
    assert store.reads == 3
    await recent.of("a", 0, store.of("a"))
    assert store.reads == 3
    await recent.of("b", 0, store.of("b"))
    assert store.reads == 4


async def test_one_larger_than_the_memory_is_not_kept_and_none_is_by_one_without_room() -> None:
    for room in (0, size("a", "b") - 1):
        store, recent = Store(), RecentHistories(room)
        store.kept["ann"] = history("a", "b")
        for _ in range(2):
            assert await recent.of("ann", 0, store.of("ann")) == ("a", "b")
        assert store.reads == 2


async def test_neither_an_absence_nor_a_failure_is_remembered() -> None:
    store, recent = Store(), RecentHistories(ROOM)

    async def fail() -> History | None:
        raise Unavailable("no disk", reason="HISTORY_UNAVAILABLE")

    assert await recent.of("ann", 0, store.of("ann")) is None
    with pytest.raises(Unavailable):
        await recent.of("ann", 0, fail)
    store.kept["ann"] = history("a")
    assert await recent.of("ann", 0, store.of("ann")) == ("a",)


STEPS = st.lists(st.tuples(st.sampled_from(["begin", "end", "write", "tell"]), st.integers(0, 1)))


@given(STEPS, st.integers(0, 3 * size("1", "x")))
def test_nobody_reads_what_is_older_than_was_told(steps: list[tuple[str, int]], room: int) -> None:
    """Reads that take long, writes, and the news of them, in any order."""

    async def run() -> None:
        recent = RecentHistories(room)
        written, told = [0, 0], [0, 0]
        running: list[tuple[int, asyncio.Future[None], asyncio.Future[tuple[str, ...] | None]]] = []

        def begin(user: int) -> None:
            may_end = asyncio.get_running_loop().create_future()

            async def read() -> History:
                version = written[user]
                await may_end
                return history(str(version), "x")

            call = asyncio.ensure_future(recent.of(str(user), 0, read))
            running.append((told[user], may_end, call))

        async def end() -> None:
            least, may_end, call = running.pop(0)
            may_end.set_result(None)
            found = await call
            assert found is not None
            assert int(found[0]) >= least

        for step, user in steps:
            match step:
                case "begin":
                    begin(user)
                case "end" if running:
                    await end()
                case "write":
                    written[user] += 1
                case "tell":
                    recent.forget([str(user)])
                    told[user] = written[user]
            await asyncio.sleep(0)
        while running:
            await end()

    asyncio.run(run())


def event(number: int, time: int | None = None) -> Event:
    return Event(f"e{number}", "ann", f"i{number}", number if time is None else time)


async def test_a_write_is_seen_whose_caller_has_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, entered, go = writes.record, threading.Event(), threading.Event()

    def late(*arguments: Any) -> Recorded:
        entered.set()
        assert go.wait(30)
        return record(*arguments)

    store = SqliteHistoryStore.open(tmp_path / "history.sqlite", Retention())
    try:
        await store.record([event(1)])
        monkeypatch.setattr(writes, "record", late)
        writing = asyncio.ensure_future(store.record([event(2)]))
        await asyncio.to_thread(entered.wait, 30)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        assert await store.history("ann") == ("i1",)
        go.set()
        # What is written later is on disk after what was written before.
        assert await store.record([Event("e", "bob", "i", 1)]) == Recorded(new=1)
        assert await store.history("ann") == ("i1", "i2")
    finally:
        await store.close()


async def test_events_expire_in_memory_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SqliteHistoryStore.open(tmp_path / "history.sqlite", Retention(days=2))
    try:
        start = now()
        await store.record([event(1, start - DAY), event(2, start)])
        assert await store.history("ann") == ("i1", "i2")
        monkeypatch.setattr("gateway.history.store.now", lambda: start + DAY + 1)
        assert await store.history("ann") == ("i2",)
        monkeypatch.setattr("gateway.history.store.now", lambda: start + 3 * DAY)
        assert await store.history("ann") is None
    finally:
        await store.close()
