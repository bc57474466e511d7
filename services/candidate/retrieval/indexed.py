"""A catalog and all that is known of its items by position, from one version to the next."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from core.catalog import Catalog, Change, Delete, Update, Upsert
from core.codes import ItemCode
from core.persistent import PersistentSequence
from core.popularity import ItemPopularity
from services.candidate.changes import ChangeSet, PlacedItem
from services.candidate.index.space import Space
from services.candidate.retrieval.transitions import Transitions


@dataclass(frozen=True)
class IndexedCatalog:
    """One version; immutable."""

    catalog: Catalog
    sequence: int
    """Of the last change that is in it."""
    codes: PersistentSequence[ItemCode]
    """Of the items that were added to the bundle's."""
    content: Space
    behavior: Space
    transitions: Transitions
    popularity: ItemPopularity

    def applied(self, change_set: ChangeSet) -> "IndexedCatalog":
        """Makes the next version, which shares with this one all that stays the same.

        The last change of each item counts. An item that is replaced moves to a new position,
        unless it is `staying`. Where there have come to be more replaced and deleted ones among the
        added items than others, they are left out, and what follows them moves up.
        """
        last = {change.item_id: change for change in change_set.changes}
        placed = [change for change in last.values() if isinstance(change, PlacedItem)]
        catalog = self.catalog.apply(_plain(last.keys(), placed, change_set.staying))
        places = catalog.lookup(item.item_id for item in placed)[0].tolist()
        start = len(self.catalog)
        new = [item for item, place in zip(placed, places, strict=True) if place >= start]
        content, behavior = self.content, self.behavior
        if new:
            content = content.extended(np.stack([item.content for item in new]))
            behavior = behavior.extended(np.stack([item.behavior for item in new]))
        before = self.catalog.places(item.item_id for item in new)
        popularity = np.array([item.item.popularity for item in new], np.int64)
        following = IndexedCatalog(
            catalog=catalog,
            sequence=change_set.sequence,
            codes=self.codes.extended(item.code for item in new),
            content=content,
            behavior=behavior,
            transitions=self.transitions.extended(start, before),
            popularity=self.popularity.extended(popularity) if new else self.popularity,
        )
        return following._compacted() if catalog.sparse else following

    def _compacted(self) -> "IndexedCatalog":
        catalog, kept = self.catalog.compacted()
        added = kept[catalog.base :] - catalog.base
        return replace(
            self,
            catalog=catalog,
            codes=PersistentSequence(self.codes[place] for place in added.tolist()),
            content=self.content.compacted(kept),
            behavior=self.behavior.compacted(kept),
            transitions=self.transitions.compacted(kept),
            popularity=self.popularity.compacted(kept),
        )


def _plain(
    item_ids: Iterable[str], placed: Sequence[PlacedItem], staying: Collection[str]
) -> list[Change]:
    """The changes as a catalog knows them. What moves is deleted first: it may be the same in every
    field."""
    changes: list[Change] = [Delete(item_id) for item_id in item_ids if item_id not in staying]
    changes += [
        Update(item.item) if item.item_id in staying else Upsert(item.item) for item in placed
    ]
    return changes
