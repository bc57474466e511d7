"""Writing to SQLite: whatever has come meanwhile is committed as one transaction.

A commit costs a flush of the disk, some milliseconds, however much is in it. While one is under
way others queue, and the next takes them all: under load, writes share flushes; without, each has
its own at once. The queue and its one thread are those of `serving/batch_queue.py`.
"""

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from serving.batch_queue import BatchQueue, Place, oldest
from serving.sqlite import transaction

T = TypeVar("T")

GROUP: Final = 5_000
"""Of the weight of one transaction, unless a single piece of work is heavier."""


@dataclass(frozen=True)
class _Job(Generic[T]):
    work: Callable[[sqlite3.Connection], T]
    committed: Callable[[T], None] | None
    settle: Callable[[sqlite3.Connection], None] | None


class Writer:
    """Writes through one connection, on a thread of its own.

    Args:
        connection: in autocommit mode; the thread's alone from now on.
        max_waiting: the weight that may wait.
        translate: what an error of SQLite is to callers.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        max_waiting: int,
        translate: Callable[[sqlite3.Error], Exception],
    ) -> None:
        self._connection = connection
        self._translate = translate
        self._queue: BatchQueue[_Job[Any], Any] = BatchQueue(
            self._write,
            oldest(GROUP),
            max_waiting=max_waiting,
            reason="HISTORY_QUEUE_FULL",
            waits="events wait to be written",
        )

    async def run(
        self,
        work: Callable[[sqlite3.Connection], T],
        *,
        weight: int = 1,
        committed: Callable[[T], None] | None = None,
        settle: Callable[[sqlite3.Connection], None] | None = None,
    ) -> T:
        """Does a piece of work, and returns once its result is on disk.

        Args:
            work: called with the connection, inside of a transaction that it may share with other
                work; when a shared one fails, each piece is tried again in its own.
            weight: roughly the rows that it writes.
            committed: called with the result once it is on disk, before anybody is told, on the
                writer's thread; must not fail.
            settle: called after that, outside of any transaction, before the result is returned;
                once for all who waited with the same one.

        Raises:
            ResourceExhausted: too much waits, reason HISTORY_QUEUE_FULL.
            Unavailable: reason DRAINING, after `close`.
            Exception: what `translate` made of SQLite's error.
        """
        result: T = await self._queue.submit(_Job(work, committed, settle), weight)
        return result

    async def close(self) -> None:
        """Takes no more from now on, writes what waits, and ends the thread."""
        await self._queue.close()

    def _write(self, batch: Sequence[Place[_Job[Any], Any]]) -> None:
        """Does all of the work in one transaction."""
        try:
            with transaction(self._connection):
                results = [place.job.work(self._connection) for place in batch]
        except sqlite3.Error as error:
            raise self._translate(error) from error
        done = list(zip(batch, results, strict=True))
        for place, result in done:
            if place.job.committed is not None:
                place.job.committed(result)
        for settle in dict.fromkeys(place.job.settle for place in batch):
            failure = self._settle(settle)
            for place, result in done:
                if place.job.settle == settle:
                    place.settle(failure or result)

    def _settle(self, settle: Callable[[sqlite3.Connection], None] | None) -> Exception | None:
        """What went wrong, if anything did: the work is on disk, and must not be done again."""
        try:
            if settle is not None:
                settle(self._connection)
        except sqlite3.Error as error:
            return self._translate(error)
        except Exception as error:  # noqa: BLE001 - it belongs to whoever waits for the work
            return error
        return None
