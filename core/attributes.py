"""Which items have which attribute values: what filters look up, version by version.

Texts have postings, the positions of the items that have one. Numbers stand in a column, in order
and beside the positions of theirs, so that a range is two binary searches and what lies between
them; a wide one compares them as they stand by position, which is quicker then. Both are kept in
pieces that versions share. Items that are no longer live stay until their positions are given to
others: whoever asks leaves them out.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from core.persistent import PersistentMap, append, grown

ItemArray = NDArray[np.int32]
Mask = NDArray[np.bool_]
Attributes = Mapping[str, tuple[str | float, ...]]
WIDE: Final = 8
"""A range that one item in so many is in is wide."""

Row = tuple[int, Attributes]
"""A position, and what stands there."""


@dataclass(frozen=True, eq=False)
class Numbers:
    """Some numbers of an attribute, ascending, and the item of each."""

    values: NDArray[np.float64]
    items: ItemArray

    def __len__(self) -> int:
        return len(self.items)

    @classmethod
    def of(cls, values: NDArray[np.float64], items: ItemArray) -> "Numbers":
        """Numbers in any order."""
        order = np.argsort(values, kind="stable")
        return cls(values[order], items[order])

    @classmethod
    def joined(cls, pieces: Sequence["Numbers"]) -> "Numbers":
        """Several pieces as one."""
        return cls.of(
            np.concatenate([piece.values for piece in pieces]),
            np.concatenate([piece.items for piece in pieces]),
        )

    def mark(self, low: float, high: float, mask: Mask) -> None:
        """Marks the items of the numbers from `low` to `high`, both inclusive."""
        first = np.searchsorted(self.values, low, "left")
        found = self.items[first : np.searchsorted(self.values, high, "right")]
        if len(found) * WIDE < len(mask) or self._by_position is None:
            mask[found] = True
        else:
            numbers = self._by_position
            mask[: len(numbers)] |= (numbers >= low) & (numbers <= high)

    @cached_property
    def _by_position(self) -> NDArray[np.float64] | None:
        """The number of each item by its position, NaN where there is none; None where an item has
        several."""
        numbers = np.full(self.items.max() + 1, np.nan)
        numbers[self.items] = self.values
        return numbers if np.count_nonzero(~np.isnan(numbers)) == len(self.items) else None

    def without(self, items: Sequence[int]) -> "Numbers":
        """What is left without some items."""
        stays = np.isin(self.items, items, invert=True)
        return Numbers(self.values[stays], self.items[stays])


@dataclass(frozen=True)
class AttributeIndex:
    """One version of the index; immutable."""

    live: Mapping[str, int] = field(default_factory=dict)
    """How many live items have an attribute; only what some item has."""
    postings: PersistentMap[tuple[str, str], tuple[ItemArray, ...]] = field(
        default_factory=PersistentMap
    )
    columns: Mapping[str, tuple[Numbers, ...]] = field(default_factory=dict)

    def having(self, attribute: str, values: Iterable[str | float], live: Mask) -> Mask:
        """Marks the live items that have one of the values. Shape of `live`, [positions]."""
        mask = np.zeros(len(live), np.bool_)
        for value in values:
            if isinstance(value, str):
                for items in self.postings.get((attribute, value)) or ():
                    mask[items] = True
            else:
                self._mark(attribute, value, value, mask)
        mask &= live
        return mask

    def within(self, attribute: str, low: float, high: float, live: Mask) -> Mask:
        """Marks the live items that have a number in [low, high]. Shape of `live`, [positions]."""
        mask = np.zeros(len(live), np.bool_)
        self._mark(attribute, low, high, mask)
        mask &= live
        return mask

    def _mark(self, attribute: str, low: float, high: float, mask: Mask) -> None:
        for piece in self.columns.get(attribute, ()):
            piece.mark(low, high, mask)

    def updated(
        self, gained: Iterable[Row], lost: Iterable[Row] = (), retired: Iterable[Attributes] = ()
    ) -> "AttributeIndex":
        """The next version.

        Taking rows out costs a copy of the postings and columns that they are in, adding them next
        to nothing.

        Args:
            gained: what comes in, of live items.
            lost: what is taken out first.
            retired: the attributes of items that are no longer live, or no longer have these;
                rows that are not `lost` as well stay in the index.
        """
        live = Counter(self.live)
        new, old = _Entries(), _Entries()
        for position, attributes in gained:
            live.update(attributes.keys())
            new.add(position, attributes)
        for position, attributes in lost:
            old.add(position, attributes)
        for attributes in retired:
            live.subtract(attributes.keys())
        return AttributeIndex(+live, self._postings(new, old), self._columns(new, old))

    def _postings(
        self, new: "_Entries", old: "_Entries"
    ) -> PersistentMap[tuple[str, str], tuple[ItemArray, ...]]:
        changed: dict[tuple[str, str], tuple[ItemArray, ...] | None] = {}
        for key in new.texts.keys() | old.texts.keys():
            pieces = self.postings.get(key) or ()
            if key in old.texts:
                before, pieces = pieces, ()
                for piece in before:
                    left = piece[np.isin(piece, old.texts[key], invert=True)]
                    pieces = append(pieces, left)
            changed[key] = append(pieces, np.array(new.texts.get(key, ()), np.int32)) or None
        return self.postings.updated(changed)

    def _columns(self, new: "_Entries", old: "_Entries") -> Mapping[str, tuple[Numbers, ...]]:
        columns = dict(self.columns)
        for name in new.numbers.keys() | old.numbers.keys():
            pieces = columns.pop(name, ())
            if name in old.numbers:
                before, pieces = pieces, ()
                for piece in before:
                    left = piece.without(old.numbers[name][1])
                    pieces = grown(pieces, left, Numbers.joined)
            values, items = new.numbers.get(name, ((), ()))
            more = Numbers.of(np.array(values, np.float64), np.array(items, np.int32))
            if pieces := grown(pieces, more, Numbers.joined):
                columns[name] = pieces
        return columns


def differing(before: Attributes, after: Attributes) -> tuple[Attributes, Attributes]:
    """The attributes whose values are not the same, before and after."""
    names = [n for n in {**before, **after} if before.get(n) != after.get(n)]
    return (
        {name: before[name] for name in names if name in before},
        {name: after[name] for name in names if name in after},
    )


class _Entries:
    """Rows, by what they are looked up by."""

    def __init__(self) -> None:
        self.texts: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
        """By attribute and text, the items that have it."""
        self.numbers: defaultdict[str, tuple[list[float], list[int]]] = defaultdict(
            lambda: ([], [])
        )
        """By attribute, numbers and the item of each."""

    def add(self, position: int, attributes: Attributes) -> None:
        for name, values in attributes.items():
            for value in values:
                if isinstance(value, str):
                    self.texts[name, value].append(position)
                else:
                    numbers, items = self.numbers[name]
                    numbers.append(value)
                    items.append(position)
