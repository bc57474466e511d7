"""The tables of the store in SQLite. Users are divided among 256 partitions, each with its own.

SQLite's `secure_delete` overwrites rows where they are, and pages that it frees
(https://www.sqlite.org/pragma.html#pragma_secure_delete). It does not overwrite the copies that
stay in a page when its rows move to another: of 150 users that were deleted one after the other, 7
to 12 left some. But rows only move within their table, so such copies are in pages of their table.
That is why a user leaves nothing once its partition is written anew (`rewrite`), which frees all
pages of its tables: a small part of the file, whatever its size.

Which partition a user is in depends on a random number of the file: nobody can make up users that
are all in one.
"""

import hashlib
import secrets
import sqlite3
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

from gateway.history.event import Event, write_details
from gateway.history.tombstones import TABLE
from serving.sqlite import Schema, read_facts, transaction, write_facts

PARTITIONS: Final = 256
_ID_BYTES: Final = 16
"""Of the hash by which an event is known: as many as let no two events of a user share one."""

_EVENTS_TABLE: Final = """
CREATE TABLE IF NOT EXISTS events_{n} (
    user_id TEXT NOT NULL,
    in_history INTEGER NOT NULL,  -- 1 where the models read it, else 0
    time INTEGER NOT NULL,        -- microseconds since 1970
    sequence INTEGER NOT NULL,    -- the order of arrival among events of the same time
    event_id TEXT NOT NULL,
    item_id TEXT NOT NULL,
    details TEXT NOT NULL,        -- as gateway/history/event.py writes them
    PRIMARY KEY (user_id, in_history, time, sequence)
) WITHOUT ROWID;
"""
_IDS_TABLE: Final = """
-- Of all events that were recorded, kept or not.
CREATE TABLE IF NOT EXISTS ids_{n} (
    user_id TEXT NOT NULL,
    event BLOB NOT NULL,        -- the hash of its identifier
    time INTEGER NOT NULL,      -- of the event
    PRIMARY KEY (user_id, event)
) WITHOUT ROWID;
"""
_BUFFERS: Final = """
CREATE TEMP TABLE buffer_events AS SELECT * FROM events_0 LIMIT 0;
CREATE TEMP TABLE buffer_ids AS SELECT * FROM ids_0 LIMIT 0;
"""

NEWEST: Final = (
    "FROM events_{n} WHERE user_id = ? AND in_history = ? AND time >= ? "
    "ORDER BY time DESC, sequence DESC LIMIT ?"
)
ITEMS: Final = f"SELECT item_id, time {NEWEST}"
EVENTS: Final = f"SELECT event_id, user_id, item_id, time, details {NEWEST}"
PLACE: Final = f"SELECT time, sequence {NEWEST} OFFSET ?"
_FIND: Final = "SELECT 1 FROM ids_{n} WHERE user_id = ? AND event = ? AND time >= ?"
_KNOW: Final = (
    "INSERT INTO ids_{n} VALUES (?, ?, ?) "
    "ON CONFLICT (user_id, event) DO UPDATE SET time = excluded.time WHERE time < ?"
)
_ADD: Final = (
    "INSERT INTO events_{n} VALUES (?1, ?2, ?3, (SELECT coalesce(max(sequence) + 1, 0) "
    "FROM events_{n} WHERE user_id = ?1 AND in_history = ?2 AND time = ?3), ?4, ?5, ?6)"
)
TRIM: Final = (
    "DELETE FROM events_{n} WHERE user_id = ? AND in_history = ? AND (time, sequence) < (?, ?)"
)
EXPIRE: Final = "DELETE FROM events_{n} WHERE user_id = ? AND in_history = ? AND time < ?"
_DELETE: Final = (
    "DELETE FROM events_{n} WHERE user_id = ?",
    "DELETE FROM ids_{n} WHERE user_id = ?",
)
_GIVE_IDS: Final = (
    "INSERT INTO ids_{n} SELECT ?, event, time FROM ids_%d WHERE user_id = ? "
    "ON CONFLICT (user_id, event) DO UPDATE SET time = max(time, excluded.time)"
)
_SWEEP: Final = (
    "DELETE FROM events_{n} WHERE (user_id, in_history, time, sequence) IN "
    "(SELECT user_id, in_history, time, sequence FROM events_{n} WHERE time < ? LIMIT ?)",
    "DELETE FROM ids_{n} WHERE (user_id, event) IN "
    "(SELECT user_id, event FROM ids_{n} WHERE time < ? LIMIT ?)",
)
_REWRITE: Final = (
    "INSERT INTO buffer_events SELECT * FROM events_{n}",
    "DELETE FROM events_{n}",
    "INSERT INTO events_{n} SELECT * FROM buffer_events",
    "DELETE FROM buffer_events",
    "INSERT INTO buffer_ids SELECT * FROM ids_{n}",
    "DELETE FROM ids_{n}",
    "INSERT INTO ids_{n} SELECT * FROM buffer_ids",
    "DELETE FROM buffer_ids",
)
_DUE: Final = "SELECT substr(name, 7) FROM facts WHERE name GLOB 'scrub ?*'"
_DONE: Final = "DELETE FROM facts WHERE name GLOB 'scrub ?*' AND value = 'rewritten'"


@cache
def sql(template: str, partition: int) -> str:
    """A statement about a partition."""
    return template.format(n=partition)


@dataclass(frozen=True)
class Partitions:
    """Finds a user's partition."""

    salt: bytes

    @classmethod
    def of_file(cls, connection: sqlite3.Connection) -> "Partitions":
        """Those of a file, whose random number is drawn when there is none."""
        salt = read_facts(connection).get("salt")
        if salt is None:
            salt = secrets.token_hex(hashlib.blake2b.SALT_SIZE)
            write_facts(connection, {"salt": salt})
        return cls(bytes.fromhex(salt))

    def of(self, user_id: str) -> int:
        """Its number."""
        digest = hashlib.blake2b(user_id.encode(), digest_size=1, salt=self.salt).digest()
        return digest[0] % PARTITIONS


def event_hash(event_id: str) -> bytes:
    """What an event is known by."""
    return hashlib.blake2b(event_id.encode(), digest_size=_ID_BYTES).digest()


def prepare(connection: sqlite3.Connection) -> None:
    """Readies a connection to write, and ends the deletions that were interrupted."""
    connection.execute("PRAGMA secure_delete=ON")
    connection.execute("PRAGMA temp_store=MEMORY")  # buffers leave no copy elsewhere
    connection.executescript(_BUFFERS)
    due = [int(partition) for (partition,) in connection.execute(_DUE).fetchall()]
    for partition in due:
        with transaction(connection):
            rewrite(connection, partition)
    if due:
        truncate(connection)


def add(connection: sqlite3.Connection, partition: int, event: Event, oldest: int) -> bool:
    """Adds an event, unless one of its identifier was recorded since `oldest`."""
    known = (event.user_id, event_hash(event.event_id), event.time, oldest)
    if not connection.execute(sql(_KNOW, partition), known).rowcount:
        return False
    row = (event.user_id, event.in_history, event.time, event.event_id, event.item_id)
    connection.execute(sql(_ADD, partition), (*row, write_details(event)))
    return True


def is_known(connection: sqlite3.Connection, partition: int, event: Event, oldest: int) -> bool:
    """Whether an event of this identifier was recorded since `oldest`."""
    arguments = (event.user_id, event_hash(event.event_id), oldest)
    return connection.execute(sql(_FIND, partition), arguments).fetchone() is not None


def delete(connection: sqlite3.Connection, partition: int, user_id: str) -> tuple[int, bool]:
    """Deletes a user's rows, and notes that its partition is to be written anew.

    Returns:
        How many events there were, and whether there was anything.
    """
    events, ids = (
        connection.execute(sql(each, partition), (user_id,)).rowcount for each in _DELETE
    )
    if events or ids:
        write_facts(connection, {f"scrub {partition}": "due"})
    return events, bool(events or ids)


def give_ids(
    connection: sqlite3.Connection, source: tuple[int, str], target: tuple[int, str]
) -> None:
    """Makes what is known of one user's events known of another's.

    Args:
        connection: to the file.
        source: whose events they are: partition and user.
        target: who gets them.
    """
    query = sql(_GIVE_IDS % source[0], target[0])
    connection.execute(query, (target[1], source[1]))


def rewrite(connection: sqlite3.Connection, partition: int) -> None:
    """Writes a partition anew: what was deleted from it is then in the write-ahead log alone."""
    for statement in _REWRITE:
        connection.execute(sql(statement, partition))
    write_facts(connection, {f"scrub {partition}": "rewritten"})


def rewrite_first(connection: sqlite3.Connection, due: Sequence[int], seconds: float) -> int:
    """Writes partitions anew, at least one, until so much time has passed; returns how many."""
    end = time.perf_counter() + seconds
    for count, partition in enumerate(due, start=1):
        rewrite(connection, partition)
        if time.perf_counter() > end:
            return count
    return len(due)


def truncate(connection: sqlite3.Connection) -> None:
    """Empties the write-ahead log, outside of a transaction.

    Raises:
        sqlite3.OperationalError: another process reads the file.
    """
    busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        raise sqlite3.OperationalError("another process reads the file: deletion is not complete")
    connection.execute(_DONE)


def sweep(connection: sqlite3.Connection, partition: int, oldest: int, most: int) -> int:
    """Deletes what is older than `oldest`, up to `most` rows of a table; returns how many."""
    return sum(connection.execute(sql(each, partition), (oldest, most)).rowcount for each in _SWEEP)


def _upgrade_1(connection: sqlite3.Connection) -> None:
    """Divides the one table of version 1 among partitions."""
    connection.execute("PRAGMA secure_delete=ON")
    partitions = Partitions.of_file(connection)
    query = "SELECT user_id, event_id, item_id, time FROM events ORDER BY user_id, time, sequence"
    for user_id, event_id, item_id, moment in connection.execute(query):
        partition = partitions.of(user_id)
        add(connection, partition, Event(event_id, user_id, item_id, moment), 0)
    connection.execute("DROP TABLE events")
    connection.execute("DELETE FROM facts WHERE name = 'scrub'")
    write_facts(connection, {"scrub 0": "due"})  # to empty the log


def _upgrade_2(connection: sqlite3.Connection) -> None:
    """Gives the events of version 2, all of histories, the columns that they had not."""
    connection.execute("PRAGMA secure_delete=ON")
    for n in range(PARTITIONS):
        connection.execute(f"ALTER TABLE events_{n} RENAME TO events_before")
        connection.execute(_EVENTS_TABLE.format(n=n))
        connection.execute(
            f"INSERT INTO events_{n} "  # noqa: S608 - a number
            "SELECT user_id, 1, time, sequence, event_id, item_id, '' FROM events_before"
        )
        connection.execute("DROP TABLE events_before")
    write_facts(connection, {"scrub 0": "due"})  # to empty the log


def _tables(numbers: Iterable[int]) -> str:
    each = _EVENTS_TABLE + _IDS_TABLE
    return "BEGIN IMMEDIATE;\n" + "".join(each.format(n=n) for n in numbers) + TABLE + "COMMIT;"


SCHEMA: Final = Schema(
    "the history store",
    version="3",
    tables=_tables(range(PARTITIONS)),
    upgrades={"1": _upgrade_1, "2": _upgrade_2},
)
