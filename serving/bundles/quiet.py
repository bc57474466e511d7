"""A thread for what is long and not urgent: the cores are for the calls first."""

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

T = TypeVar("T")

NICENESS: Final = 10
"""How much nicer the thread is than the process: it has a tenth of a core that calls want too.
Nicer still, and calls would wait for the interpreter where the thread that has it gets no core."""


class QuietThread:
    """One thread of a low priority, made when it is first needed.

    The priority of a thread can be lowered and, without a privilege, not be raised again; and the
    threads that it starts have it too. So nothing may be made here that keeps threads to compute
    on. Where threads have no priority of their own, which is outside of Linux, it is one like any
    other.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "tandem-quiet", initializer=_be_nice)

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        """Calls a blocking function on the thread, after those before it."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    def close(self) -> None:
        """Ends the thread."""
        self._thread.shutdown()


def _be_nice() -> None:
    if sys.platform == "linux":
        own = os.getpriority(os.PRIO_PROCESS, 0)
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), own + NICENESS)
