"""Many requests over one stream, as many in hand, and as many bytes, as a window has room for.

The window is the flow control: who streams requests faster than they are answered, or takes the
answers slower than they come, is not read from any further. gRPC then fills the buffers of the
connection and tells the peer to wait, so that a stream costs the memory of its window and no more.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

Q = TypeVar("Q")
R = TypeVar("R")


class _End(Enum):
    """What follows the last request, or the last answer."""

    END = 0


@dataclass(frozen=True)
class Window:
    """How much of a stream may be in hand at a time."""

    requests: int
    """Beside the one whose answer waits to be taken."""
    bytes: int
    """With so many in hand nothing is read: at most one request more than that is held."""


class _Hand:
    """The bytes of the requests in hand."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bytes = 0
        self._room = asyncio.Event()
        self._room.set()

    async def room(self) -> None:
        """Waits until there is room for another request."""
        await self._room.wait()

    def add(self, size: int) -> None:
        """Takes the bytes of a request up, or lets go of them where they are negative."""
        self._bytes += size
        if self._bytes < self._limit:
            self._room.set()
        else:
            self._room.clear()


async def answers(
    requests: AsyncIterator[Q],
    answer: Callable[[Q], Awaitable[R]],
    window: Window,
    size: Callable[[Q], int],
) -> AsyncGenerator[R, None]:
    """Answers a stream of requests, several at a time, in the order in which they are ready.

    Args:
        requests: is asked for the next one only when the window has room for it.
        answer: answers one. It should not raise, for that ends the stream.
        window: how much may be in hand.
        size: of a request, in bytes.

    Raises:
        Exception: what `requests` or `answer` raise, and what else is in hand is dropped.
    """
    ready: asyncio.Queue[R | _End] = asyncio.Queue(maxsize=1)
    reading = asyncio.Lock()
    hand = _Hand(window.bytes)

    async def one() -> bool:
        async with reading:
            await hand.room()
            request = await anext(requests, _End.END)
            if request is _End.END:
                return False
            taken = size(request)
            hand.add(taken)
        try:
            await ready.put(await _answered(answer, request))
        finally:
            hand.add(-taken)
        return True

    async def work() -> None:
        while await one():  # a function of its own, so that nothing holds on to an old request
            pass

    async def work_together() -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(window.requests):
                    group.create_task(work())
        except ExceptionGroup as failures:
            await ready.put(_End.END)
            raise failures.exceptions[0] from None
        await ready.put(_End.END)

    working = asyncio.create_task(work_together())
    try:
        while (answered := await ready.get()) is not _End.END:
            yield answered
        await working
    finally:
        working.cancel()


async def _answered(answer: Callable[[Q], Awaitable[R]], request: Q) -> R:
    """The answer to a request.

    Raises:
        RuntimeError: whatever it waited for was cancelled, and not the stream. A task group takes
            that for the end of its task, and the request would be left without an answer.
    """
    task = asyncio.current_task()
    try:
        return await answer(request)
    except asyncio.CancelledError as error:
        if task is not None and task.cancelling():
            raise
        raise RuntimeError("what a request waited for was cancelled") from error
