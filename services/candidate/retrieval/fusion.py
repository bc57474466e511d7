"""A shortlist from several sources: the best items by a weighted sum of their scores.

Each source can tell its own best items, but not those of the sum. So each is read from its top, as
deep as it takes until nothing that is further down in all of them could still be among the best:
the threshold algorithm of R. Fagin, A. Lotem and M. Naor, "Optimal Aggregation Algorithms for
Middleware", PODS 2001.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from core.catalog import ItemArray, Mask
from core.popularity import ItemPopularity
from services.candidate.index.flat import Neighbors, Vector, best_of
from services.candidate.index.space import Space
from services.candidate.retrieval.transitions import Transitions

DEEPEST: Final = 16_384
"""Places of a source that are read at most; below, the rest of it is worth less than the time."""
SMALL: Final = 4_096
"""Items that are all scored, which takes less time than to find out which need not be."""
_GROWTH: Final = 4
_ROUNDING: Final = 1e-5
"""An index and numpy do not add up in the same order."""


class Source(Protocol):
    """Something that scores every item."""

    def top(self, depth: int, allowed: Mask | None) -> tuple[ItemArray, float]:
        """Its best allowed items, and what the score of no other exceeds: -inf without another.

        Args:
            depth: how many items, at least where there are so many.
            allowed: bool [items], or None for all.
        """

    def scores(self, items: ItemArray) -> NDArray[np.float64]:
        """The scores of some items. Shape of `items`."""


@dataclass(frozen=True)
class VectorSource:
    """The inner product with a query, in one of the spaces."""

    space: Space
    query: Vector

    def top(self, depth: int, allowed: Mask | None) -> tuple[ItemArray, float]:
        """See `Source`."""
        return _cut(self.space.index.search(self.query, depth, allowed), depth)

    def scores(self, items: ItemArray) -> NDArray[np.float64]:
        """See `Source`."""
        return self.space.vectors.inner_products(self.query, items).astype(np.float64)


@dataclass(frozen=True)
class PopularitySource:
    """How popular an item is, as a log-probability."""

    popularity: ItemPopularity

    def top(self, depth: int, allowed: Mask | None) -> tuple[ItemArray, float]:
        """See `Source`."""
        return _cut(Neighbors(*self.popularity.best(depth, allowed)), depth)

    def scores(self, items: ItemArray) -> NDArray[np.float64]:
        """See `Source`."""
        return self.popularity.log_probability(items)


class TransitionSource:
    """How probable it is to go on to an item after a history, as a smoothed log-probability."""

    def __init__(self, transitions: Transitions, history: ItemArray) -> None:
        self._transitions = transitions
        self._reached, self._probability = transitions.after(history)

    def top(self, depth: int, allowed: Mask | None) -> tuple[ItemArray, float]:  # noqa: ARG002
        """See `Source`. Whatever the history does not lead to has the same probability."""
        reached = self._reached
        return reached if allowed is None else reached[allowed[reached]], self._transitions.floor

    def scores(self, items: ItemArray) -> NDArray[np.float64]:
        """See `Source`."""
        return self._transitions.log_probability(items, self._reached, self._probability)


def fuse(
    sources: Sequence[tuple[float, Source]], count: int, allowed: Mask | None, items: int
) -> Neighbors:
    """The items with the largest weighted sums, and the sums.

    With exact sources the list is that of all allowed items, unless it took more than `DEEPEST`
    places of a source to be sure.

    Args:
        sources: each with its weight, at least 0; the first has as many items as are allowed.
        count: how many items; there are fewer only where fewer are allowed.
        allowed: bool [items], or None for all.
        items: how many there are.
    """
    if items <= SMALL:
        every = np.arange(items) if allowed is None else np.flatnonzero(allowed)
        return _best(sources, count, every.astype(np.int32))
    depth = count
    while True:
        tops = [source.top(depth, allowed) for _, source in sources]
        best = _best(sources, count, np.unique(np.concatenate([found for found, _ in tops])))
        limits = [most for _, most in tops]
        if depth >= DEEPEST or -np.inf in limits:
            return best
        others = sum(weight * most for (weight, _), most in zip(sources, limits, strict=True))
        if best.scores[-1] >= others - _ROUNDING:
            return best
        depth = min(depth * _GROWTH, DEEPEST)


def _best(sources: Sequence[tuple[float, Source]], count: int, pool: ItemArray) -> Neighbors:
    """The best of some items; `pool` is ascending."""
    sums = np.zeros(len(pool))
    for weight, source in sources:
        sums += weight * source.scores(pool)
    return best_of(pool, sums, count)


def _cut(top: Neighbors, depth: int) -> tuple[ItemArray, float]:
    return top.items, -np.inf if len(top.items) < depth else float(top.scores[-1])
