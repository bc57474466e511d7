"""From searches of the trie to lists: one list a query, or several whose items differ.

The lists of a query come out of one search, see `generate.onnx`. Where they must not share items,
each is what its search found without what the lists before it show; and where these took so much
that too little is left, it is searched again with their items denied. So a list is full whenever
enough items are allowed, and the first search is nearly always the only one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from core.catalog import ItemArray, Mask
from services.generator.decoding.arrays import Leaves
from services.generator.decoding.trie import Trie

_DEAD: Final = -1e29
"""Above the score of what is not allowed, below every sum of log-probabilities."""
MOST_BEAMS: Final = 1_024
"""Of all lists of a query that are searched in one pass: memory grows with their square. More lists
are searched in parts, which changes none of them."""


@dataclass(frozen=True)
class Generation:
    """A wish for the best items of the catalog."""

    count: int
    allowed: Mask | None
    """[positions] what a filter lets through; None for everything."""
    denied: ItemArray
    """Items to leave out."""


@dataclass(frozen=True)
class Ranked:
    """Items, best first, with the log-probabilities of their codes."""

    items: ItemArray
    scores: NDArray[np.float32]
    missed: float | None = None
    """What no item that was missed scores more than; None where that is not known."""

    @property
    def proved(self) -> int:
        """For how many items, from the top, it is known that nothing better was missed."""
        return 0 if self.missed is None else int(np.count_nonzero(self.scores >= self.missed))

    @property
    def exact(self) -> bool:
        """Whether that is known of all."""
        return self.missed is not None and self.proved == len(self.items)


@dataclass(frozen=True)
class Search:
    """The wishes of one query, ready to be searched."""

    wishes: tuple[Generation, ...]
    alive: tuple[Mask, ...]
    """Of each wish: [nodes] which of the trie have an allowed leaf below them."""
    beams: int
    """Of each list; at least as many as any wish wants items."""
    apart: bool = False
    """Whether an item may be in one list only: the first that it is found for."""

    @classmethod
    def of(
        cls, trie: Trie, wishes: Sequence[Generation], beams: int, *, apart: bool = False
    ) -> "Search":
        """Marks what wishes allow; takes milliseconds where there are filters."""
        alive = tuple(trie.alive(wish.allowed, wish.denied) for wish in wishes)
        return cls(tuple(wishes), alive, beams, apart)

    @property
    def results(self) -> int:
        """How many leaves a list is to find, where the search comes to so many: lists before it
        may take as many as they show."""
        shown = sum(wish.count for wish in self.wishes) if self.apart else 0
        return max(self.beams, shown)


Generate = Callable[[Sequence[Sequence[Mask]], int, int], Leaves]
"""Searches, given the masks [nodes] of the lists of each query, the number of beams of each list,
and how many leaves it returns at most."""


def search(generate: Generate, trie: Trie, searches: Sequence[Search]) -> list[tuple[Ranked, ...]]:
    """Searches for several queries at once, of equal numbers of lists, beams and results.

    Args:
        generate: the model, which has read the prompts of the queries. Where a query has several
            lists it is the only one.
        trie: of the catalog.
        searches: one a query.

    Returns:
        Of each query, a list for each of its wishes.
    """
    first = searches[0]
    at_once = max(1, MOST_BEAMS // first.beams)
    found: list[list[Ranked]] = [[] for _ in searches]
    for start in range(0, len(first.alive), at_once):
        masks = [each.alive[start : start + at_once] for each in searches]
        leaves = generate(masks, first.beams, first.results)
        for query, lists in enumerate(found):
            lists += (_ranked(trie, leaves, query, i) for i in range(len(masks[query])))
    if first.apart:
        return [_apart(generate, trie, first, found[0])]
    return [
        tuple(_best(ranked, wish.count) for ranked, wish in zip(lists, each.wishes, strict=True))
        for lists, each in zip(found, searches, strict=True)
    ]


def _apart(
    generate: Generate, trie: Trie, asked: Search, found: Sequence[Ranked]
) -> tuple[Ranked, ...]:
    """Leaves out of each list what those before it show, and fills it."""
    shown = np.empty(0, np.int32)
    lists = []
    for wish, ranked in zip(asked.wishes, found, strict=True):
        left = _without(ranked, shown)
        # A search that finds fewer than it has beams has found all that is allowed.
        if len(left.items) < wish.count and len(ranked.items) >= asked.beams:
            alive = trie.alive(wish.allowed, np.concatenate([wish.denied, shown]))
            left = _ranked(trie, generate([[alive]], asked.beams, asked.beams), 0, 0)
        lists.append(_best(left, wish.count))
        shown = np.concatenate([shown, lists[-1].items])
    return tuple(lists)


def _ranked(trie: Trie, leaves: Leaves, query: int, of: int) -> Ranked:
    score = leaves.score[query, of]
    real = score > _DEAD
    items = trie.leaf_item[leaves.node[query, of][real] - trie.leaf_base]
    missed = None if leaves.missed is None else float(leaves.missed[query, of])
    return Ranked(items, score[real], missed)


def _without(ranked: Ranked, items: ItemArray) -> Ranked:
    left = ~np.isin(ranked.items, items)
    return replace(ranked, items=ranked.items[left], scores=ranked.scores[left])


def _best(ranked: Ranked, count: int) -> Ranked:
    return replace(ranked, items=ranked.items[:count], scores=ranked.scores[:count])
