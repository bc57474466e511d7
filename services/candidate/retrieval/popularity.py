"""Popularity: what to recommend to somebody of whom nothing is known."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.catalog import ItemArray, Mask
from services.candidate.index.flat import Neighbors


@dataclass(frozen=True)
class Popularity:
    """How often each item was interacted with in the training data; immutable.

    Attributes:
        counts: int64 [items].
        order: int32 [items], the items by count, most first; equal ones by position.
    """

    counts: NDArray[np.int64]
    order: ItemArray

    @classmethod
    def of(cls, counts: NDArray[np.int64]) -> "Popularity":
        """The popularity of items that were counted, int64 [items]."""
        return cls(counts, np.argsort(-counts, kind="stable").astype(np.int32))

    def extended(self, counts: NDArray[np.int64]) -> "Popularity":
        """Appends items."""
        start, joined = len(self.counts), np.concatenate([self.counts, counts])
        added = Popularity.of(counts).order
        places = np.searchsorted(-self.counts[self.order], -counts[added], side="right")
        return Popularity(joined, np.insert(self.order, places, added + np.int32(start)))

    def best(self, count: int, allowed: Mask | None) -> Neighbors:
        """The most popular allowed items, and their `log_probability`."""
        order = self.order if allowed is None else self.order[allowed[self.order]]
        return Neighbors(order[:count], self.log_probability(order[:count]))

    def log_probability(self, items: ItemArray) -> NDArray[np.float64]:
        """The logarithm of each item's share of all interactions. Shape of `items`.

        Everyone has one more than was counted, so that an item without any has a logarithm.
        """
        logarithms: NDArray[np.float64] = np.log(
            (self.counts[items] + 1.0) / (self.counts.sum() + len(self.counts))
        )
        return logarithms
