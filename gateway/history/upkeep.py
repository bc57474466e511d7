"""What a store needs beside calls: the bundle's histories at first, and care from then on."""

import asyncio

import structlog

from core.bundle import Bundle
from core.errors import TandemError
from gateway.history.bundle import fill
from gateway.history.store import HistoryStore, Retention
from serving.background import Background, Backoff

log = structlog.get_logger()


class Upkeep:
    """Fills a store with a bundle's histories, unless that was done before, and tends it.

    Args:
        store: to look after.
        bundle: whose histories to fill it with.
        retention: how many of each user's.
    """

    def __init__(self, store: HistoryStore, bundle: Bundle, retention: Retention) -> None:
        self._store = store
        self._bundle = bundle
        self._retention = retention
        self._task = Background("history upkeep", self._live)
        self._tried = asyncio.Event()

    async def start(self) -> None:
        """Returns once the store is filled; or has failed, and is tried again until it works."""
        self._task.start()
        await self._tried.wait()

    async def stop(self) -> None:
        """Ends it."""
        await self._task.stop()

    async def _live(self) -> None:
        backoff = Backoff(first=0.5, limit=10.0)
        while True:
            try:
                await fill(self._store, self._bundle, self._retention.events)
                seconds = await self._store.tend()
                backoff.reset()
            except TandemError as error:
                seconds = backoff.next()
                log.warning("the history store is not ready", error=error.message, again_in=seconds)
            self._tried.set()
            await asyncio.sleep(seconds)
