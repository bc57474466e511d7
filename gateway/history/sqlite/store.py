"""Histories in one file of SQLite, for one gateway.

An acknowledged event survives SIGKILL and loss of power (`serving/sqlite.py`). One thread writes.

A user that is deleted is gone from the files, too, before the deletion is acknowledged: its rows at
once, and what is left of them in the pages where they were, and in the write-ahead log, when its
turn comes (`partitions.py`, `scrubs.py`). Only a deletion that found something leads to that. What
stays is a tombstone (`tombstones.py`).
"""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import structlog

from core.errors import TandemError
from gateway.history.event import Event, read_event
from gateway.history.recent import History, RecentHistories
from gateway.history.sqlite import partitions, writes
from gateway.history.sqlite.partitions import PARTITIONS, Partitions, sql
from gateway.history.sqlite.scrubs import Scrubs
from gateway.history.sqlite.writer import Writer
from gateway.history.store import HOUR_SECONDS, Recorded, Retention, unavailable
from gateway.history.tombstones import UserHash
from serving.sqlite import DurableFile, connect, storage_error, write_facts
from serving.validation import MAX_HISTORY
from serving.workers import Workers

log = structlog.get_logger()

T = TypeVar("T")

READERS: Final = 4
BUSY_SECONDS: Final = 2.0
"""How long to wait for another process that has the file locked, such as a backup."""
SCRUB_SECONDS: Final = 0.01
"""How long partitions are written anew while other writing waits; the last begun is ended."""
LOG_SECONDS: Final = 0.1
"""How long writing waits, when deletion empties the log, for what others have begun to read."""


class SqliteHistoryStore:
    """A file of histories. One process at a time has it open."""

    def __init__(
        self,
        file: DurableFile,
        partitions: Partitions,
        writer: Writer,
        recent: RecentHistories,
        retention: Retention,
        users: UserHash,
        scrub_share: float,
    ) -> None:
        self.path = file.path
        self._file = file
        self._partitions = partitions
        self._writer = writer
        self._readers = _Readers(file.path)
        self._recent = recent
        self._retention = retention
        self._users = users
        self._scrubs = Scrubs(self._scrub, scrub_share)

    @classmethod
    def open(
        cls,
        path: Path,
        retention: Retention,
        users: UserHash | None = None,
        *,
        max_waiting: int = 10_000,
        max_recent_bytes: int = 16 * 2**20,
        scrub_share: float = 0.2,
        max_pages: int | None = None,
    ) -> "SqliteHistoryStore":
        """Opens a file, or makes an empty one; ends deletions that were interrupted.

        Args:
            path: of the file.
            retention: what is kept; less than before takes effect as users have new events.
            users: hashes the ids of users who are deleted; by default with the key that is in a
                file beside it, and is made with it.
            max_waiting: events that may wait to be written.
            max_recent_bytes: see `RecentHistories`.
            scrub_share: of the time that may go into leaving nothing of deleted users.
            max_pages: of 4 KiB, that the file may have; None for as many as the disk has.

        Raises:
            SettingsError: another process has it open, or it is not a store, or cannot be
                written to.
        """
        users = users or UserHash.make(path.with_name(f"{path.name}.key"))
        file = DurableFile.open(
            path,
            partitions.SCHEMA,
            taken=f"the history store {path} is open in another process; several gateways share a "
            "Redis: --history redis://HOST",
            busy_seconds=BUSY_SECONDS,
            prepare=lambda c: _prepare(c, users, max_pages),
        )
        found = Partitions.of_file(file.connection)
        writer = Writer(file.connection, max_waiting, _translate)
        recent = RecentHistories(max_recent_bytes)
        return cls(file, found, writer, recent, retention, users, scrub_share)

    async def record(self, events: Sequence[Event], *, seeded: bool = False) -> Recorded:
        """As the protocol says; all of the batch or nothing."""
        if not events:
            return Recorded()
        of, kept, seeds = self._partitions.of, self._retention, self._users if seeded else None
        return await self._writer.run(
            lambda c: writes.record(c, of, events, kept, seeds),
            weight=len(events),
            committed=lambda _: self._recent.forget({event.user_id for event in events}),
        )

    async def history(self, user_id: str) -> tuple[str, ...] | None:
        """As the protocol says."""
        oldest = self._retention.oldest()
        return await self._recent.of(user_id, oldest, lambda: self._read(user_id))

    async def _read(self, user_id: str) -> History | None:
        rows = await self._newest(partitions.ITEMS, user_id, MAX_HISTORY, in_history=True)
        return History(tuple(item_id for item_id, _ in rows), since=rows[0][1]) if rows else None

    async def events(self, user_id: str, count: int, *, in_history: bool = True) -> list[Event]:
        """As the protocol says."""
        rows = await self._newest(partitions.EVENTS, user_id, count, in_history=in_history)
        return [read_event(*row, in_history=in_history) for row in rows]

    async def delete(self, user_id: str) -> int:
        """As the protocol says; when the caller leaves, the deletion is ended all the same."""
        partition, user = self._partitions.of(user_id), self._users.of(user_id)
        return await self._deleting(user_id, lambda c: writes.delete(c, partition, user_id, user))

    async def merge(self, source: str, user_id: str) -> Recorded:
        """As the protocol says, in one transaction; else as `delete`."""
        of, kept, user = self._partitions.of, self._retention, self._users.of(source)
        places = (of(source), source), (of(user_id), user_id)
        return await self._deleting(source, lambda c: writes.merge(c, *places, user, kept), user_id)

    async def _deleting(
        self, user_id: str, work: Callable[[sqlite3.Connection], tuple[T, bool]], *changed: str
    ) -> T:
        """Does work that deletes a user, and changes others, and leaves nothing of the user.

        The work returns its result, and whether there was anything to delete.
        """
        partition, loop = self._partitions.of(user_id), asyncio.get_running_loop()

        def committed(done: tuple[T, bool]) -> None:
            self._recent.forget([user_id, *changed])
            if done[1]:
                loop.call_soon_threadsafe(self._scrubs.add, partition)

        result, _ = await self._writer.run(work, committed=committed)
        # Also where nothing was found: an earlier call may have left before the end.
        await self._scrubs.done(partition)
        return result

    async def seed(self) -> str | None:
        """As the protocol says."""
        rows = await self._readers.fetch("SELECT value FROM facts WHERE name = 'seed'", ())
        return rows[0][0] if rows else None

    async def set_seed(self, bundle_version: str) -> None:
        """As the protocol says."""
        await self._writer.run(lambda c: write_facts(c, {"seed": bundle_version}))

    async def tend(self) -> float:
        """Deletes events that are too old, some at a time so that others can write in between."""
        partitions = range(PARTITIONS) if self._retention.lifetime is not None else ()
        oldest = self._retention.oldest()
        for partition in partitions:
            while await self._writer.run(partial(writes.sweep, partition=partition, oldest=oldest)):
                pass
        return HOUR_SECONDS

    async def close(self) -> None:
        """Writes what waits, and frees the file for another process."""
        await self._scrubs.close()
        await self._writer.close()
        self._readers.close()
        self._file.close()

    async def _newest(
        self, query: str, user_id: str, count: int, *, in_history: bool
    ) -> list[tuple[Any, ...]]:
        query = sql(query, self._partitions.of(user_id))
        count = min(count, self._retention.most(in_history=in_history))
        oldest = self._retention.oldest()
        rows = await self._readers.fetch(query, (user_id, in_history, oldest, count))
        return rows[::-1]

    async def _scrub(self, due: Sequence[int]) -> int:
        """Scrubs the first of some partitions; returns how many."""
        return await self._writer.run(
            lambda c: partitions.rewrite_first(c, due, SCRUB_SECONDS), settle=_empty_log
        )


class _Readers:
    """Threads that read, each through a connection of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._workers = Workers(READERS)
        self._mine = threading.local()
        self._all: list[sqlite3.Connection] = []

    async def fetch(self, query: str, arguments: Sequence[Any]) -> list[tuple[Any, ...]]:
        """All rows of a query.

        Raises:
            Unavailable: SQLite cannot read, reason HISTORY_UNAVAILABLE.
        """
        return await self._workers.run(self._fetch, query, arguments)

    def close(self) -> None:
        """Waits for what is being read."""
        self._workers.close()
        for connection in self._all:
            connection.close()

    def _fetch(self, query: str, arguments: Sequence[Any]) -> list[tuple[Any, ...]]:
        try:
            connection: sqlite3.Connection | None = getattr(self._mine, "connection", None)
            if connection is None:
                connection = self._mine.connection = connect(self._path, BUSY_SECONDS)
                connection.execute("PRAGMA query_only=ON")
                self._all.append(connection)
            return connection.execute(query, arguments).fetchall()
        except sqlite3.Error as error:
            raise _translate(error) from error


def _prepare(connection: sqlite3.Connection, users: UserHash, max_pages: int | None) -> None:
    users.check(connection)
    if max_pages is not None:
        connection.execute(f"PRAGMA max_page_count={int(max_pages)}")
    partitions.prepare(connection)


def _empty_log(connection: sqlite3.Connection) -> None:
    connection.execute(f"PRAGMA busy_timeout={int(LOG_SECONDS * 1_000)}")
    try:
        partitions.truncate(connection)
    finally:
        connection.execute(f"PRAGMA busy_timeout={int(BUSY_SECONDS * 1_000)}")


def _translate(error: sqlite3.Error) -> TandemError:
    log.warning("history store failed", error=str(error))
    return storage_error(error, reason_full="HISTORY_FULL", otherwise=unavailable("sqlite"))
