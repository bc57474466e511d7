"""The catalog: every item that can be recommended, by position.

Inside Tandem an item is its position (an int32); identifiers are translated once, at the edge.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.errors import BundleError

ItemArray = NDArray[np.int32]
Mask = NDArray[np.bool_]
AttributeValues = tuple[str | float, ...]


@dataclass(frozen=True)
class CatalogItem:
    """An item as it is shown, embedded and filtered."""

    item_id: str
    title: str
    text: str
    attributes: Mapping[str, AttributeValues]
    popularity: int
    """Interactions in the training data."""


class Catalog:
    """An immutable sequence of items."""

    def __init__(self, items: Sequence[CatalogItem]) -> None:
        self.items = tuple(items)
        self._position = {item.item_id: i for i, item in enumerate(self.items)}
        if len(self._position) != len(self.items):
            raise BundleError("catalog.jsonl names an item twice")

    def __len__(self) -> int:
        return len(self.items)

    def ids(self, positions: Iterable[int]) -> list[str]:
        """Translates positions to identifiers."""
        return [self.items[i].item_id for i in positions]

    def lookup(self, item_ids: Iterable[str]) -> tuple[ItemArray, list[str]]:
        """Translates identifiers to positions, in order, duplicates kept.

        Returns:
            The positions of the known items, and the unknown identifiers, each once.
        """
        known: list[int] = []
        missing: dict[str, None] = {}
        for item_id in item_ids:
            position = self._position.get(item_id)
            if position is None:
                missing[item_id] = None
            else:
                known.append(position)
        return np.array(known, dtype=np.int32), list(missing)

    @cached_property
    def popularity(self) -> NDArray[np.int64]:
        """Interactions of each item in the training data."""
        return np.array([item.popularity for item in self.items], dtype=np.int64)

    @cached_property
    def attribute_names(self) -> frozenset[str]:
        """Every attribute that some item has."""
        return frozenset(name for item in self.items for name in item.attributes)

    @cached_property
    def _postings(self) -> Mapping[str, Mapping[str | float, ItemArray]]:
        """attribute → value → the items that have it, ascending."""
        lists: dict[str, dict[str | float, list[int]]] = {}
        for i, item in enumerate(self.items):
            for name, values in item.attributes.items():
                for value in set(values):
                    lists.setdefault(name, {}).setdefault(value, []).append(i)
        return {
            name: {value: np.array(items, dtype=np.int32) for value, items in by_value.items()}
            for name, by_value in lists.items()
        }

    def having(self, attribute: str, values: Iterable[str | float]) -> Mask:
        """Marks the items that have one of the values. Shape [items]."""
        mask = np.zeros(len(self), dtype=np.bool_)
        postings = self._postings.get(attribute, {})
        for value in values:
            if value in postings:
                mask[postings[value]] = True
        return mask

    def within(self, attribute: str, low: float, high: float) -> Mask:
        """Marks the items that have a number in [low, high]. Shape [items]."""
        postings = self._postings.get(attribute, {})
        return self.having(
            attribute, [v for v in postings if isinstance(v, float) and low <= v <= high]
        )

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
        """Writes what `read` reads."""
        with path.open("w", encoding="utf-8") as out:
            for item in self.items:
                row = {
                    "item_id": item.item_id,
                    "title": item.title,
                    "text": item.text,
                    "attributes": {name: list(values) for name, values in item.attributes.items()},
                    "popularity": item.popularity,
                }
                out.write(json.dumps(row, ensure_ascii=False) + "\n")
