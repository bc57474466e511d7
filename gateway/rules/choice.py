"""The soft rules: caps per attribute value, and diversity by maximal marginal relevance.

The gateway has no vectors, and asking for some would cost a call. Two items are as alike as the
share of attribute values that they have in common (Jaccard's index), of all attributes: what people
see of a list, and would call monotonous. Relevance falls evenly with the rank, from 1 for the best
item to 0 at a few times the length of the list, and on: scores of different strategies are not on
one scale, and how deep a pool happens to be should not matter to what is taken from its top.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from core.attributes import Attributes
from core.catalog import Mask
from core.mmr import most_marginal
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

    The next is, each time, the one of the largest marginal relevance (`core.mmr`) among those that
    no cap forbids. Once the caps forbid all that are left, they are let go.

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
    likeness = _Likeness(every, len(pool)) if diversity else None
    chosen = most_marginal(
        1.0 - np.arange(len(pool)) / span,
        count,
        diversity,
        likeness.of if likeness else lambda _: np.zeros(len(pool)),
        beside=likeness.to_any(range(len(pool), len(every))) if likeness and beside else None,
        eligibility=_Caps(every, len(pool), caps) if caps else None,
    )
    return [int(place) for place in chosen]


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
    """How much each item of a pool is like another item."""

    def __init__(self, every: Sequence[Attributes], pool: int) -> None:
        self._marks, _ = _marks(every)
        self._size = self._marks.sum(axis=1)
        self._pool = pool

    def of(self, place: int) -> Marks:
        """The likeness of each item of the pool to one. Shape [pool]."""
        common = self._marks[: self._pool] @ self._marks[place]
        either = self._size[: self._pool] + self._size[place] - common
        likeness: Marks = common / np.maximum(either, 1.0)
        return likeness

    def to_any(self, places: Iterable[int]) -> NDArray[np.float64]:
        """The largest likeness of each item of the pool to one of several. Shape [pool]."""
        most: NDArray[np.float64] = np.max([self.of(place) for place in places], axis=0)
        return most


class _Caps:
    """The caps as `core.mmr.Eligibility`."""

    def __init__(self, every: Sequence[Attributes], pool: int, caps: Sequence[Cap]) -> None:
        marks, room = _capped(every, caps)
        self._marks = marks[:pool]
        self._room = room - marks[pool:].sum(axis=0)

    def among(self, left: Mask) -> Mask:
        """What no cap forbids; once they forbid all that is left, they are let go."""
        free: Mask = left & ~(self._marks[:, self._room <= 0].any(axis=1))
        return free if free.any() else left

    def take(self, place: int) -> None:
        """Leaves less room for the values of an item."""
        self._room -= self._marks[place]


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
