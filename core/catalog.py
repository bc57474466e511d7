"""The catalog: every item that can be recommended, by position.

Inside Tandem an item is its position (an int32); identifiers are translated once, at the edge.

A `Catalog` is one version, and never changes. `apply` makes the next, which shares all that stays
the same, so that whoever began with a version goes on with it undisturbed. From one to the next a
position means the same item: what is new is appended, and what is removed stays as a tombstone,
which `ids` and `items` still answer for and nothing else finds. Where a catalog has many of them
(`sparse`) it is made anew without, and only there positions change (`compacted`).
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from core.attributes import AttributeIndex, ItemArray, Mask, differing
from core.changes import AttributeValues, CatalogItem, Change, Delete, Update, Upsert
from core.errors import BundleError
from core.masks import MaskMemory
from core.persistent import PersistentMap, PersistentSequence, append

__all__ = [
    "AttributeValues",
    "Catalog",
    "CatalogItem",
    "Change",
    "Delete",
    "ItemArray",
    "Mask",
    "Update",
    "Upsert",
]

MANY_TOMBSTONES: Final = 1 << 12
"""Below so many nothing is compacted: they cost a search a tenth of a millisecond."""


@dataclass
class _Difference:
    """What is between one version and the next."""

    added: list[CatalogItem] = field(default_factory=list)
    removed: dict[int, CatalogItem] = field(default_factory=dict)
    """By position, which may be that of an item that is added and removed at once."""
    updated: dict[int, CatalogItem] = field(default_factory=dict)
    """What stands at positions of the version before from now on."""
    moved: dict[str, int | None] = field(default_factory=dict)
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
        made = _Difference()
        for change in changes:
            item_id = change.item_id
            at = made.moved[item_id] if item_id in made.moved else self.positions.get(item_id)
            if at is not None:
                own = self.items[at] if at < start else made.added[at - start]
                there = made.updated.get(at, own)
                if not isinstance(change, Delete):
                    if change.item == there:
                        continue
                    if isinstance(change, Update) and change.item.popularity == there.popularity:
                        if at < start:
                            made.updated[at] = change.item
                        else:
                            made.added[at - start] = change.item
                        continue
                made.removed[at] = own
                made.updated.pop(at, None)
            made.moved[item_id] = None
            if not isinstance(change, Delete):
                made.moved[item_id] = start + len(made.added)
                made.added.append(change.item)
        return made

    def after(self, changes: Iterable[Change]) -> "_Version":
        """The version that the changes lead to."""
        change = self.difference(changes)
        live = np.concatenate([self.live, np.ones(len(change.added), np.bool_)])
        live[list(change.removed)] = False
        live.flags.writeable = False
        return _Version(
            items=self.items.replaced(change.updated).extended(change.added),
            positions=self.positions.updated(change.moved),
            attributes=self._indexed(change),
            popularity=append(
                self.popularity, np.array([item.popularity for item in change.added], np.int64)
            ),
            live=live,
        )

    def _indexed(self, change: _Difference) -> AttributeIndex:
        gained = [
            (position, item.attributes)
            for position, item in enumerate(change.added, len(self.items))
        ]
        lost = []
        for position, item in change.updated.items():
            before, after = differing(self.items[position].attributes, item.attributes)
            lost.append((position, before))
            gained.append((position, after))
        retired = [attributes for _, attributes in lost]
        retired += [item.attributes for item in change.removed.values()]
        return self.attributes.updated(gained, lost, retired)

    def every_popularity(self) -> NDArray[np.int64]:
        """Of every position, tombstones included; there may be none."""
        return np.concatenate([np.empty(0, np.int64), *self.popularity])

    def compacted(self, base: int) -> "tuple[_Version, ItemArray]":
        """The version without the tombstones from a position on, and where each item was."""
        tail = base + np.flatnonzero(self.live[base:])
        kept = np.concatenate([np.arange(base), tail]).astype(np.int32)
        rows = list(enumerate(map(self.items.__getitem__, tail.tolist()), base))
        stale = enumerate(self.items[base:], base)
        gained = [(position, item.attributes) for position, item in rows]
        live = self.live[kept]
        live.flags.writeable = False
        version = _Version(
            items=self.items.truncated(base).extended(item for _, item in rows),
            positions=self.positions.updated({item.item_id: position for position, item in rows}),
            attributes=self.attributes.updated(
                gained,
                [(position, item.attributes) for position, item in stale],
                [attributes for _, attributes in gained],
            ),
            popularity=append((), self.every_popularity()[kept]),
            live=live,
        )
        return version, kept


class Catalog:
    """One immutable version of a catalog; `Catalog(items)` is the first.

    Arrays over the catalog are indexed by position: their shape, [positions], counts tombstones.
    """

    def __init__(self, items: Iterable[CatalogItem] = ()) -> None:
        given = tuple(items)
        self._version = _Version().after(map(Upsert, given))
        self.base = len(given)
        """How many items the first version had, whose positions are theirs for ever."""
        self.masks = MaskMemory()
        """Of this version, what filters came to."""
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
        popularity = self._version.every_popularity()
        popularity.flags.writeable = False
        return popularity

    @cached_property
    def attribute_names(self) -> frozenset[str]:
        """Every attribute that some live item has."""
        return frozenset(self._version.attributes.live)

    def apply(self, changes: Iterable[Change]) -> "Catalog":
        """Makes the next version: the changes one after another, all of them or, on error, none.

        An item that is replaced by an `Upsert` moves to a new position; to move one that is the
        same in every field, delete it first. An upsert of exactly what is there changes nothing,
        and neither does deleting what is not there: `lookup` tells beforehand.

        The cost grows with the changes: 1,000 of them take about 10 ms among a million items, and
        an `Update` besides a copy of the postings and columns whose values it changes.
        """
        return self._followed_by(self._version.after(changes))

    @property
    def sparse(self) -> bool:
        """Whether among what was added there are more tombstones than items, and many."""
        tail = self.live[self.base :]
        items = int(np.count_nonzero(tail))
        return len(tail) - items > max(items, MANY_TOMBSTONES)

    def compacted(self) -> tuple["Catalog", ItemArray]:
        """The same version without the tombstones among what was added.

        Returns:
            The version, and for each of its positions the one that the item has had, ascending.
        """
        version, kept = self._version.compacted(self.base)
        return self._followed_by(version), kept

    def _followed_by(self, version: _Version) -> "Catalog":
        following = Catalog.__new__(Catalog)
        following._version = version
        following.base = self.base
        following.masks = MaskMemory()
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

    def places(self, item_ids: Iterable[str]) -> ItemArray:
        """Where items are, int32 [identifiers]; -1 for those that are not there."""
        found = self._version.positions.get_all(list(item_ids))
        return np.array([-1 if at is None else at for at in found], dtype=np.int32)

    def having(self, attribute: str, values: Iterable[str | float]) -> Mask:
        """Marks the live items that have one of the values. Shape [positions]."""
        return self._version.attributes.having(attribute, values, self.live)

    def within(self, attribute: str, low: float, high: float) -> Mask:
        """Marks the live items that have a number in [low, high]. Shape [positions]."""
        return self._version.attributes.within(attribute, low, high, self.live)

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
