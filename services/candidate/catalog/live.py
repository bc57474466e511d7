"""The live catalog: the version that is served, and the one way to the next.

    write ──▶ queue ──▶ what waits, as one transaction, on a thread ──▶ published
                                                                  └──▶ followers wake

A request takes the current version when it starts, and keeps it to its end; so readers never wait,
and never see half of a change. Calls that come while a transaction is written go into the next one
together, so that the disk is waited for once for all of them.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from core.errors import FailedPrecondition, InvalidArgument, TandemError, Unavailable
from services.candidate.catalog.embedding import TextBatches
from services.candidate.catalog.rebase import Rebase
from services.candidate.catalog.rows import StoredChange
from services.candidate.catalog.store import ItemStore
from services.candidate.catalog.transaction import (
    CatalogEdit,
    CatalogWriter,
    EditBatch,
    EditResult,
    NewItem,
)
from services.candidate.retrieval.engine import CandidateEngine
from serving.batch_queue import BatchQueue, Place, oldest
from serving.workers import Workers

MAX_BATCH: Final = 1_000
"""Changes of a transaction, at most, unless one batch of edits has more."""
MAX_WAITING: Final = 10_000
"""Changes that may wait."""
PAGE: Final = 128
"""Changes in a message to a follower, of 20 KiB each at most: clients take 4 MiB by default."""
HEARTBEAT_SECONDS: Final = 5.0


@dataclass(frozen=True)
class Step:
    """Some changes, for whoever has all before them."""

    changes: Sequence[StoredChange]
    sequence: int
    """Whoever has these changes has all up to here."""
    last: int
    """Of the last change that there is by now."""


class LiveCatalog:
    """Holds the version that is served, and makes the next.

    Args:
        engine: the first version.
        writer: makes the others; without one the catalog is read-only.
        max_waiting: changes that may wait to be written; what comes beyond is shed.
    """

    def __init__(
        self,
        engine: CandidateEngine,
        writer: CatalogWriter | None = None,
        *,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self.engine = engine
        """The version that is served; a request takes it once."""
        self._writer = writer
        self._readers = Workers(1)
        self._texts = TextBatches(lambda texts: self.engine.embed(texts), max_waiting)
        self._edits: BatchQueue[EditBatch, EditResult] = BatchQueue(
            self._write_all,
            oldest(MAX_BATCH),
            max_waiting=max_waiting,
            reason="WRITE_QUEUE_FULL",
            waits="changes wait to be written",
        )
        self._published = asyncio.Event()
        self._successor: LiveCatalog | None = None
        self._retired = False
        """Whether another version of the bundle is followed in place of this one."""
        self._keeps_vectors = True
        """Whether the successor encodes texts as this catalog does."""
        self._writing = threading.RLock()
        """Held while a version is made, or handed over; a successor has the same."""

    @property
    def waiting(self) -> int:
        """Changes that wait to be written."""
        return self._edits.waiting

    async def write(self, edits: EditBatch) -> EditResult:
        """Makes changes, all or none; on return they are on disk, and in `engine`.

        Raises:
            FailedPrecondition: reason READ_ONLY or NO_FREE_CODE.
            ResourceExhausted: too much waits already, reason WRITE_QUEUE_FULL; or the disk is full.
            Unavailable: the disk does not let itself be written to; or reason DRAINING, after
                `close`.
        """
        if self._writer is None:
            raise FailedPrecondition(
                "the catalog is read-only: this server was started without --store",
                reason="READ_ONLY",
            )
        with self._edits.place(len(edits)) as place:
            place.put(await self._embedded(edits))
            return await place.answer()

    async def follow(self, after: int) -> AsyncGenerator[Step, None]:
        """Yields what changed after a sequence, and then what changes; never ends by itself.

        A step without changes comes first, where there is nothing to catch up with, and then
        whenever nothing changes for `HEARTBEAT_SECONDS`.

        Raises:
            InvalidArgument: reason UNKNOWN_SEQUENCE, for one that is not reached yet, or that is
                from before the changes were carried over to this version of the bundle.
            Unavailable: reason VERSION_NOT_SERVED: changes are made on another version of the
                bundle now.
        """
        floor = 0 if self._writer is None else self._writer.store.floor
        if not (after == 0 or floor < after <= self.engine.sequence):
            raise InvalidArgument(
                f"the catalog is at sequence {self.engine.sequence}, and {after} is not one of its "
                "own: it is not the one that you followed; begin anew, after sequence 0",
                reason="UNKNOWN_SEQUENCE",
                sequence=str(self.engine.sequence),
            )
        step = await self._step(after)
        while True:
            yield step
            if step.sequence == self.engine.sequence:
                await self._news()
            step = await self._step(step.sequence)

    @property
    def store(self) -> ItemStore | None:
        """What the changes are in; None where the catalog does not change."""
        return None if self._writer is None else self._writer.store

    async def hand_over(self, rebase: Rebase) -> "LiveCatalog":
        """Lets another version of the bundle take the changes from now on.

        What waits here to be written is written there. This catalog stays as it is, and no longer
        tells those who follow it of anything.

        Args:
            rebase: of the store, to that version.

        Raises:
            ResourceExhausted, Unavailable: the store cannot be written to; nothing has changed.
        """
        successor = await asyncio.to_thread(self._hand_over, rebase)
        self.follow_no_more()
        return successor

    def follow_no_more(self, *, retired: bool = True) -> None:
        """Ends what follows this catalog, or, not `retired`, lets it be followed again."""
        self._retired = retired
        self._wake_followers()

    def _hand_over(self, rebase: Rebase) -> "LiveCatalog":
        with self._writing:
            writer = rebase.finish()
            self._keeps_vectors = rebase.same_encoder
            self._successor = LiveCatalog(rebase.engine, writer)
            self._successor._writing = self._writing
        return self._successor

    async def close(self) -> None:
        """Writes what waits; and closes the store, unless a successor has it."""
        self._wake_followers()
        await self._texts.close()
        await self._edits.close()
        self._readers.close()
        if self._writer is not None and self._successor is None:
            self._writer.store.close()

    async def _embedded(self, edits: EditBatch) -> EditBatch:
        """The edits, with a vector for every text that has none yet and needs one."""
        bare = [edit for edit in edits if isinstance(edit, NewItem) and edit.content is None]
        catalog = self.engine.catalog
        new = [
            edit
            for edit in bare
            if not any(
                catalog.items[at].text == edit.text for at in catalog.lookup([edit.item_id])[0]
            )
        ]
        if not new:
            return edits
        vectors = await self._texts.embed([edit.text for edit in new])
        made = {
            edit.item_id: replace(edit, content=vector)
            for edit, vector in zip(new, vectors, strict=True)
        }
        return [made.get(edit.item_id, edit) for edit in edits]

    def _write_all(self, batch: Sequence[Place[EditBatch, EditResult]]) -> None:
        """Makes one version of several callers' edits; on the queue's thread."""
        with self._writing:
            if self._successor is None:
                self._write_here(batch)
                return
            if not self._keeps_vectors:
                for place in batch:
                    place.job = [_without_vector(edit) for edit in place.job]
            self._successor._write_all(batch)

    def _write_here(self, batch: Sequence[Place[EditBatch, EditResult]]) -> None:
        assert self._writer is not None  # noqa: S101 - `write` lets nobody in without one
        try:
            engine, results = self._writer.write(self.engine, [place.job for place in batch])
        except TandemError as error:
            # The store takes none of them: to try each alone would take as long as each time.
            for place in batch:
                place.settle(error)
            return
        if engine is not self.engine:
            self.engine = engine
            batch[0].call_soon(self._wake_followers)
        for place, result in zip(batch, results, strict=True):
            place.settle(result)

    def _wake_followers(self) -> None:
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
        if self._retired:
            raise Unavailable(
                "changes of the catalog are made on another version of the bundle now",
                reason="VERSION_NOT_SERVED",
            )
        last = self.engine.sequence
        if self._writer is None or after == last:
            return Step((), last, last)
        page = await self._readers.run(self._writer.store.after, after, PAGE, last)
        return Step(page, page[-1].sequence if len(page) == PAGE else last, last)


def _without_vector(edit: CatalogEdit) -> CatalogEdit:
    """The edit, for another encoder to make its vector."""
    return replace(edit, content=None) if isinstance(edit, NewItem) else edit
