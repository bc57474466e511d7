"""Histories in one file of SQLite, for one gateway.

An acknowledged event survives SIGKILL and loss of power (`serving/sqlite.py`). One thread writes.

A user that is deleted is gone from the files, too. SQLite's `secure_delete` overwrites rows where
they are, but not the copies that stay in a page when its rows move to another (of 150 users that
were deleted one after the other, 7 to 12 left some). So the file is written anew, by VACUUM, and
the log that carried it is truncated, before a deletion is acknowledged; deletions that wait at the
same time share that. What stays is a tombstone (`tombstones.py`).
"""

import sqlite3
import threading
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import structlog

from core.errors import TandemError
from gateway.history.recent import History, RecentHistories
from gateway.history.store import HOUR_SECONDS, Event, Recorded, Retention, now, unavailable
from gateway.history.tombstones import TABLE, Tombstone, UserHash, is_deleted, put
from gateway.history.writer import Writer
from serving.sqlite import DurableFile, Schema, connect, storage_error, write_facts
from serving.workers import Workers

log = structlog.get_logger()

READERS: Final = 4
BUSY_SECONDS: Final = 2.0
"""How long to wait for another process that has the file locked, such as a backup."""
SWEEP_EVENTS: Final = 1_000
"""Outdated events that are deleted at a time."""

_TABLES: Final = (
    """
CREATE TABLE IF NOT EXISTS events (
    sequence INTEGER PRIMARY KEY,  -- the order of arrival
    user_id TEXT NOT NULL,
    event_id TEXT NOT NULL,
    item_id TEXT NOT NULL,
    time INTEGER NOT NULL,         -- microseconds since 1970
    UNIQUE (user_id, event_id)
);
-- Holds all that a history needs, in its order.
CREATE INDEX IF NOT EXISTS histories ON events (user_id, time, sequence, item_id);
"""
    + TABLE
)
_SCHEMA: Final = Schema("the history store", version="1", tables=_TABLES)
_BY_AGE: Final = "CREATE INDEX IF NOT EXISTS by_age ON events (time)"
"""Only for sweeping: it makes every event dearer."""

_NEWEST: Final = "FROM events WHERE user_id = ? AND time >= ? ORDER BY time DESC, sequence DESC"
_ITEMS: Final = f"SELECT item_id, time {_NEWEST} LIMIT ?"
_EVENTS: Final = f"SELECT event_id, user_id, item_id, time {_NEWEST} LIMIT ?"
_TIME_OF: Final = f"SELECT time {_NEWEST} LIMIT 1 OFFSET ?"
_FIND: Final = "SELECT 1 FROM events WHERE user_id = ? AND event_id = ?"
_INSERT: Final = (
    "INSERT OR IGNORE INTO events (user_id, event_id, item_id, time) VALUES (?, ?, ?, ?)"
)
_TRIM: Final = f"DELETE FROM events WHERE sequence IN (SELECT sequence {_NEWEST} LIMIT -1 OFFSET ?)"  # noqa: S608 - no text of a caller's
_EXPIRE: Final = "DELETE FROM events WHERE user_id = ? AND time < ?"
_SWEEP: Final = (
    "DELETE FROM events WHERE sequence IN (SELECT sequence FROM events WHERE time < ? LIMIT ?)"
)


class SqliteHistoryStore:
    """A file of histories. One process at a time has it open."""

    def __init__(
        self,
        file: DurableFile,
        writer: Writer,
        recent: RecentHistories,
        retention: Retention,
        users: UserHash,
    ) -> None:
        self.path = file.path
        self._file = file
        self._writer = writer
        self._readers = _Readers(file.path)
        self._recent = recent
        self._retention = retention
        self._users = users

    @classmethod
    def open(
        cls,
        path: Path,
        retention: Retention,
        users: UserHash | None = None,
        *,
        max_waiting: int = 10_000,
        max_recent_bytes: int = 16 * 2**20,
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
            max_pages: of 4 KiB, that the file may have; None for as many as the disk has.

        Raises:
            SettingsError: another process has it open, or it is not a store, or cannot be
                written to.
        """
        users = users or UserHash.make(path.with_name(f"{path.name}.key"))
        file = DurableFile.open(
            path,
            _SCHEMA,
            taken=f"the history store {path} is open in another process; several gateways share a "
            "Redis: --history redis://HOST",
            busy_seconds=BUSY_SECONDS,
            prepare=lambda c: _prepare(c, users, max_pages, sweeps=retention.lifetime is not None),
        )
        writer = Writer(file.connection, max_waiting, _translate)
        return cls(file, writer, RecentHistories(max_recent_bytes), retention, users)

    async def record(self, events: Sequence[Event], *, seeded: bool = False) -> Recorded:
        """As the protocol says; all of the batch or nothing."""
        if not events:
            return Recorded()
        kept, seeds = self._retention, self._users if seeded else None
        return await self._writer.run(
            lambda c: _record(c, events, kept, seeds),
            weight=len(events),
            committed=lambda: self._recent.forget({event.user_id for event in events}),
        )

    async def history(self, user_id: str) -> tuple[str, ...] | None:
        """As the protocol says."""
        oldest = self._retention.oldest()
        return await self._recent.of(user_id, oldest, lambda: self._read(user_id))

    async def _read(self, user_id: str) -> History | None:
        rows = await self._newest(_ITEMS, user_id, self._retention.events)
        return History(tuple(item_id for item_id, _ in rows), since=rows[0][1]) if rows else None

    async def events(self, user_id: str, count: int) -> list[Event]:
        """As the protocol says."""
        rows = await self._newest(_EVENTS, user_id, min(count, self._retention.events))
        return [Event(*row) for row in rows]

    async def delete(self, user_id: str) -> int:
        """As the protocol says."""
        user = self._users.of(user_id)
        return await self._writer.run(
            lambda c: _delete(c, user_id, user),
            committed=lambda: self._recent.forget([user_id]),
            settle=_scrub,
        )

    async def seed(self) -> str | None:
        """As the protocol says."""
        rows = await self._readers.fetch("SELECT value FROM facts WHERE name = 'seed'", ())
        return rows[0][0] if rows else None

    async def set_seed(self, bundle_version: str) -> None:
        """As the protocol says."""
        await self._writer.run(lambda c: write_facts(c, {"seed": bundle_version}))

    async def tend(self) -> float:
        """Deletes events that are too old, some at a time so that others can write in between."""
        if self._retention.lifetime is not None:
            oldest = self._retention.oldest()
            while await self._writer.run(lambda c: _sweep(c, oldest)) == SWEEP_EVENTS:
                pass
        return HOUR_SECONDS

    async def close(self) -> None:
        """Writes what waits, and frees the file for another process."""
        await self._writer.close()
        self._readers.close()
        self._file.close()

    async def _newest(self, query: str, user_id: str, count: int) -> list[tuple[Any, ...]]:
        rows = await self._readers.fetch(query, (user_id, self._retention.oldest(), count))
        return rows[::-1]


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


def _prepare(
    connection: sqlite3.Connection, users: UserHash, max_pages: int | None, *, sweeps: bool
) -> None:
    users.check(connection)
    connection.execute("PRAGMA secure_delete=ON")
    connection.execute("PRAGMA temp_store=MEMORY")  # VACUUM leaves no copy elsewhere
    if max_pages is not None:
        connection.execute(f"PRAGMA max_page_count={int(max_pages)}")
    connection.execute(_BY_AGE if sweeps else "DROP INDEX IF EXISTS by_age")
    _scrub(connection)


def _record(
    connection: sqlite3.Connection,
    events: Sequence[Event],
    retention: Retention,
    seeds: UserHash | None = None,
) -> Recorded:
    """Records events; of a bundle's, for which `seeds` is given, those of users not deleted."""
    by_user = defaultdict(list)
    for event in events:
        by_user[event.user_id].append(event)
    total = Recorded()
    for user_id, batch in by_user.items():
        if seeds is not None and is_deleted(connection, seeds.of(user_id)):
            total += Recorded(outdated=len(batch))
            continue
        total += _record_of(connection, user_id, batch, retention)
    return total


def _record_of(
    connection: sqlite3.Connection, user_id: str, events: Sequence[Event], retention: Retention
) -> Recorded:
    """Records one user's events, and drops what is no longer kept of it."""
    oldest = retention.oldest()
    # Of a full history, the time that an event must be newer than.
    full = connection.execute(_TIME_OF, (user_id, 0, retention.events - 1)).fetchone()
    new = known = 0
    for event in events:
        if event.time >= oldest and (full is None or event.time > full[0]):
            row = (user_id, event.event_id, event.item_id, event.time)
            inserted = connection.execute(_INSERT, row).rowcount
            new, known = new + inserted, known + 1 - inserted
        elif connection.execute(_FIND, (user_id, event.event_id)).fetchone():
            known += 1
    if new:
        connection.execute(_TRIM, (user_id, 0, retention.events))
        connection.execute(_EXPIRE, (user_id, oldest))
    return Recorded(new, known, len(events) - new - known)


def _delete(connection: sqlite3.Connection, user_id: str, user: bytes) -> int:
    put(connection, [Tombstone(user, now())])
    write_facts(connection, {"scrub": "due"})
    return connection.execute("DELETE FROM events WHERE user_id = ?", (user_id,)).rowcount


def _scrub(connection: sqlite3.Connection) -> None:
    """Leaves no bytes in the files of what was deleted from the tables, if anything was."""
    if not connection.execute("SELECT 1 FROM facts WHERE name = 'scrub'").fetchone():
        return
    connection.execute("VACUUM")
    busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        raise sqlite3.OperationalError("another process reads the file: deletion is not complete")
    connection.execute("DELETE FROM facts WHERE name = 'scrub'")


def _sweep(connection: sqlite3.Connection, oldest: int) -> int:
    return connection.execute(_SWEEP, (oldest, SWEEP_EVENTS)).rowcount


def _translate(error: sqlite3.Error) -> TandemError:
    log.warning("history store failed", error=str(error))
    return storage_error(error, reason_full="HISTORY_FULL", otherwise=unavailable("sqlite"))
