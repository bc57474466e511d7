"""Which users were deleted, without saying who they were.

A store remembers that a user was deleted for longer than anything else of it: a bundle still has
the history that the store was filled with, and a Redis may fall back to what it was before. What
it remembers is a keyed hash, HMAC-SHA256, of the user's id: without the key nobody can tell whose
it is, nor try whether it is somebody's. The key is in a file of its own, so that no copy of a store
has both.

Both stores of histories have the table: the one in SQLite among its own, the one in Redis in a file
beside each gateway, which outlives what Redis has. A user who comes back stays in it.
"""

import hashlib
import hmac
import os
import secrets
import sqlite3
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from core.errors import SettingsError
from serving.sqlite import DurableFile, Schema, read_facts, snapshot, transaction, write_facts

TABLE: Final = """
CREATE TABLE IF NOT EXISTS deleted_users (
    user BLOB PRIMARY KEY,  -- the keyed hash of the id
    time INTEGER NOT NULL   -- of the deletion, in microseconds since 1970
) WITHOUT ROWID;
"""
_SCHEMA: Final = Schema("the file of deleted users", version="1", tables=TABLE)
_PUT: Final = (
    "INSERT INTO deleted_users VALUES (?, ?) "
    "ON CONFLICT (user) DO UPDATE SET time = max(time, excluded.time)"
)
_KEY_FACT: Final = "key of deleted users"
_HASH_BYTES: Final = 16
_MIN_KEY_BYTES: Final = 32


class Tombstone(NamedTuple):
    """That a user was deleted."""

    user: bytes
    """The keyed hash of its id."""
    time: int
    """When, in microseconds since 1970; of the last time where there were several."""


class UserHash:
    """Hashes the ids of users with a secret key.

    Args:
        key: at least 32 bytes.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self.fingerprint = self.of("")
        """Tells keys apart; no user has an empty id."""

    @classmethod
    def read(cls, path: Path) -> "UserHash":
        """Reads the key from a file.

        Raises:
            SettingsError: the file cannot be read, or its key is too short to be secret.
        """
        try:
            key = path.read_bytes().strip()
        except OSError as error:
            raise SettingsError(f"cannot read the key in {path}: {error.strerror}") from error
        if len(key) < _MIN_KEY_BYTES:
            raise SettingsError(
                f"the key in {path} has {len(key)} bytes; give at least {_MIN_KEY_BYTES}, such as "
                "`openssl rand -hex 32` prints"
            )
        return cls(key)

    @classmethod
    def make(cls, path: Path) -> "UserHash":
        """Reads the key from a file, which is made with a random key if it is not there.

        Raises:
            SettingsError: as `read` does, or the file cannot be made.
        """
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                temporary.touch(mode=0o600)
                temporary.write_text(secrets.token_hex(32) + "\n", encoding="ascii")
                with suppress(FileExistsError):  # another process was first
                    os.link(temporary, path)
                temporary.unlink()
        except OSError as error:
            raise SettingsError(f"cannot make the key {path}: {error.strerror}") from error
        return cls.read(path)

    def of(self, user_id: str) -> bytes:
        """The hash of a user's id, cut to 16 bytes: enough for no two users to share one."""
        return hmac.digest(self._key, user_id.encode(), hashlib.sha256)[:_HASH_BYTES]

    def key_for(self, purpose: str) -> bytes:
        """Another key of the same secret: what is made with one says nothing of the other."""
        return hmac.digest(self._key, b"key for " + purpose.encode(), hashlib.sha256)

    def check(self, connection: sqlite3.Connection) -> None:
        """Checks that a file's users were hashed with this key, or notes that they will be.

        Raises:
            SettingsError: they were hashed with another.
        """
        own = self.fingerprint.hex()
        some = connection.execute("SELECT 1 FROM deleted_users LIMIT 1").fetchone()
        if some and read_facts(connection).get(_KEY_FACT) != own:
            raise SettingsError(
                "the deleted users were hashed with another key than --history-key-file has: "
                "give the one of before, or users that were deleted come back"
            )
        write_facts(connection, {_KEY_FACT: own})


def put(connection: sqlite3.Connection, tombstones: Iterable[Tombstone]) -> None:
    """Adds tombstones to a file's table; of the same user the newest stays."""
    connection.executemany(_PUT, tombstones)


def is_deleted(connection: sqlite3.Connection, user: bytes) -> bool:
    """Whether a user, by its hash, was ever deleted."""
    query = "SELECT 1 FROM deleted_users WHERE user = ?"
    return connection.execute(query, (user,)).fetchone() is not None


class Tombstones:
    """A file of tombstones alone, which several processes of a machine may share.

    Its methods block, for as long as a flush of the disk takes.
    """

    def __init__(self, file: DurableFile) -> None:
        self._file = file

    @classmethod
    def open(cls, path: Path, users: UserHash) -> "Tombstones":
        """Opens a file, or makes an empty one.

        Raises:
            SettingsError: it is not such a file, or cannot be written to, or has another key.
        """
        return cls(DurableFile.open(path, _SCHEMA, taken=None, prepare=users.check))

    def put(self, tombstones: Iterable[Tombstone]) -> None:
        """Adds tombstones, which are on disk when it returns.

        Raises:
            sqlite3.Error: the disk is full or fails.
        """
        with transaction(self._file.connection):
            put(self._file.connection, tombstones)

    def after(self, user: bytes, limit: int) -> list[Tombstone]:
        """A page of them, by hash: those after a hash.

        Raises:
            sqlite3.Error: the disk fails.
        """
        query = "SELECT user, time FROM deleted_users WHERE user > ? ORDER BY user LIMIT ?"
        return [Tombstone(*row) for row in self._file.connection.execute(query, (user, limit))]

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


@dataclass(frozen=True)
class DeletedUsers:
    """The deleted users of a store at one moment, for whoever reads data that still has them."""

    hashes: frozenset[bytes]
    users: UserHash

    def __contains__(self, user_id: object) -> bool:
        return self.users.of(str(user_id)) in self.hashes


def read_deleted(path: Path, key_file: Path) -> DeletedUsers:
    """Reads who was deleted, from a store in SQLite or a gateway's file; either may be in use.

    Raises:
        SettingsError: a file is missing or is none, or the key is another than it was made with.
    """
    users = UserHash.read(key_file)
    if not path.is_file():
        raise SettingsError(f"there is no file of deleted users {path}")
    try:
        with snapshot(path) as connection:
            found = read_facts(connection).get(_KEY_FACT)
            rows = connection.execute("SELECT user FROM deleted_users").fetchall()
    except sqlite3.Error as error:
        raise SettingsError(f"cannot read the deleted users in {path}: {error}") from error
    if found != users.fingerprint.hex():
        raise SettingsError(f"{path} was made with another key than {key_file} has")
    return DeletedUsers(frozenset(user for (user,) in rows), users)
