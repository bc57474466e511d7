"""The soak's own idea of the catalog: plain dictionaries that change at random.

It shares no code with the catalog that is served, so that one can be checked against the other.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, TypeVar

import numpy as np

LEVELS: Final = (12, 18, 24)
"""How many values each level of a code has: 5,184 codes."""
GENRES: Final = tuple(f"genre {n}" for n in range(15))
MAKERS: Final = tuple(f"maker {n}" for n in range(200))

Code = tuple[int, ...]
"""A value of each level."""
Attributes = Mapping[str, tuple[str | float, ...]]
T = TypeVar("T")


@dataclass(frozen=True)
class Item:
    """An item."""

    item_id: str
    attributes: Attributes
    code: Code

    @property
    def code_text(self) -> str:
        """The code as a prompt shows it."""
        return "".join(f"<{'abc'[level]}_{value}>" for level, value in enumerate(self.code))


Changes = Mapping[str, Item | None]
"""What becomes of an identifier; None for what is removed."""


@dataclass(eq=False)
class Version:
    """One version of the catalog.

    It knows the one that follows, and not the one before: whoever keeps a version keeps all that
    came after it, and no other is kept.
    """

    number: int
    items: Mapping[str, Item]
    """What there is, by identifier."""
    named: int
    """How many identifiers were ever given: a version brings one new one at most."""
    following: "Version | None" = None

    @cached_property
    def item_ids(self) -> Sequence[str]:
        """The identifiers of all items."""
        return tuple(self.items)

    def onward(self) -> Sequence["Version"]:
        """This version and all that followed."""
        versions = [self]
        while versions[-1].following is not None:
            versions.append(versions[-1].following)
        return versions

    def changed(self, changes: Changes) -> "Version":
        """The version that the changes lead to; it follows this one from now on."""
        items = {key: item for key, item in {**self.items, **changes}.items() if item is not None}
        named = self.named + (item_id(self.named) in changes)
        self.following = Version(self.number + 1, items, named)
        return self.following


def item_id(number: int) -> str:
    """The identifier that is given after n others."""
    return f"i{number}"


class Changer:
    """Makes the first version, and the changes from each version to the next.

    Which they are depends on the seed alone: version n of a soak can be made again by `version`.
    """

    def __init__(self, seed: int, items: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._items = items

    def first(self) -> Version:
        """The catalog of the bundle."""
        numbers = self._rng.permutation(int(np.prod(LEVELS)))[: self._items]
        codes = np.stack(np.unravel_index(numbers, LEVELS), axis=1).tolist()
        items = [self._item(item_id(n), tuple(code)) for n, code in enumerate(codes)]
        return Version(0, {item.item_id: item for item in items}, len(items))

    def changes(self, version: Version) -> Changes:
        """Some changes of one kind; the number of items stays within a tenth of the first."""
        kinds: list[Callable[[Version], Changes]] = [
            self._recode, self._swap, self._redescribe, self._hand_on
        ]  # fmt: skip
        if len(version.items) < 1.1 * self._items:
            kinds.append(self._add)
        if len(version.items) > 0.9 * self._items:
            kinds.append(self._remove)
        return self._one(kinds)(version)

    def _add(self, version: Version) -> Changes:
        """A new item, or one that was removed is back."""
        number = int(self._rng.integers(version.named + 1))
        key = item_id(number if item_id(number) not in version.items else version.named)
        return {key: self._item(key, self._free_code(version))}

    def _remove(self, version: Version) -> Changes:
        return dict.fromkeys((self._any(version).item_id, self._any(version).item_id))

    def _recode(self, version: Version) -> Changes:
        item = self._any(version)
        code = self._free_code(version)
        return {item.item_id: Item(item.item_id, item.attributes, code)}

    def _swap(self, version: Version) -> Changes:
        """Two items take each other's code."""
        one, other = self._any(version), self._any(version)
        return {
            one.item_id: Item(one.item_id, one.attributes, other.code),
            other.item_id: Item(other.item_id, other.attributes, one.code),
        }

    def _redescribe(self, version: Version) -> Changes:
        """An item has other attributes."""
        item = self._any(version)
        return {item.item_id: self._item(item.item_id, item.code)}

    def _hand_on(self, version: Version) -> Changes:
        """An item goes, and a new one has its code."""
        gone, new = self._any(version), item_id(version.named)
        return {gone.item_id: None, new: self._item(new, gone.code)}

    def _any(self, version: Version) -> Item:
        return version.items[self._one(version.item_ids)]

    def _one(self, values: Sequence[T]) -> T:
        return values[int(self._rng.integers(len(values)))]

    def _free_code(self, version: Version) -> Code:
        taken = {item.code for item in version.items.values()}
        while True:
            code = tuple(int(self._rng.integers(width)) for width in LEVELS)
            if code not in taken:
                return code

    def _item(self, key: str, code: Code) -> Item:
        """An item with attributes of all kinds: some that nearly all have, and some that few do."""
        rng = self._rng
        genres = {self._one(GENRES) for _ in range(rng.integers(1, 4))}
        attributes: dict[str, tuple[str | float, ...]] = {
            "sku": (key,),
            "genre": tuple(sorted(genres)),
            "maker": (self._one(MAKERS),),
            "price": (round(float(rng.gamma(2.0, 10.0)), 2),),
        }
        if rng.random() < 0.8:
            attributes["year"] = (float(rng.integers(1950, 2026)),)
        if rng.random() < 0.02:
            attributes["award"] = (self._one(("gold", "silver")), float(rng.integers(1, 4)))
        return Item(key, attributes, code)


def version(number: int, *, seed: int, items: int) -> Version:
    """A version of a soak's catalog, made again."""
    changer = Changer(seed, items)
    made = changer.first()
    for _ in range(number):
        made = made.changed(changer.changes(made))
    return made
