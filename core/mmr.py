"""Diversity: maximal marginal relevance, which weighs how well an item fits against its likes.

J. Carbonell and J. Goldstein, "The Use of MMR, Diversity-Based Reranking for Reordering Documents
and Producing Summaries", SIGIR 1998.

What likeness is, the caller says: services compare vectors, the gateway attributes.
"""

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from core.catalog import Mask

Scores = NDArray[np.float64]


class Eligibility(Protocol):
    """Which items may be chosen next, where that depends on those that are chosen already."""

    def among(self, left: Mask) -> Mask:
        """Those of the items that are left that may be chosen, at least one. Shape [items]."""

    def take(self, place: int) -> None:
        """Notes a choice."""


def most_marginal(
    relevance: Scores,
    count: int,
    diversity: float,
    likeness: Callable[[int], NDArray[np.floating]],
    *,
    beside: Scores | None = None,
    eligibility: Eligibility | None = None,
) -> NDArray[np.int64]:
    """Chooses items one after another, each beside those that are chosen already.

    The next is, each time, the one with the largest `(1 - diversity) * relevance - diversity *
    likeness`, where likeness is its largest to an item of the list; of equal ones the first. With
    nothing in the list, it is the most relevant.

    Args:
        relevance: float64 [items].
        count: how many to choose.
        diversity: from 0, relevance alone, to 1, unlikeness alone.
        likeness: how much every item is like the one at a place, float [items]; not called where
            `diversity` is 0.
        beside: each item's largest likeness to what the list has anyway, float64 [items]; None for
            an empty list.
        eligibility: which items may be chosen; None for all.

    Returns:
        int64 [at most `count`], the places of the chosen items, in the order of their choice.
    """
    chosen = np.empty(min(count, len(relevance)), np.int64)
    # What an item is worth without the list, and what its likeness to that takes from it.
    own = (1.0 - diversity) * relevance
    less = np.zeros(len(own)) if beside is None else diversity * beside
    left = np.ones(len(own), np.bool_)
    for turn in range(len(chosen)):
        first = not turn and beside is None
        worth = relevance if first else own - less
        if eligibility is not None:
            worth = np.where(eligibility.among(left), worth, -np.inf)
        chosen[turn] = best = int(np.argmax(worth))
        left[best], own[best] = False, -np.inf
        if eligibility is not None:
            eligibility.take(best)
        if diversity:
            more: Scores = diversity * likeness(best).astype(np.float64)
            less = more if first else np.maximum(less, more)
    return chosen
