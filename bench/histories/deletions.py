"""What deleting users in SQLite costs those who record events meanwhile.

    python -m bench.histories.deletions --events 300000

One caller records event after event, first alone, then while another deletes users without a pause:
some that nobody knows, and some that have a history. Then 200 users are deleted at once.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import numpy as np

from gateway.history import Event, Retention
from gateway.history.sqlite import SqliteHistoryStore

EVENTS_OF_A_USER: Final = 100
BATCH: Final = 1_000
CALLS: Final = 200
AT_ONCE: Final = 200


def main() -> None:
    """Prints milliseconds of recording an event, and seconds of deleting."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.histories.deletions",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--events", type=int, default=300_000, help="that the store has")
    asyncio.run(_measure(parser.parse_args().events))


async def _measure(events: int) -> None:
    users = events // EVENTS_OF_A_USER
    with tempfile.TemporaryDirectory() as directory:
        store = SqliteHistoryStore.open(Path(directory, "history.sqlite"), Retention())
        for start in range(0, events, BATCH):
            await store.record([_event(n, n % users) for n in range(start, start + BATCH)])
        await _record(store, users, "alone")
        await _beside(store, users, "beside deletions of users unknown", lambda n: f"nobody {n}")
        await _beside(store, users, "beside deletions of users known", lambda n: f"user {n}")
        started = time.perf_counter()
        await asyncio.gather(*(store.delete(f"user {users - 1 - n}") for n in range(AT_ONCE)))
        print(f"{AT_ONCE} users deleted at once: {time.perf_counter() - started:.2f} s")
        await store.close()


async def _beside(
    store: SqliteHistoryStore, users: int, label: str, user: Callable[[int], str]
) -> None:
    deleting = asyncio.ensure_future(_delete(store, user))
    await _record(store, users, label)
    deleting.cancel()
    with suppress(asyncio.CancelledError):
        await deleting


async def _delete(store: SqliteHistoryStore, user: Callable[[int], str]) -> None:
    n = 0
    while True:
        await store.delete(user(n))
        n += 1


async def _record(store: SqliteHistoryStore, users: int, label: str) -> None:
    milliseconds = []
    for n in range(CALLS):
        started = time.perf_counter()
        await store.record([_event(time.time_ns(), users - 1 - n % (users // 2))])
        milliseconds.append(1_000 * (time.perf_counter() - started))
    p50, p99 = np.percentile(milliseconds, [50, 99])
    print(f"recording an event {label}: p50 {p50:.1f} ms, p99 {p99:.1f} ms")


def _event(number: int, user: int) -> Event:
    return Event(f"{number:032}", f"user {user}", f"item {number % 5_000}", number)


if __name__ == "__main__":
    main()
