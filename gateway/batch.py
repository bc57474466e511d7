"""Many requests over one stream, with as many of them in hand as a window has room for.

The window is the flow control: who streams requests faster than they are answered, or takes the
answers slower than they come, is not read from any further. gRPC then fills the buffers of the
connection and tells the peer to wait, so that a stream costs the memory of its window and no more.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from enum import Enum
from typing import TypeVar

Q = TypeVar("Q")
R = TypeVar("R")


class _End(Enum):
    """What follows the last request, or the last answer."""

    END = 0


async def answers(
    requests: AsyncIterator[Q], answer: Callable[[Q], Awaitable[R]], window: int
) -> AsyncGenerator[R, None]:
    """Answers a stream of requests, several at a time, in the order in which they are ready.

    Args:
        requests: is asked for the next one only when the window has room for it.
        answer: answers one. It should not raise, for that ends the stream.
        window: how many requests may be in hand, beside the one whose answer waits to be taken.

    Raises:
        Exception: what `requests` or `answer` raise, and what else is in hand is dropped.
    """
    ready: asyncio.Queue[R | _End] = asyncio.Queue(maxsize=1)
    reading = asyncio.Lock()

    async def work() -> None:
        while True:
            async with reading:
                request = await anext(requests, _End.END)
            if request is _End.END:
                return
            await ready.put(await answer(request))

    async def work_together() -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(window):
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
