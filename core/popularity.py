"""Popularity: what to recommend to somebody of whom nothing is known."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.catalog import ItemArray, Mask


@dataclass(frozen=True)
class ItemPopularity:
    """How often each item was interacted with in the training data; immutable.

    Attributes:
        counts: int64 [items].
        order: int32 [items], the items by count, most first; equal ones by position.
    """

    counts: NDArray[np.int64]
    order: ItemArray

    @classmethod
    def of(cls, counts: NDArray[np.int64]) -> "ItemPopularity":
        """The popularity of items that were counted, int64 [items]."""
        return cls(counts, np.argsort(-counts, kind="stable").astype(np.int32))

    def extended(self, counts: NDArray[np.int64]) -> "ItemPopularity":
        """Appends items."""
        start, joined = len(self.counts), np.concatenate([self.counts, counts])
        added = ItemPopularity.of(counts).order
        places = np.searchsorted(-self.counts[self.order], -counts[added], side="right")
        return ItemPopularity(joined, np.insert(self.order, places, added + np.int32(start)))

    def compacted(self, kept: ItemArray) -> "ItemPopularity":
        """Keeps some items, whose positions are int32 [kept], ascending; they move together."""
        moved = np.full(len(self.counts), -1, np.int32)
        moved[kept] = np.arange(len(kept), dtype=np.int32)
        order = moved[self.order]
        return ItemPopularity(self.counts[kept], order[order >= 0])

    def best(self, count: int, allowed: Mask | None) -> tuple[ItemArray, NDArray[np.float64]]:
        """The most popular allowed items, most first, and their `log_probability`.

        Args:
            count: how many items; there are fewer only where fewer are allowed.
            allowed: bool [items], or None for all.
        """
        order = self.order if allowed is None else self.order[allowed[self.order]]
        return order[:count], self.log_probability(order[:count])

    def log_probability(self, items: ItemArray) -> NDArray[np.float64]:
        """The logarithm of each item's share of all interactions. Shape of `items`.

        Everyone has one more than was counted, so that an item without any has a logarithm.
        """
        logarithms: NDArray[np.float64] = np.log(
            (self.counts[items] + 1.0) / (self.counts.sum() + len(self.counts))
        )
        return logarithms
