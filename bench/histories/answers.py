"""What it costs to know later what an answer showed: a sealed id, or a row for each answer.

python -m bench.histories.answers

The rows are what was decided against (docs/adr/0022-sealed-recommendation-ids.md): one for each
answer, in 256 tables as the histories have, 50 in a transaction.
"""

import json
import random
import secrets
import sqlite3
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

from gateway.attribution.ids import Listed, RecommendationIds
from serving.sqlite import connect, transaction

CALLS: Final = 10_000
TABLES: Final = 256
BATCH: Final = 50
USERS: Final = 5_000
VERSION: Final = "ml-100k/0123456789abcdef"
_TABLE: Final = (
    "CREATE TABLE answers_{n} (user_id TEXT, name BLOB, time INTEGER, body TEXT, "
    "PRIMARY KEY (user_id, name)) WITHOUT ROWID"
)


def main() -> None:
    """Prints the processor's time and the bytes of each, by the length of the list."""
    ids = RecommendationIds(secrets.token_bytes(32))
    for length in (10, 100):
        items = [Listed(f"item-{7_919 * n}", -1.0 - n / 10) for n in range(length)]
        made = ids.make(items, "fuse", VERSION)
        write = _microseconds(lambda: ids.make(items, "fuse", VERSION))  # noqa: B023 - at once
        read = _microseconds(lambda: ids.read(made))  # noqa: B023
        print(
            f"{length} items, id: {write:.0f} us to make, {read:.0f} us to read, {len(made)} bytes"
        )
        row, size = _rows(items)
        print(f"{length} items, row: {row:.0f} us to write, {size:.0f} bytes of the disk")


def _microseconds(work: Callable[[], object], calls: int = CALLS) -> float:
    started = time.process_time()
    for _ in range(calls):
        work()
    return (time.process_time() - started) / calls * 1e6


def _rows(items: list[Listed]) -> tuple[float, float]:
    """Microseconds of the processor, and bytes, for each answer."""
    with tempfile.TemporaryDirectory(dir=".") as directory:
        path = Path(directory, "answers.sqlite")
        with closing(connect(path)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA secure_delete=ON")
            for n in range(TABLES):
                connection.execute(_TABLE.format(n=n))
            taken = _microseconds(lambda: _write(connection, items), CALLS // BATCH) / BATCH
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return taken, path.stat().st_size / CALLS


def _write(connection: sqlite3.Connection, items: list[Listed]) -> None:
    with transaction(connection):
        for _ in range(BATCH):
            user = random.randrange(USERS)  # noqa: S311 - no secret
            body = json.dumps(["fuse", "", VERSION, items], separators=(",", ":"))
            row = (f"user-{user}", secrets.token_bytes(12), time.time_ns() // 1_000, body)
            query = f"INSERT INTO answers_{user % TABLES} VALUES (?, ?, ?, ?)"  # noqa: S608
            connection.execute(query, row)


if __name__ == "__main__":
    main()
