"""Reading all that a file of histories has, also while a gateway writes to it.

Each partition is read as it is at one moment, without a lock, and the next at a later one: a user
is read whole. Nothing is held for long, so that the log does not grow. A deletion that meets the
reading of a partition fails as it does beside a backup, and is completed once that has ended.
"""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from core.errors import SettingsError
from gateway.history.event import Event, read_event
from gateway.history.sqlite.partitions import PARTITIONS, SCHEMA, sql
from serving.sqlite import read_facts, snapshot

PAGE: Final = 10_000
_ALL: Final = (
    "SELECT event_id, user_id, item_id, time, details, in_history FROM events_{n} "
    "ORDER BY user_id, time, sequence"
)


def partitions_of(path: Path) -> Iterator[Iterator[list[Event]]]:
    """All events of a file by partition, in pages; those of a user together, oldest first.

    Raises:
        SettingsError: the file is missing, is none, or was written by another version.
    """
    if not path.is_file():
        raise SettingsError(f"there is no file of histories {path}")
    try:
        with snapshot(path) as connection:
            found = read_facts(connection).get("schema")
    except sqlite3.Error as error:
        raise SettingsError(f"cannot read the histories in {path}: {error}") from error
    if found != SCHEMA.version:
        raise SettingsError(
            f"{SCHEMA.name} {path} has schema {found}, and this Tandem reads {SCHEMA.version}: "
            "open it with a gateway of this version first"
        )
    for partition in range(PARTITIONS):
        yield _pages(path, partition)


def _pages(path: Path, partition: int) -> Iterator[list[Event]]:
    try:
        with snapshot(path) as connection:
            rows = connection.execute(sql(_ALL, partition))
            while page := rows.fetchmany(PAGE):
                yield [read_event(*row, in_history=bool(kept)) for *row, kept in page]
    except sqlite3.Error as error:
        raise SettingsError(f"cannot read the histories in {path}: {error}") from error
