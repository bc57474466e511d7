"""Which items have which attribute values: what filters look up, version by version.

Texts have postings, the ascending positions of the items that have one; numbers stand in a column
beside the positions of theirs, and a range is one pass over it (under 3 ms for a million). Items
are only ever added: whoever asks leaves out those that are no longer live.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from core.persistent import PersistentMap, append

ItemArray = NDArray[np.int32]
Attributes = Mapping[str, tuple[str | float, ...]]


@dataclass(frozen=True)
class Column:
    """The numbers of one attribute, and the item of each, in pieces of equal lengths."""

    numbers: tuple[NDArray[np.float64], ...] = ()
    items: tuple[ItemArray, ...] = ()

    def __iter__(self) -> Iterator[tuple[NDArray[np.float64], ItemArray]]:
        return zip(self.numbers, self.items, strict=True)


@dataclass(frozen=True)
class AttributeIndex:
    """One version of the index; immutable."""

    live: Mapping[str, int] = field(default_factory=dict)
    """How many live items have an attribute; only what some item has."""
    postings: PersistentMap[tuple[str, str], tuple[ItemArray, ...]] = field(
        default_factory=PersistentMap
    )
    columns: Mapping[str, Column] = field(default_factory=dict)

    def having(self, attribute: str, values: Iterable[str | float]) -> Iterator[ItemArray]:
        """Yields the items, live or not, that have one of the values."""
        wanted: list[float] = []
        for value in values:
            if isinstance(value, str):
                yield from self.postings.get((attribute, value)) or ()
            else:
                wanted.append(value)
        if wanted:
            for numbers, items in self.columns.get(attribute, ()):
                yield items[np.isin(numbers, wanted)]

    def within(self, attribute: str, low: float, high: float) -> Iterator[ItemArray]:
        """Yields the items, live or not, that have a number in [low, high]."""
        for numbers, items in self.columns.get(attribute, ()):
            yield items[(numbers >= low) & (numbers <= high)]

    def updated(
        self, start: int, added: Sequence[Attributes], removed: Iterable[Attributes]
    ) -> "AttributeIndex":
        """The next version.

        Args:
            start: the position of the first added item; the others follow it.
            added: the attributes of the added items.
            removed: the attributes of those that are no longer live.
        """
        live = Counter(self.live)
        texts: _Texts = defaultdict(lambda: defaultdict(list))
        numbers: _Numbers = defaultdict(lambda: ([], []))
        for position, attributes in enumerate(added, start):
            for name, values in attributes.items():
                live[name] += 1
                for value in values:
                    if isinstance(value, str):
                        texts[name][value].append(position)
                    else:
                        column = numbers[name]
                        column[0].append(value)
                        column[1].append(position)
        for attributes in removed:
            live.subtract(attributes.keys())
        return AttributeIndex(+live, self._postings(texts), self._columns(numbers))

    def _postings(self, added: "_Texts") -> PersistentMap[tuple[str, str], tuple[ItemArray, ...]]:
        return self.postings.updated(
            {
                (name, text): append(
                    self.postings.get((name, text)) or (), np.array(items, np.int32)
                )
                for name, by_text in added.items()
                for text, items in by_text.items()
            }
        )

    def _columns(self, added: "_Numbers") -> Mapping[str, Column]:
        columns = dict(self.columns)
        for name, (numbers, items) in added.items():
            before = columns.get(name, Column())
            columns[name] = Column(
                append(before.numbers, np.array(numbers, np.float64)),
                append(before.items, np.array(items, np.int32)),
            )
        return columns


_Texts = defaultdict[str, defaultdict[str, list[int]]]
"""attribute → text → the items that have it."""
_Numbers = defaultdict[str, tuple[list[float], list[int]]]
"""attribute → numbers, and the item of each."""
