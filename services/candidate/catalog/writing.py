"""Making changes out of what callers want: what is new is placed, what is not is left alone.

    calls ──▶ Draft, on top of a version of the engine ──▶ the next version, in memory
                                                       ──▶ the store, on disk ──▶ published

The writer takes the calls of several callers together, in one transaction. Each call is taken whole
or not at all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from core.catalog import AttributeValues, CatalogItem, Delete
from core.errors import TandemError
from services.candidate.catalog.placement import Placement
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


Wish = NewItem | Delete
Call = Sequence[Wish]


@dataclass(frozen=True)
class Written:
    """What became of a call."""

    sequence: int
    """Of the first version that is sure to have it."""
    untouched: tuple[str, ...]
    """Items that are as they were: nothing new was said of them, or they were not there to delete.
    Each once, in the order of the call."""


class Draft:
    """Changes on top of a version of the engine, which do not show anywhere yet."""

    def __init__(self, engine: CandidateEngine, placement: Placement) -> None:
        self.changes: list[PlacedChange] = []
        self._engine = engine
        self._placement = placement
        self._now: dict[str, PlacedItem | None] = {}
        """The items that the changes are of, as they leave them."""

    def add(self, call: Call) -> tuple[str, ...]:
        """Takes a call in, and returns the items that it leaves as they are.

        Raises:
            FailedPrecondition: reason NO_FREE_CODE. The draft is as it was.
        """
        mark = self._placement.coding.mark()
        made: dict[str, PlacedChange] = {}
        untouched: dict[str, None] = {}
        try:
            for wish in call:
                there = self._item(wish.item_id)
                change = (
                    self._deleted(there) if isinstance(wish, Delete) else self._put(wish, there)
                )
                if change is None:
                    untouched[wish.item_id] = None
                else:
                    made[wish.item_id] = change
        except BaseException:
            self._placement.coding.undo(mark)
            raise
        self.changes += made.values()
        for item_id, change in made.items():
            self._now[item_id] = change if isinstance(change, PlacedItem) else None
        return tuple(untouched)

    def _item(self, item_id: str) -> PlacedItem | None:
        if item_id in self._now:
            return self._now[item_id]
        return self._placement.placed(self._engine, item_id)

    def _deleted(self, there: PlacedItem | None) -> Delete | None:
        if there is None:
            return None
        self._placement.coding.release(there.code)
        return Delete(there.item_id)

    def _put(self, wish: NewItem, there: PlacedItem | None) -> PlacedItem | None:
        popularity = there.item.popularity if there else 0
        item = CatalogItem(wish.item_id, wish.title, wish.text, wish.attributes, popularity)
        if there is not None and _keeps_vectors(wish, there):
            return None if item == there.item else replace(there, item=item)
        content = wish.content
        if content is None:
            content = self._engine.embed([wish.text])[0]
        before = there.code if there else None
        return self._placement.place(self._engine, item, content, before)


class Writer:
    """Makes one version of the engine after another. For one thread at a time.

    Args:
        placement: places what is new.
        store: keeps it.
    """

    def __init__(self, placement: Placement, store: ItemStore) -> None:
        self.store = store
        self._placement = placement

    def replayed(self, engine: CandidateEngine) -> CandidateEngine:
        """Brings the bundle's own version to the state of the store."""
        for page in self.store.replay():
            for stored in page:
                before = self._placement.placed(engine, stored.change.item_id)
                if before is not None:
                    self._placement.coding.release(before.code)
                if isinstance(stored.change, PlacedItem):
                    self._placement.coding.take(stored.change.code)
            changes = [stored.change for stored in page]
            engine = engine.applied(ChangeSet(changes, page[-1].sequence))
        self._placement.coding.settle()
        return engine

    def write(
        self, engine: CandidateEngine, calls: Sequence[Call]
    ) -> tuple[CandidateEngine, list[Written | TandemError]]:
        """Makes the next version of what several callers want, and has it on disk on return.

        Returns:
            The version, the same if there is nothing to change; and what became of each call: an
            error is that of the one call.

        Raises:
            ResourceExhausted, Unavailable: the store cannot take the changes; everything is as it
                was.
        """
        draft, coding = Draft(engine, self._placement), self._placement.coding
        made: list[tuple[str, ...] | TandemError] = []
        for call in calls:
            try:
                made.append(draft.add(call))
            except TandemError as error:
                made.append(error)
        try:
            if draft.changes:
                # First in memory: once it is on disk nothing must be able to fail any more.
                last = self.store.sequence + len(draft.changes)
                engine = engine.applied(ChangeSet(draft.changes, last))
                self.store.append(draft.changes)
        except BaseException:
            coding.undo(0)
            raise
        coding.settle()
        return engine, [
            one if isinstance(one, TandemError) else Written(engine.sequence, one) for one in made
        ]


def _keeps_vectors(wish: NewItem, there: PlacedItem) -> bool:
    if wish.content is None:
        return wish.text == there.item.text
    return wish.text == there.item.text and np.array_equal(wish.content, there.content)
