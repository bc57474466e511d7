"""Edits of the catalog as transactions: what is new is placed, what is not is left alone.

    edits ──▶ CatalogTransaction, on top of a version ──▶ the next version, in memory
                                                      ──▶ the store, on disk ──▶ published

The writer takes the batches of several callers together, in one transaction. Each batch is taken
whole or not at all.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from core.catalog import AttributeValues, CatalogItem, Delete
from core.errors import TandemError
from services.candidate.catalog.cold_start import ColdStartPlacer
from services.candidate.catalog.rows import StoredChange
from services.candidate.catalog.store import ItemStore
from services.candidate.changes import ChangeSet, PlacedChange, PlacedItem
from services.candidate.index.flat import Vector
from services.candidate.retrieval.engine import CandidateEngine


@dataclass(frozen=True, eq=False)
class NewItem:
    """An item to add or to replace."""

    item_id: str
    title: str
    text: str
    attributes: Mapping[str, AttributeValues]
    content: Vector | None
    """Its vector in the content space, of unit norm. Without one the item keeps the one it has, if
    it is there with the same text, and otherwise its text is embedded."""


CatalogEdit = NewItem | Delete
EditBatch = Sequence[CatalogEdit]
"""What one caller wants."""


@dataclass(frozen=True)
class EditResult:
    """What became of a batch."""

    sequence: int
    """Of the first version that is sure to have it."""
    untouched: tuple[str, ...]
    """Items that are as they were: nothing new was said of them, or they were not there to delete.
    Each once, in the order of the batch."""


class CatalogTransaction:
    """Changes on top of a version of the engine, which do not show anywhere yet."""

    def __init__(self, engine: CandidateEngine, placer: ColdStartPlacer) -> None:
        self.changes: list[PlacedChange] = []
        self._engine = engine
        self._placer = placer
        self._now: dict[str, PlacedItem | None] = {}
        """The items that the changes are of, as they leave them."""

    def add(self, batch: EditBatch) -> tuple[str, ...]:
        """Takes a batch in, and returns the items that it leaves as they are.

        Raises:
            FailedPrecondition: reason NO_FREE_CODE. The transaction is as it was.
        """
        savepoint = self._placer.allocator.savepoint()
        made: dict[str, PlacedChange] = {}
        untouched: dict[str, None] = {}
        try:
            for edit in batch:
                there = self._item(edit.item_id)
                change = (
                    self._deleted(there) if isinstance(edit, Delete) else self._put(edit, there)
                )
                if change is None:
                    untouched[edit.item_id] = None
                else:
                    made[edit.item_id] = change
        except BaseException:
            self._placer.allocator.rollback(savepoint)
            raise
        self.changes += made.values()
        for item_id, change in made.items():
            self._now[item_id] = change if isinstance(change, PlacedItem) else None
        return tuple(untouched)

    def _item(self, item_id: str) -> PlacedItem | None:
        if item_id in self._now:
            return self._now[item_id]
        return self._placer.placed(self._engine, item_id)

    def _deleted(self, there: PlacedItem | None) -> Delete | None:
        if there is None:
            return None
        self._placer.allocator.release(there.code)
        return Delete(there.item_id)

    def _put(self, edit: NewItem, there: PlacedItem | None) -> PlacedItem | None:
        popularity = there.item.popularity if there else 0
        item = CatalogItem(edit.item_id, edit.title, edit.text, edit.attributes, popularity)
        if there is not None and _keeps_vectors(edit, there):
            return None if item == there.item else replace(there, item=item)
        content = edit.content
        if content is None:
            content = self._engine.embed([edit.text])[0]
        before = there.code if there else None
        return self._placer.place(self._engine, item, content, before)


class CatalogWriter:
    """Makes one version of the engine after another. For one thread at a time.

    Args:
        placer: places what is new.
        store: keeps it.
    """

    def __init__(self, placer: ColdStartPlacer, store: ItemStore) -> None:
        self.store = store
        self._placer = placer

    def write(
        self, engine: CandidateEngine, batches: Sequence[EditBatch]
    ) -> tuple[CandidateEngine, list[EditResult | TandemError]]:
        """Makes the next version of what several callers want, and has it on disk on return.

        Returns:
            The version, the same if there is nothing to change; and what became of each batch: an
            error is that of the one batch.

        Raises:
            ResourceExhausted, Unavailable: the store cannot take the changes; everything is as it
                was.
        """
        transaction, allocator = CatalogTransaction(engine, self._placer), self._placer.allocator
        made: list[tuple[str, ...] | TandemError] = []
        for batch in batches:
            try:
                made.append(transaction.add(batch))
            except TandemError as error:
                made.append(error)
        try:
            if transaction.changes:
                # First in memory: once it is on disk nothing must be able to fail any more.
                last = self.store.sequence + len(transaction.changes)
                staying = self._placer.staying(engine, transaction.changes)
                engine = engine.applied(ChangeSet(transaction.changes, last, staying))
                self.store.append(transaction.changes)
        except BaseException:
            allocator.rollback(0)
            raise
        allocator.commit()
        return engine, [
            one if isinstance(one, TandemError) else EditResult(engine.sequence, one)
            for one in made
        ]


def replayed(
    engine: CandidateEngine, placer: ColdStartPlacer, pages: Iterable[Sequence[StoredChange]]
) -> CandidateEngine:
    """Makes changes that are placed already, and has the placer know the codes that they use."""
    for page in pages:
        for stored in page:
            before = placer.placed(engine, stored.change.item_id)
            if before is not None:
                placer.allocator.release(before.code)
            if isinstance(stored.change, PlacedItem):
                placer.allocator.reserve(stored.change.code)
        changes = [stored.change for stored in page]
        staying = placer.staying(engine, changes)
        engine = engine.applied(ChangeSet(changes, page[-1].sequence, staying))
    placer.allocator.commit()
    return engine


def _keeps_vectors(edit: NewItem, there: PlacedItem) -> bool:
    if edit.content is None:
        return edit.text == there.item.text
    return edit.text == there.item.text and np.array_equal(edit.content, there.content)
