"""Files of SQLite that one process has to itself, and that keep what they have acknowledged.

A transaction is on disk before it returns (WAL, synchronous=FULL), so that a process which is
killed loses nothing that it acknowledged and leaves nothing half done. Readers have connections of
their own, and neither wait for the writer nor hold it up.

Beside its own tables a file has `facts`, by name; one of them is the schema that it was written
with.
"""

import fcntl
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from core.errors import ResourceExhausted, SettingsError, TandemError

FULL_RETRY_SECONDS: Final = 5.0
"""When to come back where the disk is full."""
STATEMENTS: Final = 4_096
"""That a connection keeps prepared, at most: a store that divides its tables has many."""

_FACTS: Final = (
    "CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID"
)


@dataclass(frozen=True)
class Schema:
    """What a kind of file is like."""

    name: str
    """Of the kind, in messages: "the history store"."""
    version: str
    """Files of another one are refused, unless they can be upgraded."""
    tables: str
    """SQL that makes them where they are missing."""
    upgrades: Mapping[str, Callable[[sqlite3.Connection], None]] = field(default_factory=dict)
    """By an earlier version: moves what its tables hold into these, inside of a transaction."""

    def check(self, path: Path, facts: Mapping[str, str]) -> None:
        """Checks that a file was written with this schema, or one that can be upgraded.

        Raises:
            SettingsError: it was written with another one.
        """
        found = facts.get("schema", self.version)
        if found != self.version and found not in self.upgrades:
            raise SettingsError(
                f"{self.name} {path} has schema {found}, and this Tandem writes {self.version}"
            )


class DurableFile:
    """A file that is open for writing; `-wal`, `-shm` and mostly `.lock` are beside it meanwhile.

    `connection` writes, in autocommit mode; it is for one thread at a time.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: BinaryIO | None) -> None:
        self.path = path
        self.connection = connection
        self._lock = lock

    @classmethod
    def open(
        cls,
        path: Path,
        schema: Schema,
        *,
        taken: str | None,
        busy_seconds: float = 5.0,
        prepare: Callable[[sqlite3.Connection], None] = lambda _: None,
    ) -> "DurableFile":
        """Opens a file, or makes an empty one.

        Args:
            path: of the file, whose directory is made if it is not there.
            schema: what it must be like.
            taken: what to say when another process has it open; None where several may.
            busy_seconds: how long to wait for another process that has it locked, such as a backup.
            prepare: readies a connection and a file whose schema is right.

        Raises:
            SettingsError: another process has it open, or it is none of SQLite's or of another
                schema, or cannot be written to.
        """
        with ExitStack() as undo:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                lock = None if taken is None else undo.enter_context(_hold(path, taken))
                connection = undo.enter_context(closing(connect(path, busy_seconds)))
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=FULL")
                connection.execute(_FACTS)
                schema.check(path, read_facts(connection))
                connection.executescript(schema.tables)
                _upgrade(connection, schema)
                prepare(connection)
                connection.execute(
                    "INSERT OR IGNORE INTO facts VALUES ('schema', ?)", (schema.version,)
                )
            except (sqlite3.Error, OSError) as error:
                raise SettingsError(f"cannot open {schema.name} {path}: {error}") from error
            undo.pop_all()
        return cls(path, connection, lock)

    def close(self) -> None:
        """Closes the file, for another process to open."""
        self.connection.close()
        if self._lock is not None:
            self._lock.close()


def read_facts(connection: sqlite3.Connection) -> dict[str, str]:
    """All facts of a file."""
    return dict(connection.execute("SELECT name, value FROM facts"))


def write_facts(connection: sqlite3.Connection, facts: Mapping[str, str]) -> None:
    """Writes facts, in place of those of the same names."""
    connection.executemany("REPLACE INTO facts VALUES (?, ?)", facts.items())


def connect(path: Path, busy_seconds: float = 5.0) -> sqlite3.Connection:
    """Opens a connection in autocommit mode, for one thread at a time, though not always the same.

    Args:
        path: of the file.
        busy_seconds: how long to wait for another process that has it locked, such as a backup.
    """
    return sqlite3.connect(
        path,
        busy_seconds,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=STATEMENTS,
    )


@contextmanager
def snapshot(path: Path, busy_seconds: float = 5.0) -> Iterator[sqlite3.Connection]:
    """Reads a file as it is when the block reads first, without a lock of its own.

    A process that has the file open goes on writing to it, and the block does not see what it
    writes. The connection is for one thread at a time, though not always the same.

    Args:
        path: of the file, which is not made where it is missing.
        busy_seconds: as for `connect`.

    Raises:
        sqlite3.Error: the file cannot be read.
    """
    uri = f"{path.absolute().as_uri()}?mode=ro"
    with closing(
        sqlite3.connect(uri, busy_seconds, isolation_level=None, uri=True, check_same_thread=False)
    ) as connection:
        connection.execute("BEGIN")
        yield connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Does all of the block's work, or none of it when it raises."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _upgrade(connection: sqlite3.Connection, schema: Schema) -> None:
    upgrade = schema.upgrades.get(read_facts(connection).get("schema", schema.version))
    if upgrade is not None:
        with transaction(connection):
            upgrade(connection)
            write_facts(connection, {"schema": schema.version})


def storage_error(error: sqlite3.Error, *, reason_full: str, otherwise: TandemError) -> TandemError:
    """What an error of SQLite is to callers.

    Args:
        error: raised while reading or writing; the transaction is rolled back.
        reason_full: of the error where the disk is full.
        otherwise: the error where it is something else.
    """
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
        return ResourceExhausted(
            "the disk is full; nothing was written",
            reason=reason_full,
            retry_after=FULL_RETRY_SECONDS,
        )
    return otherwise


def _hold(path: Path, taken: str) -> BinaryIO:
    """Holds a file for this process, until what is returned is closed or the process dies.

    Raises:
        OSError: the lock beside it cannot be written.
        SettingsError: another process holds it.
    """
    # A file of its own: closing any descriptor of a database drops SQLite's own locks on it.
    lock = path.with_name(f"{path.name}.lock").open("wb")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise SettingsError(taken) from error
    return lock
