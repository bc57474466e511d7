"""Leaving nothing of deleted users, some partitions at a time and at a bounded rate.

Deleting a user's rows is quick; that their bytes are gone is more work (`partitions.py`). It takes
its turn among other writing, is done once for all who wait for it, and then pauses: however many
users are deleted, it has no more than its share of the time.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

import structlog

from core.errors import Unavailable
from serving.background import Background, Backoff

log = structlog.get_logger()

_Waiting: TypeAlias = dict[int, list[asyncio.Future[None]]]
"""What callers wait for, by partition."""


class Scrubs:
    """Which partitions are due to be scrubbed. Belongs to one event loop.

    Args:
        scrub: scrubs the first of some partitions, and returns how many. When it raises an error,
            all of them are due again, later.
        share: of the time that scrubbing may take, above 0 and up to 1.
        clock: tells the time in seconds.
        pause: waits for some seconds.
    """

    def __init__(
        self,
        scrub: Callable[[Sequence[int]], Awaitable[int]],
        share: float,
        *,
        clock: Callable[[], float] = time.perf_counter,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._scrub = scrub
        self._share = share
        self._clock = clock
        self._pause = pause
        self._due: _Waiting = {}
        """Those that have been due the longest come first."""
        self._running: _Waiting = {}
        self._wake = asyncio.Event()
        self._backoff = Backoff(first=0.5, limit=10.0)
        self._task: Background | None = None

    def add(self, partition: int) -> None:
        """Says that something was deleted from a partition."""
        self._due.setdefault(partition, [])
        self._wake.set()
        if self._task is None:
            self._task = Background("history scrubs", self._live)
            self._task.start()

    async def done(self, partition: int) -> None:
        """Returns once all is scrubbed that was deleted from a partition until now.

        Raises:
            Exception: that of scrubbing, which will be tried again by itself.
        """
        for waiting in (self._due.get(partition), self._running.get(partition)):
            if waiting is not None:
                waiting.append(asyncio.get_running_loop().create_future())
                await waiting[-1]
                return

    async def close(self) -> None:
        """Ends it; what is due then must be noted elsewhere."""
        if self._task is not None:
            await self._task.stop()
        for waiting in (*self._running.values(), *self._due.values()):
            _settle(waiting, Unavailable("the server is going away", reason="DRAINING"))

    async def _live(self) -> None:
        while True:
            if not self._due:
                self._wake.clear()
                await self._wake.wait()
            started = self._clock()
            error = await self._scrub_some()
            taken = self._clock() - started
            await self._pause(self._backoff.next() if error else taken * (1 / self._share - 1))

    async def _scrub_some(self) -> Exception | None:
        """Scrubs what has been due the longest; returns what went wrong."""
        self._running, self._due = self._due, {}
        partitions, count, error = list(self._running), 0, None
        try:
            count = await self._scrub(partitions)
            self._backoff.reset()
        except Exception as caught:  # noqa: BLE001 - it belongs to whoever waits
            log.warning("deleted users are not scrubbed yet", error=str(caught))
            error = caught
        running, self._running = self._running, {}
        for partition in partitions if error else partitions[:count]:
            _settle(running[partition], error)
        for partition in partitions[count:]:
            running[partition] += self._due.pop(partition, [])
        self._due = {each: running[each] for each in partitions[count:]} | self._due
        return error


def _settle(waiting: list["asyncio.Future[None]"], error: Exception | None) -> None:
    for future in waiting:
        if future.done():
            continue  # the caller has left
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)
    waiting.clear()
