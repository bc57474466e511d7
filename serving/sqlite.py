"""Files of SQLite that one process has to itself, and that keep what they have acknowledged."""

import fcntl
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO

from core.errors import SettingsError


def hold(path: Path, taken: str) -> BinaryIO:
    """Holds a file for this process, until what is returned is closed or the process dies.

    Args:
        path: of the file, whose directory is made if it is not there.
        taken: what to say when another process holds it.

    Raises:
        OSError: the lock beside it cannot be written.
        SettingsError: another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # A file of its own: closing any descriptor of a database drops SQLite's own locks on it.
    lock = path.with_name(f"{path.name}.lock").open("wb")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise SettingsError(taken) from error
    return lock


def connect(path: Path, busy_seconds: float = 5.0) -> sqlite3.Connection:
    """Opens a connection in autocommit mode, for one thread at a time, though not always the same.

    Args:
        path: of the file.
        busy_seconds: how long to wait for another process that has it locked, such as a backup.
    """
    return sqlite3.connect(path, busy_seconds, isolation_level=None, check_same_thread=False)


@contextmanager
def snapshot(path: Path, busy_seconds: float = 5.0) -> Iterator[sqlite3.Connection]:
    """Reads a file as it is when the block reads first, without a lock of its own.

    A process that has the file open goes on writing to it, and the block does not see what it
    writes.

    Args:
        path: of the file, which is not made where it is missing.
        busy_seconds: as for `connect`.

    Raises:
        sqlite3.Error: the file cannot be read.
    """
    uri = f"{path.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, busy_seconds, isolation_level=None, uri=True)) as connection:
        connection.execute("BEGIN")
        yield connection


def make_durable(connection: sqlite3.Connection) -> None:
    """Has every commit on disk when it returns; readers and the writer do not wait for each other.

    Raises:
        sqlite3.Error: the file is not a database, or cannot be written to.
    """
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")


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
