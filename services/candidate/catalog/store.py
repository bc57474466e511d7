"""The store: what has changed in the catalog since its bundle was built, in one file of SQLite.

Of each item only the newest change is kept, under a sequence that is larger than all before it.
Whoever has all changes up to some sequence therefore reads on from there, however long it was
away: what it missed is newer, and what was replaced meanwhile need not be told.

A transaction is on disk before `append` returns, and readers do not wait for it
(`serving/sqlite.py`); `read_items` is for other processes.
"""

import sqlite3
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from core.catalog import CatalogItem
from core.errors import SettingsError, Unavailable
from services.candidate.catalog.fingerprint import BundleFingerprint
from services.candidate.catalog.rows import TABLE, StoredChange, read_item, read_row, write_row
from services.candidate.changes import PlacedChange
from serving.sqlite import (
    DurableFile,
    Schema,
    connect,
    read_facts,
    snapshot,
    storage_error,
    transaction,
    write_facts,
)

PAGE: Final = 1_000
"""Changes that `replay` reads at a time."""

_SCHEMA: Final = Schema("the store", version="1", tables=TABLE)


@dataclass(frozen=True)
class Snapshot:
    """What a store has of items at one moment."""

    id: str
    """Of the store."""
    sequence: int
    """Of the newest change."""
    items: Mapping[str, CatalogItem]
    """Those added or replaced, by id; deleted ones are not among them."""


def read_items(path: Path) -> Snapshot:
    """Reads the items of a store, which another process may have open and write to.

    Raises:
        SettingsError: the file is not there, or not a store, or has no identity yet.
    """
    if not path.is_file():
        raise SettingsError(f"there is no store {path}")
    try:
        with snapshot(path) as connection:
            facts, last = read_facts(connection), _last(connection)
            _SCHEMA.check(path, facts)
            rows = connection.execute("SELECT item_id, item FROM changes WHERE item IS NOT NULL")
            items = {item_id: read_item(item_id, text) for item_id, text in rows}
    except sqlite3.Error as error:
        raise SettingsError(f"cannot read the store {path}: {error}") from error
    if "id" not in facts:
        raise SettingsError(
            f"the store {path} has no identity yet: restart the candidate service that has it, "
            "which gives it one"
        )
    return Snapshot(facts["id"], last, items)


def read_changes(path: Path) -> Iterator[list[StoredChange]]:
    """Reads all changes of a store that no process writes to in order, page by page.

    Raises:
        SettingsError: the file cannot be read, or is not a store.
    """
    try:
        with snapshot(path) as connection:
            _SCHEMA.check(path, read_facts(connection))
            rows = connection.execute("SELECT * FROM changes ORDER BY sequence")
            while page := rows.fetchmany(PAGE):
                yield [read_row(row) for row in page]
    except sqlite3.Error as error:
        raise SettingsError(f"cannot read the store {path}: {error}") from error


class ItemStore:
    """The changes of one catalog. One process at a time has it open, and one thread appends."""

    def __init__(self, file: DurableFile) -> None:
        self.path = file.path
        self._file = file
        self._writer = writer = file.connection
        self._reader = connect(file.path)
        self._reading = threading.Lock()
        self.id = read_facts(writer)["id"]
        """Made with the file, and the same in every copy of it."""
        self.sequence = _last(writer)
        """Of the newest change; 0 before the first."""
        self.floor = int(read_facts(writer).get("floor", 0))
        """Whoever has the changes up to here, or up to a sequence before it, has those of another
        base; 0 where there was none."""

    @classmethod
    def open(cls, path: Path) -> "ItemStore":
        """Opens a store, or makes an empty one.

        Raises:
            SettingsError: another process has it open, or the file is not a store, or cannot be
                written to.
        """
        return cls(
            DurableFile.open(
                path,
                _SCHEMA,
                taken=f"the store {path} is open in another process; a catalog has one writer",
                prepare=_identify,
            )
        )

    @property
    def base(self) -> BundleFingerprint | None:
        """What the changes belong to; None while the store is new."""
        return BundleFingerprint.from_facts(read_facts(self._writer))

    def append(self, changes: Sequence[PlacedChange]) -> int:
        """Writes changes, all or none, and returns the sequence of the last.

        Raises:
            ResourceExhausted: the disk is full, reason STORE_FULL. What was there is as it was.
            Unavailable: the disk fails, or does not let itself be written to, reason STORE_FAILED.
        """
        with self._transaction() as connection:
            _insert(connection, changes, self.sequence)
        self.sequence += len(changes)
        return self.sequence

    @property
    def rebased(self) -> int:
        """The last sequence of the last rebase: what comes after it was changed since."""
        return int(read_facts(self._writer).get("rebased", 0))

    @property
    def before(self) -> BundleFingerprint | None:
        """What the changes belonged to before the last rebase, if there was one."""
        facts = read_facts(self._writer)
        return BundleFingerprint.from_facts(facts, prefix="before_")

    def kept_as(self, version: str) -> Path:
        """Where the store is as it was when it last belonged to a version."""
        return self.path.with_name(f"{self.path.name}.{version}")

    def rebase(self, base: BundleFingerprint, changes: Sequence[PlacedChange]) -> None:
        """Puts changes of another base in place of all that are there, under new sequences.

        Raises:
            ResourceExhausted, Unavailable: as `append` does.
        """
        before = self.base
        with self._transaction() as connection:
            connection.execute("DELETE FROM changes")
            _insert(connection, changes, self.sequence)
            # At least one further, so that who followed the other base is known by its sequence.
            last = self.sequence + (len(changes) if before is None else max(1, len(changes)))
            facts = {"sequence": str(last), "rebased": str(last), **base.as_facts()}
            if before is not None:
                facts |= {"floor": str(self.sequence), **before.as_facts(prefix="before_")}
            write_facts(connection, facts)
            floor = self.floor if before is None else self.sequence
        self.floor, self.sequence = floor, last

    def after(self, sequence: int, limit: int, up_to: int | None = None) -> list[StoredChange]:
        """Reads the changes after a sequence, in order.

        Args:
            sequence: the last that is known already.
            limit: how many to read.
            up_to: the last to read.
        """
        last = self.sequence if up_to is None else up_to
        with self._reading:
            rows = self._reader.execute(
                "SELECT * FROM changes WHERE sequence > ? AND sequence <= ? "
                "ORDER BY sequence LIMIT ?",
                (sequence, last, limit),
            ).fetchall()
        return [read_row(row) for row in rows]

    def replay(self, after: int = 0) -> Iterator[list[StoredChange]]:
        """Reads all changes after a sequence in order, page by page."""
        page = self.after(after, PAGE)
        while page:
            yield page
            page = self.after(page[-1].sequence, PAGE)

    def copy(self, path: Path) -> None:
        """Writes a copy of the store to another file."""
        with closing(sqlite3.connect(path)) as target:
            self._writer.backup(target)

    def close(self) -> None:
        """Closes the file, for another process to open."""
        with self._reading:
            self._reader.close()
        self._file.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            with transaction(self._writer):
                yield self._writer
        except sqlite3.Error as error:
            failed = Unavailable(
                f"the store cannot be written to: {error}; nothing was changed",
                reason="STORE_FAILED",
            )
            raise storage_error(error, reason_full="STORE_FULL", otherwise=failed) from error


def _identify(connection: sqlite3.Connection) -> None:
    """Gives a file that has none an identity, which every copy of it shares."""
    connection.execute("INSERT OR IGNORE INTO facts VALUES ('id', ?)", (uuid.uuid4().hex,))


def _last(connection: sqlite3.Connection) -> int:
    """A rebase may leave no change behind, and still none of its sequences comes again."""
    (newest,) = connection.execute("SELECT max(sequence) FROM changes").fetchone()
    return max(newest or 0, int(read_facts(connection).get("sequence", 0)))


def _insert(connection: sqlite3.Connection, changes: Iterable[PlacedChange], after: int) -> None:
    connection.executemany(
        "REPLACE INTO changes VALUES (?, ?, ?, ?, ?, ?, ?)",
        (write_row(sequence, change) for sequence, change in enumerate(changes, after + 1)),
    )
