"""The live catalog: the version that is served, and the one way to the next.

    write ──▶ queue ──▶ what waits, as one transaction, on a thread ──▶ published
                                                                  └──▶ followers wake

A request takes the current version when it starts, and keeps it to its end; so readers never wait,
and never see half of a change. Calls that come while a transaction is written go into the next one
together, so that the disk is waited for once for all of them.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import structlog

from core.errors import FailedPrecondition, InvalidArgument, ResourceExhausted
from services.candidate.catalog.embedding import TextBatches
from services.candidate.catalog.store import Stored
from services.candidate.catalog.writing import Call, NewItem, Writer, Written
from services.candidate.retrieval.engine import CandidateEngine
from serving.workers import Workers

log = structlog.get_logger()

MAX_BATCH: Final = 1_000
"""Changes above which a transaction takes in no further call."""
MAX_WAITING: Final = 10_000
"""Changes that may wait; what comes beyond is shed."""
ITEMS_PER_SECOND: Final = 1_000
"""What shed callers are told to reckon with."""
PAGE: Final = 128
"""Changes in a message to a follower, of 20 KiB each at most: clients take 4 MiB by default."""
HEARTBEAT_SECONDS: Final = 5.0


@dataclass(frozen=True)
class Step:
    """Some changes, for whoever has all before them."""

    changes: Sequence[Stored]
    sequence: int
    """Whoever has these changes has all up to here."""


@dataclass(frozen=True, eq=False)
class _Waiting:
    call: Call
    written: "asyncio.Future[Written]"

    def settle(self, result: Written | Exception) -> None:
        if self.written.done():  # its caller has left
            return
        if isinstance(result, Exception):
            self.written.set_exception(result)
        else:
            self.written.set_result(result)


class LiveCatalog:
    """Holds the version that is served, and makes the next.

    Args:
        engine: the first version.
        writer: makes the others; without one the catalog is read-only.
    """

    def __init__(self, engine: CandidateEngine, writer: Writer | None = None) -> None:
        self.engine = engine
        """The version that is served; a request takes it once."""
        self._writer = writer
        self._thread = Workers(1)
        self._readers = Workers(1)
        self._texts = TextBatches(lambda texts: self.engine.embed(texts))
        self._queue: deque[_Waiting] = deque()
        self._admitted = 0
        self._running: asyncio.Task[None] | None = None
        self._published = asyncio.Event()

    async def write(self, call: Call) -> Written:
        """Makes changes, all or none; on return they are on disk, and in `engine`.

        Raises:
            FailedPrecondition: reason READ_ONLY or NO_FREE_CODE.
            ResourceExhausted: too much waits already, reason WRITE_QUEUE_FULL; or the disk is full.
            Unavailable: the disk does not let itself be written to.
        """
        if self._writer is None:
            raise FailedPrecondition(
                "the catalog is read-only: this server was started without --store",
                reason="READ_ONLY",
            )
        if self._admitted + len(call) > MAX_WAITING:
            raise ResourceExhausted(
                f"{self._admitted} changes wait to be written, at most {MAX_WAITING} may",
                reason="WRITE_QUEUE_FULL",
                retry_after=self._admitted / ITEMS_PER_SECOND,
            )
        self._admitted += len(call)
        try:
            waiting = _Waiting(
                await self._embedded(call), asyncio.get_running_loop().create_future()
            )
            self._queue.append(waiting)
            if self._running is None or self._running.done():
                self._running = asyncio.create_task(self._write_all(self._writer))
            return await waiting.written
        finally:
            self._admitted -= len(call)

    async def follow(self, after: int) -> AsyncGenerator[Step, None]:
        """Yields what changed after a sequence, and then what changes; never ends by itself.

        A step without changes comes first, where there is nothing to catch up with, and then
        whenever nothing changes for `HEARTBEAT_SECONDS`.

        Raises:
            InvalidArgument: reason UNKNOWN_SEQUENCE, for one that is not reached yet.
        """
        if not 0 <= after <= self.engine.sequence:
            raise InvalidArgument(
                f"the catalog is at sequence {self.engine.sequence}, not yet at {after}: it is not "
                "the one that you followed; begin anew, after sequence 0",
                reason="UNKNOWN_SEQUENCE",
                sequence=str(self.engine.sequence),
            )
        step = await self._step(after)
        while True:
            yield step
            if step.sequence == self.engine.sequence:
                await self._news()
            step = await self._step(step.sequence)

    async def close(self) -> None:
        """Waits for what is being written, drops what waits, and closes the store."""
        self._texts.close()
        for waiting in self._queue:
            waiting.written.cancel()
        if self._running is not None:
            await self._running
        self._thread.close()
        self._readers.close()
        if self._writer is not None:
            self._writer.store.close()

    async def _embedded(self, call: Call) -> Call:
        """The call, with a vector for every text that has none yet and needs one."""
        bare = [wish for wish in call if isinstance(wish, NewItem) and wish.content is None]
        catalog = self.engine.catalog
        new = [
            wish
            for wish in bare
            if not any(
                catalog.items[at].text == wish.text for at in catalog.lookup([wish.item_id])[0]
            )
        ]
        if not new:
            return call
        vectors = await self._texts.embed([wish.text for wish in new])
        made = {
            wish.item_id: replace(wish, content=vector)
            for wish, vector in zip(new, vectors, strict=True)
        }
        return [made.get(wish.item_id, wish) for wish in call]

    async def _write_all(self, writer: Writer) -> None:
        while batch := self._next_batch():
            calls = [waiting.call for waiting in batch]
            try:
                engine, results = await self._thread.run(writer.write, self.engine, calls)
            except Exception as error:  # noqa: BLE001 - raised where the calls came from
                for waiting in batch:
                    waiting.settle(error)
                continue
            self._publish(engine)
            for waiting, result in zip(batch, results, strict=True):
                waiting.settle(result)

    def _next_batch(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        changes = 0
        while self._queue and (not batch or changes + len(self._queue[0].call) <= MAX_BATCH):
            waiting = self._queue.popleft()
            if not waiting.written.done():
                batch.append(waiting)
                changes += len(waiting.call)
        return batch

    def _publish(self, engine: CandidateEngine) -> None:
        if engine is not self.engine:
            self.engine = engine
            self._published.set()
            self._published = asyncio.Event()

    async def _news(self) -> None:
        """Waits for the next version, or for the time of a heartbeat."""
        try:
            async with asyncio.timeout(HEARTBEAT_SECONDS):
                await self._published.wait()
        except TimeoutError:
            pass

    async def _step(self, after: int) -> Step:
        """The next changes after a sequence, up to the version that is served."""
        last = self.engine.sequence
        if self._writer is None or after == last:
            return Step((), last)
        page = await self._readers.run(self._writer.store.after, after, PAGE, last)
        return Step(page, page[-1].sequence if len(page) == PAGE else last)
