"""The catalog: every item that can be recommended, by position.

Inside Tandem an item is its position (an int32); identifiers are translated once, at the edge.

A `Catalog` is one version, and never changes. `apply` makes the next, which shares all that stays
the same, so that whoever began with a version goes on with it undisturbed. A position means the
same item in every version of a process: what is new is appended, and what is removed stays as a
tombstone, which `ids` and `items` still answer for and nothing else finds.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.attributes import AttributeIndex, ItemArray
from core.errors import BundleError
from core.persistent import PersistentMap, PersistentSequence, append

__all__ = [
    "AttributeValues",
    "Catalog",
    "CatalogItem",
    "Change",
    "Delete",
    "ItemArray",
    "Mask",
    "Upsert",
]

Mask = NDArray[np.bool_]
AttributeValues = tuple[str | float, ...]


@dataclass(frozen=True, slots=True)
class CatalogItem:
    """An item as it is shown, embedded and filtered."""

    item_id: str
    title: str
    text: str
    attributes: Mapping[str, AttributeValues]
    popularity: int
    """Interactions in the training data."""


@dataclass(frozen=True)
class Upsert:
    """Adds an item, or replaces the one that has its identifier."""

    item: CatalogItem

    @property
    def item_id(self) -> str:
        """The identifier of the item."""
        return self.item.item_id


@dataclass(frozen=True)
class Delete:
    """Removes an item."""

    item_id: str


Change = Upsert | Delete


@dataclass(frozen=True)
class _Difference:
    """What is between one version and the next."""

    added: list[CatalogItem]
    removed: dict[int, CatalogItem]
    """By position, which may be that of an item that is added and removed at once."""
    moved: dict[str, int | None]
    """Identifiers with another position than before; None for what is removed."""


@dataclass(frozen=True)
class _Version:
    """What a catalog consists of."""

    items: PersistentSequence[CatalogItem] = field(default_factory=PersistentSequence)
    positions: PersistentMap[str, int] = field(default_factory=PersistentMap)
    """The position of each live item."""
    attributes: AttributeIndex = field(default_factory=AttributeIndex)
    popularity: tuple[NDArray[np.int64], ...] = ()
    live: Mask = field(default_factory=lambda: np.empty(0, np.bool_))

    def difference(self, changes: Iterable[Change]) -> _Difference:
        """What the changes, one after another, come to."""
        start = len(self.items)
        added: list[CatalogItem] = []
        removed: dict[int, CatalogItem] = {}
        moved: dict[str, int | None] = {}
        for change in changes:
            item_id = change.item_id
            at = moved[item_id] if item_id in moved else self.positions.get(item_id)
            if at is not None:
                there = self.items[at] if at < start else added[at - start]
                if isinstance(change, Upsert) and change.item == there:
                    continue
                removed[at] = there
            moved[item_id] = None
            if isinstance(change, Upsert):
                moved[item_id] = start + len(added)
                added.append(change.item)
        return _Difference(added, removed, moved)

    def after(self, changes: Iterable[Change]) -> "_Version":
        """The version that the changes lead to."""
        change = self.difference(changes)
        live = np.concatenate([self.live, np.ones(len(change.added), np.bool_)])
        live[list(change.removed)] = False
        live.flags.writeable = False
        return _Version(
            items=self.items.extended(change.added),
            positions=self.positions.updated(change.moved),
            attributes=self.attributes.updated(
                len(self.items),
                [item.attributes for item in change.added],
                [item.attributes for item in change.removed.values()],
            ),
            popularity=append(
                self.popularity, np.array([item.popularity for item in change.added], np.int64)
            ),
            live=live,
        )


class Catalog:
    """One immutable version of a catalog; `Catalog(items)` is the first.

    Arrays over the catalog are indexed by position: their shape, [positions], counts tombstones.
    """

    def __init__(self, items: Iterable[CatalogItem] = ()) -> None:
        given = tuple(items)
        self._version = _Version().after(map(Upsert, given))
        if np.count_nonzero(self.live) < len(given):
            raise BundleError("catalog.jsonl names an item twice")

    def __len__(self) -> int:
        return len(self._version.items)

    @property
    def items(self) -> PersistentSequence[CatalogItem]:
        """Every item by position, tombstones included."""
        return self._version.items

    @property
    def live(self) -> Mask:
        """Marks the items that are in this version. Shape [positions], read-only."""
        return self._version.live

    @cached_property
    def live_count(self) -> int:
        """How many items are in this version."""
        return int(np.count_nonzero(self.live))

    @cached_property
    def popularity(self) -> NDArray[np.int64]:
        """Interactions of each item in the training data. Shape [positions], read-only."""
        popularity = np.concatenate([np.empty(0, np.int64), *self._version.popularity])
        popularity.flags.writeable = False
        return popularity

    @cached_property
    def attribute_names(self) -> frozenset[str]:
        """Every attribute that some live item has."""
        return frozenset(self._version.attributes.live)

    def apply(self, changes: Iterable[Change]) -> "Catalog":
        """Makes the next version: the changes one after another, all of them or, on error, none.

        An item that is replaced moves to a new position; to move one that is the same in every
        field, delete it first. An upsert of exactly what is there changes nothing, and neither does
        deleting what is not there: `lookup` tells beforehand.

        The cost grows with the changes: 1,000 of them take about 10 ms among a million items.
        """
        following = Catalog.__new__(Catalog)
        following._version = self._version.after(changes)
        return following

    def ids(self, positions: Iterable[int]) -> list[str]:
        """Translates positions to identifiers."""
        return [self.items[i].item_id for i in positions]

    def lookup(self, item_ids: Iterable[str]) -> tuple[ItemArray, list[str]]:
        """Translates identifiers to positions, in order, duplicates kept.

        Returns:
            The positions of the live items, and the unknown identifiers, each once.
        """
        asked = list(item_ids)
        found = self._version.positions.get_all(asked)
        known = [position for position in found if position is not None]
        missing: list[str] = []
        if len(known) < len(asked):
            pairs = zip(asked, found, strict=True)
            missing = list(dict.fromkeys(item_id for item_id, at in pairs if at is None))
        return np.array(known, dtype=np.int32), missing

    def having(self, attribute: str, values: Iterable[str | float]) -> Mask:
        """Marks the live items that have one of the values. Shape [positions]."""
        return self._marked(self._version.attributes.having(attribute, values))

    def within(self, attribute: str, low: float, high: float) -> Mask:
        """Marks the live items that have a number in [low, high]. Shape [positions]."""
        return self._marked(self._version.attributes.within(attribute, low, high))

    def _marked(self, lists: Iterable[ItemArray]) -> Mask:
        mask = np.zeros(len(self), dtype=np.bool_)
        for items in lists:
            mask[items] = True
        mask &= self.live
        return mask

    @classmethod
    def read(cls, path: Path) -> "Catalog":
        """Reads `catalog.jsonl`: one JSON object a line, in position order.

        Raises:
            BundleError: a line is not what `write` writes.
        """
        items = []
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    row = json.loads(line)
                    attributes = {
                        name: tuple(v if isinstance(v, str) else float(v) for v in values)
                        for name, values in row["attributes"].items()
                    }
                    items.append(
                        CatalogItem(
                            item_id=str(row["item_id"]),
                            title=str(row["title"]),
                            text=str(row["text"]),
                            attributes=attributes,
                            popularity=int(row["popularity"]),
                        )
                    )
                except (ValueError, KeyError, TypeError, AttributeError) as error:
                    raise BundleError(
                        f"{path}, line {number}: not a catalog item: {error}"
                    ) from error
        return cls(items)

    def write(self, path: Path) -> None:
        """Writes the live items as `read` reads them."""
        with path.open("w", encoding="utf-8") as out:
            for position in np.flatnonzero(self.live).tolist():
                item = self.items[position]
                row = {
                    "item_id": item.item_id,
                    "title": item.title,
                    "text": item.text,
                    "attributes": {name: list(values) for name, values in item.attributes.items()},
                    "popularity": item.popularity,
                }
                out.write(json.dumps(row, ensure_ascii=False) + "\n")
