"""How much work deletion makes, who waits for it, and that it leaves nothing."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from core.errors import Unavailable
from gateway.history import Event, Recorded, Retention
from gateway.history.sqlite import SqliteHistoryStore, partitions
from gateway.history.sqlite.partitions import PARTITIONS
from gateway.history.sqlite.scrubs import Scrubs
from serving.background import Backoff


class Counted:
    """A scrub that is counted, held up and failed as a test says."""

    def __init__(self, most: int = PARTITIONS) -> None:
        self.most = most
        self.scrubbed: list[list[int]] = []
        self.failing = False
        self.begun, self.go = asyncio.Event(), asyncio.Event()
        self.go.set()

    async def __call__(self, due: Sequence[int]) -> int:
        self.begun.set()
        await self.go.wait()
        if self.failing:
            raise Unavailable("no", reason="HISTORY_UNAVAILABLE")
        self.scrubbed.append(list(due[: self.most]))
        return len(self.scrubbed[-1])


async def waits(scrubs: Scrubs, partition: int) -> "asyncio.Task[None]":
    waiting = asyncio.ensure_future(scrubs.done(partition))
    await asyncio.sleep(0)
    return waiting


async def test_nobody_waits_where_nothing_is_due() -> None:
    scrub = Counted()
    scrubs = Scrubs(scrub, 1.0)
    await scrubs.done(3)
    await scrubs.close()
    assert scrub.scrubbed == []


async def test_many_deletions_are_scrubbed_together() -> None:
    scrub = Counted()
    scrubs = Scrubs(scrub, 1.0)
    for partition in (5, 3, 5, 3, 9):
        scrubs.add(partition)
    await asyncio.gather(*(scrubs.done(partition) for partition in (3, 5, 9, 5)))
    assert scrub.scrubbed == [[5, 3, 9]]
    await scrubs.close()


async def test_what_one_turn_leaves_is_next_in_order() -> None:
    scrub = Counted(most=2)
    scrub.go.clear()
    scrubs = Scrubs(scrub, 1.0)
    for partition in (1, 2, 3):
        scrubs.add(partition)
    waiting = [await waits(scrubs, partition) for partition in (1, 2, 3)]
    await scrub.begun.wait()
    scrubs.add(4)
    scrubs.add(3)
    waiting += [await waits(scrubs, partition) for partition in (3, 4)]
    scrub.go.set()
    await asyncio.gather(*waiting)
    assert scrub.scrubbed == [[1, 2], [3, 4]]
    await scrubs.close()


async def some_turns(_seconds: float) -> None:
    """Lets whoever was told something act on it."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_deletion_during_a_scrub_waits_for_the_next() -> None:
    scrub = Counted()
    scrub.go.clear()
    scrubs = Scrubs(scrub, 1.0, pause=some_turns)
    scrubs.add(1)
    early = await waits(scrubs, 1)
    await scrub.begun.wait()
    repeated = await waits(scrubs, 1)  # found nothing: it waits for the scrub that runs
    scrubs.add(1)
    late = await waits(scrubs, 1)
    seen: list[int] = []
    for call in (early, repeated, late):
        call.add_done_callback(lambda _: seen.append(len(scrub.scrubbed)))
    scrub.go.set()
    await asyncio.gather(early, repeated, late)
    await asyncio.sleep(0)
    assert seen == [1, 1, 2]
    assert scrub.scrubbed == [[1], [1]]
    await scrubs.close()


async def test_a_scrub_that_fails_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Backoff, "next", lambda _: 0.0)
    scrub = Counted()
    scrub.failing = True
    scrubs = Scrubs(scrub, 1.0)
    scrubs.add(1)
    with pytest.raises(Unavailable):
        await scrubs.done(1)
    scrub.failing = False
    await scrubs.done(1)  # by itself: nobody has added it again
    assert scrub.scrubbed == [[1]]
    await scrubs.close()


async def test_scrubbing_pauses_for_its_share_of_the_time() -> None:
    clock = map(float, range(0, 1_000, 3))  # a scrub takes 3 s
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    scrubs = Scrubs(Counted(most=1), 0.2, clock=lambda: next(clock), pause=pause)
    for partition in range(4):
        scrubs.add(partition)
    await scrubs.done(3)
    assert pauses[:3] == pytest.approx([12.0, 12.0, 12.0])
    await scrubs.close()


async def test_closing_tells_whoever_waits() -> None:
    scrub = Counted()
    scrub.go.clear()
    scrubs = Scrubs(scrub, 1.0)
    scrubs.add(1)
    running = await waits(scrubs, 1)
    await scrub.begun.wait()
    scrubs.add(2)
    waiting = await waits(scrubs, 2)
    await scrubs.close()
    for call in (running, waiting):
        with pytest.raises(Unavailable):
            await call


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[SqliteHistoryStore]:
    store = SqliteHistoryStore.open(path, Retention(), scrub_share=1.0)
    try:
        yield store
    finally:
        await store.close()


def bytes_in(directory: Path) -> bytes:
    return b"".join(file.read_bytes() for file in sorted(directory.iterdir()))


def events(user: str, count: int = 5) -> list[Event]:
    return [Event(f"{user}'s {n}", user, f"{user}'s item {n}", n) for n in range(count)]


@pytest.fixture
def rewritten(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The partitions that were written anew, one after the other."""
    numbers: list[int] = []
    rewrite = partitions.rewrite

    def counted(connection: sqlite3.Connection, partition: int) -> None:
        numbers.append(partition)
        rewrite(connection, partition)

    monkeypatch.setattr(partitions, "rewrite", counted)
    return numbers


async def test_deleting_somebody_again_writes_nothing(tmp_path: Path, rewritten: list[int]) -> None:
    """Of somebody unknown too; the first time it is remembered, and no partition written."""
    path = tmp_path / "history.sqlite"
    async with opened(path) as store:
        await store.record(events("ann"))
        log = path.with_name("history.sqlite-wal")
        assert await store.delete("nobody") == 0
        before = log.read_bytes()
        for _ in range(50):
            assert await store.delete("nobody") == 0
        assert rewritten == []
        assert log.read_bytes() == before


async def test_a_deletion_writes_its_partition_alone(tmp_path: Path, rewritten: list[int]) -> None:
    async with opened(tmp_path / "history.sqlite") as store:
        for n in range(20):
            await store.record(events(f"user {n}"))
        assert await store.delete("user 3") == 5
        assert len(rewritten) == 1


async def test_a_deletion_whose_caller_left_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "history.sqlite"
    async with opened(path) as store:
        await store.record(events("ann"))
        deleted = asyncio.Event()
        delete, loop = partitions.delete, asyncio.get_running_loop()

        def observed(*arguments: object) -> tuple[int, bool]:
            loop.call_soon_threadsafe(deleted.set)
            return delete(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(partitions, "delete", observed)
        call = asyncio.ensure_future(store.delete("ann"))
        await deleted.wait()
        call.cancel()
        # The next one finds nothing, and answers once nothing is left all the same.
        assert await store.delete("ann") == 0
        assert b"ann" not in bytes_in(tmp_path)


VERSION_1 = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO facts VALUES ('schema', '1'), ('seed', 'tiny/1'), ('scrub', 'due');
CREATE TABLE events (
    sequence INTEGER PRIMARY KEY,
    user_id TEXT NOT NULL,
    event_id TEXT NOT NULL,
    item_id TEXT NOT NULL,
    time INTEGER NOT NULL,
    UNIQUE (user_id, event_id)
);
CREATE INDEX histories ON events (user_id, time, sequence, item_id);
CREATE INDEX by_age ON events (time);
"""


async def test_a_file_of_an_earlier_version_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    users = [f"user {n}" for n in range(40)]
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(VERSION_1)
        for n, user in enumerate(users * 3):
            row = (user, f"e{n}", f"i{n}", 200 if n % 2 else 200 - n)
            connection.execute(
                "INSERT INTO events (user_id, event_id, item_id, time) VALUES (?, ?, ?, ?)", row
            )
        connection.execute("DELETE FROM events WHERE user_id = 'user 39'")
    for _ in range(2):
        async with opened(path) as store:
            assert await store.seed() == "tiny/1"
            assert await store.history("user 1") == ("i1", "i41", "i81")  # of the same time
            assert await store.history("user 2") == ("i82", "i42", "i2")
            assert await store.history("user 39") is None
            again = [Event("e1", "user 1", "i", 900), Event("e82", "user 2", "i", 900)]
            assert await store.record(again) == Recorded(known=2)
            assert b"user 39" not in path.read_bytes()
