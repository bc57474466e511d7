"""What only the embedded store promises: a queue, a lock, a disk that fills, and true deletion."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.errors import ResourceExhausted, SettingsError, Unavailable
from gateway.history import Event, Recorded, Retention
from gateway.history.sqlite import SqliteHistoryStore, partitions
from gateway.history.sqlite import store as module
from gateway.history.sqlite.partitions import PARTITIONS
from gateway.history.sqlite.writer import GROUP, Writer
from gateway.history.store import DAY, now


@asynccontextmanager
async def opened(
    path: Path, retention: Retention | None = None, **options: Any
) -> AsyncIterator[SqliteHistoryStore]:
    store = SqliteHistoryStore.open(path, retention or Retention(), **options)
    try:
        yield store
    finally:
        await store.close()


def events(user: str, count: int, start: int = 0) -> list[Event]:
    return [Event(f"e{n}", user, f"item {n}", n) for n in range(start, start + count)]


def rows(connection: sqlite3.Connection, partition: int) -> list[tuple[str, str]]:
    """The user and the item of each event in a partition."""
    query = partitions.sql("SELECT user_id, item_id FROM events_{n}", partition)
    return connection.execute(query).fetchall()


def bytes_of(path: Path) -> bytes:
    """Everything that the store has on the disk."""
    return b"".join(file.read_bytes() for file in sorted(path.parent.glob(f"{path.name}*")))


async def record_at_random(store: SqliteHistoryStore, users: list[str]) -> None:
    """Splits, merges and reuses pages, as years of use do; names are in each event's texts."""
    random = np.random.default_rng(0)
    for _ in range(60):
        batch = []
        for time in random.integers(1_000, size=50).tolist():
            user = users[random.integers(len(users))]
            mark = f"{user}/{random.integers(2**40):x}"
            batch.append(Event(f"event {mark}", user, f"item {mark}", time))
        await store.record(batch)


@pytest.mark.parametrize("count", [PARTITIONS, 1])
async def test_a_deleted_user_is_gone_from_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(partitions, "PARTITIONS", count)
    path, random = tmp_path / "history.sqlite", np.random.default_rng(1)
    users = [f"user-{n:03}-{random.integers(2**40):x}" for n in range(60)]
    async with opened(path, Retention(events=40), scrub_share=1.0) as store:
        await record_at_random(store, users)
        before = {user: await store.history(user) for user in users}
        for user in users[:20]:
            known = [partitions.event_hash(e.event_id) for e in await store.events(user, 40)]
            assert user.encode() in bytes_of(path)
            assert all(hash_ in bytes_of(path) for hash_ in known)
            await store.delete(user)
            assert user.encode() not in bytes_of(path)
            assert not any(hash_ in bytes_of(path) for hash_ in known)
        after = {user: await store.history(user) for user in users}
        assert after == {user: None if user in users[:20] else before[user] for user in users}


async def test_deletions_that_wait_together_are_done_together(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    async with opened(path) as store:
        await asyncio.gather(*(store.record(events(f"user-{n}", 10)) for n in range(50)))
        deleted = await asyncio.gather(*(store.delete(f"user-{n}") for n in range(50)))
        assert deleted == [10] * 50
        assert b"user-" not in bytes_of(path)


async def test_a_deletion_that_was_interrupted_is_ended_at_the_next_start(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    async with opened(path) as store:
        await store.record(events("ann", 100))
    # As a process leaves it that dies between the deletion and what follows it.
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA secure_delete=OFF")
        (partition,) = [n for n in range(PARTITIONS) if rows(connection, n)]
        partitions.delete(connection, partition, "ann")
    assert b"item 99" in bytes_of(path)
    async with opened(path):
        assert b"item 99" not in bytes_of(path)


async def test_a_deletion_waits_for_whoever_reads_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOG_SECONDS", 0.01)
    path = tmp_path / "history.sqlite"
    async with opened(path) as store:
        await store.record(events("ann", 100))
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM facts").fetchone()
            with pytest.raises(Unavailable) as caught:
                await store.delete("ann")
            assert caught.value.reason == "HISTORY_UNAVAILABLE"
        # The caller tries again, and then nothing is left.
        await store.delete("ann")
        assert b"item 99" not in bytes_of(path)


async def test_one_process_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    async with opened(path):
        with pytest.raises(SettingsError, match="several gateways share"):
            SqliteHistoryStore.open(path, Retention())
    async with opened(path) as store:
        assert await store.history("ann") is None


async def test_a_file_that_is_no_store(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    path.write_bytes(b"not a database, and long enough to see that" * 100)
    with pytest.raises(SettingsError, match="cannot open the history store"):
        SqliteHistoryStore.open(path, Retention())
    path.unlink()
    async with opened(path):
        pass
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE facts SET value = '99' WHERE name = 'schema'")
    with pytest.raises(SettingsError, match="schema 99"):
        SqliteHistoryStore.open(path, Retention())


async def fill(store: SqliteHistoryStore, acknowledged: list[str]) -> None:
    for n in range(1_000):
        await store.record(events(f"user-{n}", 20))
        acknowledged.append(f"user-{n}")


async def test_a_full_disk_loses_nothing_and_can_be_cleared(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    acknowledged: list[str] = []
    async with opened(path, max_pages=2 * PARTITIONS + 60) as store:
        with pytest.raises(ResourceExhausted) as caught:
            await fill(store, acknowledged)
        assert caught.value.reason == "HISTORY_FULL"
        assert caught.value.retry_after > 0
        assert len(acknowledged) > 10
        # It serves on, and many at once fare no worse than one.
        for user in acknowledged:
            assert len(await store.history(user) or ()) == 20
        calls = (store.record(events(f"new-{n}", 500)) for n in range(5))
        refused = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(error) for error in refused} == {ResourceExhausted}
        assert await store.history("new-0") is None
        for user in acknowledged[:10]:
            assert await store.delete(user) == 20
        assert await store.record(events("new-0", 20)) == Recorded(new=20)
    async with opened(path) as store:
        for user in [*acknowledged[10:], "new-0"]:
            assert len(await store.history(user) or ()) == 20


async def test_outdated_events_are_swept(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    async with opened(path) as store:
        old = [Event(f"e{n}", f"user {n}", "i", now() - 3 * DAY) for n in range(2_500)]
        await store.record([*old, Event("e", "ann", "new", now())])
        await store.tend()
    async with opened(path, Retention(days=1)) as store:
        await store.tend()
    with closing(sqlite3.connect(path)) as connection:
        left = [row for n in range(PARTITIONS) for row in rows(connection, n)]
        assert left == [("ann", "new")]
        ids = [partitions.sql("SELECT user_id FROM ids_{n}", n) for n in range(PARTITIONS)]
        assert [row for query in ids for row in connection.execute(query)] == [("ann",)]


async def test_readers_do_not_wait_for_the_writer(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    async with opened(path) as store:
        await store.record(events("ann", 3))
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")  # as long as this lasts, nothing can be written
            writing = asyncio.ensure_future(store.record(events("ann", 3, start=3)))
            for _ in range(20):
                assert await store.history("ann") == ("item 0", "item 1", "item 2")
            assert not writing.done()
            other.execute("ROLLBACK")
        assert await writing == Recorded(new=3)


class Blocked:
    """A writer that is in the middle of a transaction."""

    def __init__(self, max_waiting: int) -> None:
        connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        connection.execute("CREATE TABLE t (x)")
        self.connection = connection
        self.writer = Writer(connection, max_waiting, lambda error: error)
        self.entered, self.go = threading.Event(), threading.Event()
        self.first = asyncio.ensure_future(self.writer.run(self._wait))

    def _wait(self, _: sqlite3.Connection) -> None:
        self.entered.set()
        assert self.go.wait(30)

    async def __aenter__(self) -> "Blocked":
        await asyncio.to_thread(self.entered.wait)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.go.set()
        await self.first
        await self.writer.close()
        self.connection.close()

    def insert(self, value: int, weight: int = 1) -> "asyncio.Future[int]":
        def work(connection: sqlite3.Connection) -> int:
            if value < 0:
                raise ValueError(value)
            return connection.execute("INSERT INTO t VALUES (?)", (value,)).rowcount

        return asyncio.ensure_future(self.writer.run(work, weight=weight))

    def values(self) -> list[int]:
        return [value for (value,) in self.connection.execute("SELECT x FROM t ORDER BY rowid")]


async def test_what_waits_is_bounded_and_the_rest_is_shed_with_a_hint() -> None:
    async with Blocked(max_waiting=10) as blocked:
        waiting = [blocked.insert(n, weight=3) for n in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(ResourceExhausted) as caught:
            await blocked.insert(9, weight=3)
        assert caught.value.reason == "HISTORY_QUEUE_FULL"
        assert caught.value.retry_after > 0
        blocked.go.set()
        assert await asyncio.gather(*waiting) == [1, 1, 1]
        assert await blocked.insert(4, weight=100) == 1  # one that is larger than the queue
        assert blocked.values() == [0, 1, 2, 4]


async def test_what_is_acknowledged_waits_no_more() -> None:
    settling, settled = threading.Event(), threading.Event()

    def settle(_: sqlite3.Connection) -> None:
        settling.set()
        assert settled.wait(30)

    async with Blocked(max_waiting=11) as blocked:  # which weighs 1 itself
        quick = blocked.insert(1, weight=6)
        same_transaction = blocked.writer.run(lambda _: None, weight=4, settle=settle)
        slow = asyncio.ensure_future(same_transaction)
        await asyncio.sleep(0)
        blocked.go.set()
        await quick
        assert await asyncio.to_thread(settling.wait, 30)
        following = blocked.insert(2, weight=7)
        await asyncio.sleep(0)
        settled.set()
        await asyncio.gather(slow, following)


async def test_what_fails_fails_alone() -> None:
    async with Blocked(max_waiting=10) as blocked:
        waiting = [blocked.insert(n) for n in (1, -2, 3)]
        await asyncio.sleep(0)
        blocked.go.set()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert (results[0], type(results[1]), results[2]) == (1, ValueError, 1)
        assert blocked.values() == [1, 3]


async def test_what_is_cancelled_while_it_waits_is_not_written() -> None:
    async with Blocked(max_waiting=10 * GROUP) as blocked:
        waiting = [blocked.insert(n, weight=GROUP) for n in range(3)]
        await asyncio.sleep(0)
        waiting[1].cancel()
        await asyncio.sleep(0)
        blocked.go.set()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert blocked.values() == [0, 2]


async def test_closing_writes_what_waits_and_takes_no_more() -> None:
    async with Blocked(max_waiting=10) as blocked:
        waiting = [blocked.insert(n) for n in range(3)]
        await asyncio.sleep(0)
        blocked.go.set()
        await blocked.writer.close()
        assert await asyncio.gather(*waiting) == [1, 1, 1]
        with pytest.raises(Unavailable):
            await blocked.insert(4)
