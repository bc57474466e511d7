"""The store: what has changed in the catalog since its bundle was built, in one file of SQLite.

Of each item only the newest change is kept, under a sequence that is larger than all before it.
Whoever has all changes up to some sequence therefore reads on from there, however long it was
away: what it missed is newer, and what was replaced meanwhile need not be told.

A transaction is on disk before `append` returns (WAL, synchronous=FULL), so that a process which
is killed loses nothing that it acknowledged and leaves nothing half done. Readers have a connection
of their own, and neither wait for the writer nor hold it up; `read_items` is for other processes.
"""

import dataclasses
import hashlib
import json
import sqlite3
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from core.bundle import Bundle
from core.catalog import CatalogItem, Delete
from core.errors import ResourceExhausted, SettingsError, TandemError, Unavailable
from services.candidate.changes import Code, PlacedChange, PlacedItem
from services.candidate.index.flat import Vector
from serving.sqlite import connect, hold, make_durable, snapshot, transaction

SCHEMA_VERSION: Final = "1"
PAGE: Final = 1_000
"""Changes that `replay` reads at a time."""
FULL_RETRY_SECONDS: Final = 5.0

_ENCODER_FILES: Final = ("text_encoder.onnx", "text_tokenizer.json")
_CATALOG_FILES: Final = (
    "catalog.jsonl",
    "content_vectors.npy",
    "behavior_vectors.npy",
    "behavior_projection.npy",
    "codes.txt",
    "code_tokens.npy",
)
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS changes (
    sequence INTEGER PRIMARY KEY,
    item_id TEXT NOT NULL UNIQUE,
    item TEXT,      -- as JSON; NULL, as all that follows, where the item is deleted
    content BLOB,   -- float32, little-endian
    behavior BLOB,
    code_text TEXT,
    tokens TEXT     -- a JSON list
);
"""


@dataclass(frozen=True)
class Base:
    """What changes are changes of: the catalog of a bundle, with its vectors and codes."""

    name: str
    version: str
    digest: str
    """Of all that the changes' vectors and codes depend on; versions may have it in common."""
    encoder: str
    """The digest of the text encoder alone."""

    @classmethod
    def of(cls, bundle: Bundle) -> "Base":
        """The base that a bundle is.

        Raises:
            BundleError: it lacks one of the files.
        """
        manifest = bundle.manifest
        return cls(
            manifest.name,
            manifest.version,
            _digest(bundle, *_CATALOG_FILES, *_ENCODER_FILES),
            _digest(bundle, *_ENCODER_FILES),
        )


@dataclass(frozen=True)
class Stored:
    """A change as it is in the store."""

    sequence: int
    change: PlacedChange


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
            facts, last = _facts(connection), _last(connection)
            _check_schema(path, facts)
            rows = connection.execute("SELECT item_id, item FROM changes WHERE item IS NOT NULL")
            items = {item_id: _item(item_id, text) for item_id, text in rows}
    except sqlite3.Error as error:
        raise SettingsError(f"cannot read the store {path}: {error}") from error
    if "id" not in facts:
        raise SettingsError(
            f"the store {path} has no identity yet: restart the candidate service that has it, "
            "which gives it one"
        )
    return Snapshot(facts["id"], last, items)


class ItemStore:
    """The changes of one catalog. One process at a time has it open, and one thread appends."""

    def __init__(self, path: Path, writer: sqlite3.Connection, lock: Any) -> None:
        self.path = path
        self._lock = lock
        self._writer = writer
        self._reader = connect(path)
        self._reading = threading.Lock()
        self.id = _facts(writer)["id"]
        """Made with the file, and the same in every copy of it."""
        self.sequence = _last(writer)
        """Of the newest change; 0 before the first."""

    @classmethod
    def open(cls, path: Path) -> "ItemStore":
        """Opens a store, or makes an empty one.

        Raises:
            SettingsError: another process has it open, or the file is not a store, or cannot be
                written to.
        """
        with ExitStack() as opened:
            try:
                lock = opened.enter_context(
                    hold(
                        path,
                        f"the store {path} is open in another process; a catalog has one writer",
                    )
                )
                writer = opened.enter_context(closing(connect(path)))
                make_durable(writer)
                writer.executescript(_TABLES)
                _check_schema(path, _facts(writer))
                writer.execute("INSERT OR IGNORE INTO facts VALUES ('id', ?)", (uuid.uuid4().hex,))
            except (OSError, sqlite3.Error) as error:
                raise SettingsError(f"cannot open the store {path}: {error}") from error
            opened.pop_all()
        return cls(path, writer, lock)

    @property
    def base(self) -> Base | None:
        """What the changes belong to; None while the store is new."""
        facts = _facts(self._writer)
        if "digest" not in facts:
            return None
        return Base(**{field.name: facts[field.name] for field in dataclasses.fields(Base)})

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

    def rebase(self, base: Base, changes: Sequence[PlacedChange]) -> None:
        """Puts changes of another base in place of all that are there, under new sequences.

        Raises:
            ResourceExhausted, Unavailable: as `append` does.
        """
        with self._transaction() as connection:
            connection.execute("DELETE FROM changes")
            _insert(connection, changes, self.sequence)
            last = self.sequence + len(changes)
            facts = {"schema": SCHEMA_VERSION, "sequence": str(last), **dataclasses.asdict(base)}
            connection.executemany("REPLACE INTO facts VALUES (?, ?)", facts.items())
        self.sequence = last

    def after(self, sequence: int, limit: int, up_to: int | None = None) -> list[Stored]:
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
        return [_stored(row) for row in rows]

    def replay(self) -> Iterator[list[Stored]]:
        """Reads all changes in order, page by page."""
        page = self.after(0, PAGE)
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
        self._writer.close()
        self._lock.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            with transaction(self._writer):
                yield self._writer
        except sqlite3.Error as error:
            raise _failure(error) from error


def _digest(bundle: Bundle, *names: str) -> str:
    files = bundle.manifest.files
    sums = (f"{name} {files[bundle.file(name).name].sha256}\n" for name in names)
    return hashlib.sha256("".join(sums).encode()).hexdigest()


def _check_schema(path: Path, facts: Mapping[str, str]) -> None:
    schema = facts.get("schema", SCHEMA_VERSION)
    if schema != SCHEMA_VERSION:
        raise SettingsError(
            f"the store {path} has schema {schema}, and this Tandem writes {SCHEMA_VERSION}"
        )


def _facts(connection: sqlite3.Connection) -> dict[str, str]:
    return dict(connection.execute("SELECT name, value FROM facts"))


def _last(connection: sqlite3.Connection) -> int:
    """A rebase may leave no change behind, and still none of its sequences comes again."""
    (newest,) = connection.execute("SELECT max(sequence) FROM changes").fetchone()
    return max(newest or 0, int(_facts(connection).get("sequence", 0)))


def _insert(connection: sqlite3.Connection, changes: Iterable[PlacedChange], after: int) -> None:
    connection.executemany(
        "REPLACE INTO changes VALUES (?, ?, ?, ?, ?, ?, ?)",
        (_row(sequence, change) for sequence, change in enumerate(changes, after + 1)),
    )


def _row(sequence: int, change: PlacedChange) -> tuple[Any, ...]:
    if isinstance(change, Delete):
        return (sequence, change.item_id, None, None, None, None, None)
    item = {
        "title": change.item.title,
        "text": change.item.text,
        "attributes": change.item.attributes,
        "popularity": change.item.popularity,
    }
    return (
        sequence,
        change.item_id,
        json.dumps(item, ensure_ascii=False),
        change.content.astype("<f4").tobytes(),
        change.behavior.astype("<f4").tobytes(),
        change.code.text,
        json.dumps(change.code.tokens),
    )


def _stored(row: tuple[Any, ...]) -> Stored:
    sequence, item_id, text, content, behavior, code_text, tokens = row
    if text is None:
        return Stored(sequence, Delete(item_id))
    item, code = _item(item_id, text), Code(code_text, tuple(json.loads(tokens)))
    return Stored(sequence, PlacedItem(item, _vector(content), _vector(behavior), code))


def _item(item_id: str, text: str) -> CatalogItem:
    fields = json.loads(text)
    attributes = {name: tuple(values) for name, values in fields["attributes"].items()}
    return CatalogItem(item_id, fields["title"], fields["text"], attributes, fields["popularity"])


def _vector(blob: bytes) -> Vector:
    return np.frombuffer(blob, "<f4").astype(np.float32)


def _failure(error: sqlite3.Error) -> TandemError:
    code = getattr(error, "sqlite_errorcode", None)
    if code == sqlite3.SQLITE_FULL:
        return ResourceExhausted(
            "the disk of the store is full; nothing was changed",
            reason="STORE_FULL",
            retry_after=FULL_RETRY_SECONDS,
        )
    return Unavailable(
        f"the store cannot be written to: {error}; nothing was changed", reason="STORE_FAILED"
    )
