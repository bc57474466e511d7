"""Work that goes on beside the calls of a server, for as long as it serves."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from contextvars import Context
from dataclasses import dataclass

import structlog

log = structlog.get_logger()


@dataclass
class Backoff:
    """How long to wait before each next attempt: twice as long each time, up to a limit.

    Of that time a random half to whole is waited, so that many who lost the same peer do not all
    come back at once.
    """

    first: float = 0.1
    """Seconds before the second attempt, at most."""
    limit: float = 1.0
    """Seconds that no wait exceeds."""
    failures: int = 0
    """In a row, until now."""

    def next(self) -> float:
        """Counts a failure; returns the seconds to wait after it."""
        seconds = min(self.first * 2.0 ** min(self.failures, 32), self.limit)
        self.failures += 1
        return seconds * random.uniform(0.5, 1.0)  # noqa: S311 - no secret depends on it

    def reset(self) -> None:
        """Forgets the failures."""
        self.failures = 0


class Background:
    """Runs a coroutine until it is stopped; when the coroutine ends by itself it starts it again.

    It is expected to go on forever and to deal with what it expects to fail. Whatever else ends it
    is a defect: it is logged, with its trace, as `background task ended`, and the server serves on.

    Args:
        name: of the task, in the logs.
        work: called for each start.
        backoff: between the starts.
    """

    def __init__(
        self, name: str, work: Callable[[], Awaitable[None]], backoff: Backoff | None = None
    ) -> None:
        self._name = name
        self._work = work
        self._backoff = backoff or Backoff(first=0.5, limit=30.0)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Starts it; to be called on the event loop, once, or again after `stop`.

        It has no context of whoever starts it: a call's deadline and request id are not its own.
        """
        self._task = asyncio.get_running_loop().create_task(
            self._live(), name=self._name, context=Context()
        )

    async def stop(self) -> None:
        """Cancels it and waits for its end; does nothing when it was never started."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _live(self) -> None:
        while True:
            error: Exception | None = None
            try:
                await self._work()
            except Exception as caught:  # noqa: BLE001 - whatever it is, the task goes on
                error = caught
            seconds = self._backoff.next()
            log.error(
                "background task ended", task=self._name, again_in=round(seconds, 3), exc_info=error
            )
            await asyncio.sleep(seconds)
