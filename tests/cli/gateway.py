"""A gateway beside a test that is sync."""

import asyncio
import threading
from collections.abc import Mapping
from pathlib import Path

from tests.gateway.stack import Stack, running


async def serve(bundle: Path, ready: "Gateway", flags: Mapping[str, object]) -> None:
    async with running(bundle, **flags) as stack:
        ready.address, ready.stack = stack.address, stack
        ready.stopping = asyncio.Event()
        ready.loop = asyncio.get_running_loop()
        ready.started.set()
        await ready.stopping.wait()


class Gateway:
    """Runs on a thread of its own: the command line is sync."""

    def __init__(self, bundle: Path, **flags: object) -> None:
        self.bundle = bundle
        self.address = ""
        self.stack: Stack
        """For its fakes, which may be told to fail between calls."""
        self.started = threading.Event()
        self.stopping: asyncio.Event
        self.loop: asyncio.AbstractEventLoop
        self._thread = threading.Thread(target=lambda: asyncio.run(serve(bundle, self, flags)))

    def __enter__(self) -> "Gateway":
        self._thread.start()
        assert self.started.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self.stopping.set)
        self._thread.join()
