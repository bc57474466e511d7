"""Threads for what must not run on the event loop: FAISS, ONNX Runtime, anything that computes."""

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class Workers:
    """A fixed number of threads, and a queue in front of them.

    A call that is cancelled while it queues, because its caller left or its deadline passed,
    never runs. One that already runs cannot be stopped, and its result is dropped.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="tandem")
        self._in_hand = 0

    @property
    def waiting(self) -> int:
        """Calls that queue."""
        return max(0, self._in_hand - self._threads)

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        """Calls a blocking function on a thread; its log lines keep the request id."""
        context = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        self._in_hand += 1
        try:
            return await loop.run_in_executor(self._pool, context.run, function, *arguments)
        finally:
            self._in_hand -= 1

    def close(self) -> None:
        """Drops what queues and waits for what runs."""
        self._pool.shutdown(cancel_futures=True)
