"""The soft rules: caps per attribute value, and diversity by maximal marginal relevance.

J. Carbonell and J. Goldstein, "The Use of MMR, Diversity-Based Reranking for Reordering Documents
and Producing Summaries", SIGIR 1998.

The gateway has no vectors, and asking for some would cost a call. Two items are as alike as the
share of attribute values that they have in common (Jaccard's index), of all attributes: what people
see of a list, and would call monotonous. Relevance falls evenly with the rank, from 1 for the best
item to 0 at a few times the length of the list, and on: scores of different strategies are not on
one scale, and how deep a pool happens to be should not matter to what is taken from its top.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from core.attributes import Attributes
from gateway.domain import Cap

Marks = NDArray[np.float32]
"""[items, values] 1 where an item has a value."""

NO_ATTRIBUTES: Final[Attributes] = {}


def choose(
    pool: Sequence[Attributes],
    count: int,
    *,
    caps: Sequence[Cap] = (),
    diversity: float = 0.0,
    span: int = 1,
    beside: Sequence[Attributes] = (),
) -> list[int]:
    """Chooses items one after another, each beside those that are in the list already.

    The next is, each time, the one with the largest `(1 - diversity) * relevance - diversity *
    likeness`, where likeness is its largest to an item of the list, among those that no cap
    forbids; of equal ones the first. Once the caps forbid all that are left, they are let go.

    Args:
        pool: the attributes of items, best first.
        count: how many to choose.
        caps: most items of the list with the same value of an attribute.
        diversity: from 0, relevance alone, to 1, unlikeness alone.
        span: the rank, from 0, at which relevance is down to 0.
        beside: the attributes of items that the list has anyway.

    Returns:
        The places in the pool of the chosen items, in the order of their choice: `count` of them,
        or all.
    """
    every = [*pool, *beside]
    limits, room = _capped(every, caps)
    room -= limits[len(pool) :].sum(axis=0)
    limits = limits[: len(pool)]
    alike = _Likeness(every, len(pool)) if diversity else None
    worth = (1.0 - diversity) * (1.0 - np.arange(len(pool)) / span)
    left = np.ones(len(pool), np.bool_)
    chosen: list[int] = []
    while len(chosen) < min(count, len(pool)):
        free = left & ~(limits[:, room <= 0].any(axis=1))
        eligible = free if free.any() else left
        value = worth if alike is None else worth - diversity * alike.most
        best = int(np.argmax(np.where(eligible, value, -np.inf)))
        chosen.append(best)
        left[best] = False
        room -= limits[best]
        if alike is not None:
            alike.add(best)
    return chosen


def full(caps: Sequence[Cap], listed: Sequence[Attributes]) -> list[tuple[str, str | float]]:
    """The attribute values that a list has as many items of as its caps allow, or more."""
    limit = {cap.attribute: cap.max_items for cap in caps}
    tally = Counter(
        (name, value)
        for attributes in listed
        for name in limit
        for value in set(attributes.get(name, ()))
    )
    return sorted((key for key, number in tally.items() if number >= limit[key[0]]), key=str)


class _Likeness:
    """How much each item of a pool is like the items of a list."""

    def __init__(self, every: Sequence[Attributes], pool: int) -> None:
        self._marks, _ = _marks(every)
        self._size = self._marks.sum(axis=1)
        self._pool = pool
        self.most = np.zeros(pool)
        for place in range(pool, len(every)):
            self.add(place)

    def add(self, place: int) -> None:
        """Puts an item into the list."""
        common = self._marks[: self._pool] @ self._marks[place]
        either = self._size[: self._pool] + self._size[place] - common
        np.maximum(self.most, common / np.maximum(either, 1.0), out=self.most)


def _capped(every: Sequence[Attributes], caps: Sequence[Cap]) -> tuple[Marks, Marks]:
    """Marks over the values of capped attributes, and how many items each value may have."""
    limit = {cap.attribute: cap.max_items for cap in caps}
    marks, values = _marks([{name: each.get(name, ()) for name in limit} for each in every])
    return marks, np.array([limit[name] for name, _ in values], np.float32)


def _marks(every: Sequence[Attributes]) -> tuple[Marks, Mapping[tuple[str, str | float], int]]:
    values: dict[tuple[str, str | float], int] = {}
    rows: list[int] = []
    columns: list[int] = []
    for row, attributes in enumerate(every):
        for name, own in attributes.items():
            for value in own:
                rows.append(row)
                columns.append(values.setdefault((name, value), len(values)))
    marks = np.zeros((len(every), len(values)), np.float32)
    marks[rows, columns] = 1.0
    return marks, values
