"""One thread that writes to SQLite, and commits whatever has come meanwhile as one transaction.

A commit costs a flush of the disk, some milliseconds, however much is in it. While one is under
way others queue, and the next takes them all: under load, writes share flushes; without, each has
its own at once. What waits is bounded, and what exceeds it is turned away with the time after which
the queue, as it is, will have been written.
"""

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from core.errors import ResourceExhausted, Unavailable
from serving.sqlite import transaction

T = TypeVar("T")

GROUP: Final = 5_000
"""Of the weight of one transaction, unless a single piece of work is heavier."""
_FIRST_GUESS: Final = 1e-4
"""Seconds per unit of weight, until some were written."""


@dataclass(frozen=True)
class _Job(Generic[T]):
    work: Callable[[sqlite3.Connection], T]
    weight: int
    committed: Callable[[], None] | None
    settle: Callable[[sqlite3.Connection], None] | None
    answer: "asyncio.Future[T]"

    def resolve(self, result: T | None, error: Exception | None) -> None:
        """Answers whoever waits, on its own thread; it may be gone, and its event loop too."""
        with contextlib.suppress(RuntimeError):
            self.answer.get_loop().call_soon_threadsafe(self._answer, result, error)

    def _answer(self, result: Any, error: Exception | None) -> None:
        if self.answer.done():
            return
        if error is not None:
            self.answer.set_exception(error)
        else:
            self.answer.set_result(result)


class Writer:
    """The thread, and the queue before it.

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
        self._max_waiting = max_waiting
        self._translate = translate
        self._changed = threading.Condition()
        self._jobs: deque[_Job[Any]] = deque()
        self._waiting = 0
        self._closed = False
        self._seconds = _FIRST_GUESS
        self._thread = threading.Thread(target=self._live, name="history-writer", daemon=True)
        self._thread.start()

    async def run(
        self,
        work: Callable[[sqlite3.Connection], T],
        *,
        weight: int = 1,
        committed: Callable[[], None] | None = None,
        settle: Callable[[sqlite3.Connection], None] | None = None,
    ) -> T:
        """Does a piece of work in a transaction, and returns its result once that is on disk.

        Args:
            work: all or nothing of it happens, whatever is in the same transaction.
            weight: of the work, such as the rows it writes.
            committed: called on the thread once the work is on disk, whether anybody still waits
                for it, and before anybody is told; must not fail.
            settle: called after that, outside of any transaction, before the result is returned;
                once for all who waited with the same one.

        Raises:
            ResourceExhausted: too much waits, reason HISTORY_QUEUE_FULL.
            Exception: what `translate` made of SQLite's error.
        """
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        job = _Job(work, weight, committed, settle, answer)
        with self._changed:
            if self._closed:
                raise Unavailable("the history store is closing", reason="HISTORY_UNAVAILABLE")
            if self._waiting and self._waiting + weight > self._max_waiting:
                raise ResourceExhausted(
                    f"{self._waiting} events wait to be written",
                    reason="HISTORY_QUEUE_FULL",
                    retry_after=max(0.01, self._waiting * self._seconds),
                )
            self._jobs.append(job)
            self._waiting += weight
            self._changed.notify()
        return await answer

    def close(self) -> None:
        """Writes what waits, and ends the thread; blocks until then."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _live(self) -> None:
        while jobs := self._take():
            started, weight = time.monotonic(), sum(job.weight for job in jobs)
            wanted = []
            for job in jobs:
                if job.answer.cancelled():  # while it waited: nobody wants it any more
                    self._finish(job, None, None)
                else:
                    wanted.append(job)
            if wanted:
                self._write(wanted)
            with self._changed:
                taken = (time.monotonic() - started) / weight
                self._seconds += 0.2 * (taken - self._seconds)

    def _take(self) -> list[_Job[Any]]:
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._closed)
            jobs: list[_Job[Any]] = []
            weight = 0
            while self._jobs and (not jobs or weight + self._jobs[0].weight <= GROUP):
                jobs.append(self._jobs.popleft())
                weight += jobs[-1].weight
            return jobs

    def _write(self, jobs: list[_Job[Any]]) -> None:
        """Does all of the work in one transaction or, if that fails, each piece in its own."""
        try:
            results = self._transaction(jobs)
        except Exception as error:  # noqa: BLE001 - it belongs to whoever waits for the work
            if len(jobs) > 1:
                for job in jobs:
                    self._write([job])
            else:
                self._fail(jobs, error)
            return
        for job in jobs:
            if job.committed is not None:
                job.committed()
        done = list(zip(jobs, results, strict=True))
        for settle in dict.fromkeys(job.settle for job in jobs):
            settled = [(job, result) for job, result in done if job.settle == settle]
            try:
                if settle is not None:
                    settle(self._connection)
            except Exception as error:  # noqa: BLE001 - as above
                self._fail([job for job, _ in settled], error)
            else:
                for job, result in settled:
                    self._finish(job, result, None)

    def _fail(self, jobs: list[_Job[Any]], error: Exception) -> None:
        translated = self._translate(error) if isinstance(error, sqlite3.Error) else error
        for job in jobs:
            self._finish(job, None, translated)

    def _finish(self, job: _Job[Any], result: Any, error: Exception | None) -> None:
        """Makes room for other work, and then says that this is done: more may come at once."""
        with self._changed:
            self._waiting -= job.weight
        job.resolve(result, error)

    def _transaction(self, jobs: list[_Job[Any]]) -> list[Any]:
        with transaction(self._connection):
            return [job.work(self._connection) for job in jobs]
