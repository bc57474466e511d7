"""What a follower has received and not yet made: ahead of it, and bounded."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Final

from services.generator.catalog.client import Disconnected, Step

STEPS_AHEAD: Final = 16
"""Steps that are received before they are needed; then the sender waits."""
MAX_CHANGES: Final = 2_000
"""Changes above which one version takes no more: some 100 ms of work among a million items."""


class Inbox:
    """Receives ahead, so that what comes while a version is made goes into the next as one."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Step | Exception] = asyncio.Queue(STEPS_AHEAD)
        self._end: Exception | None = None

    async def fill(self, steps: AsyncGenerator[Step, None]) -> None:
        """Receives until the steps end."""
        try:
            async with aclosing(steps):
                async for step in steps:
                    await self._queue.put(step)
        except Exception as error:  # noqa: BLE001 - raised by `take`, in its turn
            await self._queue.put(error)
        else:
            await self._queue.put(Disconnected("the feed ended"))

    async def take(self, patience: float | None = None) -> Step | None:
        """Waits for a step, and returns it as one with those that are behind it.

        Args:
            patience: seconds to wait; None for ever.

        Returns:
            The step, or None when none came.

        Raises:
            Exception: what ended the steps, after the last of them.
        """
        try:
            async with asyncio.timeout(patience):
                received = await self._next()
        except TimeoutError:
            return None
        changes, newest = list(received.changes), received
        while len(changes) < MAX_CHANGES and (behind := self._ready()):
            changes += behind.changes
            newest = behind
        return replace(newest, changes=changes)

    async def _next(self) -> Step:
        if self._end is None:
            received = await self._queue.get()
            if isinstance(received, Step):
                return received
            self._end = received
        raise self._end

    def _ready(self) -> Step | None:
        """The next step, if there is one already."""
        if self._end is None and not self._queue.empty():
            received = self._queue.get_nowait()
            if isinstance(received, Step):
                return received
            self._end = received
        return None


@asynccontextmanager
async def receiving(steps: AsyncGenerator[Step, None]) -> AsyncIterator[Inbox]:
    """An inbox that is being filled."""
    inbox = Inbox()
    filling = asyncio.create_task(inbox.fill(steps))
    try:
        yield inbox
    finally:
        filling.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await filling
