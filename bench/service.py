"""One of the services, to measure it alone."""

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

from cli.serve.supervise import Stack


@asynccontextmanager
async def serving(
    name: Literal["candidate", "generator"], bundle: Path, *flags: str
) -> AsyncIterator[str]:
    """Runs a service in a process of its own; yields its address once it serves.

    Args:
        name: of the service.
        bundle: what it serves.
        flags: more of `tandem serve NAME`.

    Raises:
        ProcessEndedError: it ended instead.
    """
    command = [sys.executable, "-m", "cli.main", "serve", name, "--bundle", str(bundle)]
    command += ["--port", "0", "--log-level", "warning", *flags]
    with tempfile.TemporaryDirectory() as directory:
        stack = Stack(Path(directory), "127.0.0.1")
        try:
            await stack.start(name, command)
            serves, died = (
                asyncio.ensure_future(one) for one in (stack.serving(name), stack.died(name))
            )
            await asyncio.wait({serves, died}, return_when=asyncio.FIRST_COMPLETED)
            for one in (serves, died):
                one.cancel()
            yield serves.result() if not died.done() else await died
        finally:
            await stack.stop()
