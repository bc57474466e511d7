"""How two lists of the same request differ.

Overlap says how many items two lists share at the top, whatever their order. Rank-biased overlap
says how alike they are to somebody who reads from the top and goes on to each next item with
probability p: so the top weighs most, and what would follow the lists' ends is taken to agree as
far as the lists do there. (Webber, Moffat and Zobel, A Similarity Measure for
Indefinite Rankings, ACM TOIS 2010; RBO_ext for lists of unequal length, equation 32.)
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

DEPTHS: Final = (1, 5, 10)
"""Of the tops whose overlap is told."""
PERSISTENCE: Final = 0.9
"""The probability p; with it, the first ten items are 86% of the weight."""


@dataclass(frozen=True)
class Differences:
    """What two lists have in common."""

    overlaps: Mapping[int, float]
    """From 0 to 1, by depth: of those depths that at least one of the lists reaches."""
    rbo: float
    """From 0, nothing in common, to 1, the same lists."""


def differences(one: Sequence[str], other: Sequence[str]) -> Differences:
    """Compares two lists of items, best first, each without an item twice."""
    length = max(len(one), len(other))
    return Differences(
        {depth: overlap(one, other, depth) for depth in DEPTHS if depth <= length},
        rank_biased_overlap(one, other),
    )


def overlap(one: Sequence[str], other: Sequence[str], depth: int) -> float:
    """The share of the first `depth` places that hold an item which is in both tops."""
    return len(set(one[:depth]) & set(other[:depth])) / depth


def rank_biased_overlap(
    one: Sequence[str], other: Sequence[str], persistence: float = PERSISTENCE
) -> float:
    """How alike two rankings are, from 0 to 1; exactly 1 for equal ones.

    Args:
        one: items, best first, none twice.
        other: the same, of the same or another length.
        persistence: the probability p, between 0 and 1, of going on to the next item.
    """
    short, long = sorted((one, other), key=len)
    if not short:
        return 0.0 if long else 1.0
    agreements = _agreements(short, long)
    apart = sum((1.0 - each) * persistence**depth for depth, each in enumerate(agreements))
    beyond = (1.0 - agreements[-1]) * persistence ** len(long)
    return max(1.0 - (1.0 - persistence) * apart - beyond, 0.0)


def _agreements(short: Sequence[str], long: Sequence[str]) -> list[float]:
    """The share of items that the tops have in common, by depth from 1 to the longer list's end.

    What the shorter list would hold after its end is taken to agree as far as what it does hold.
    """
    places = {item: place for place, item in enumerate(long, start=1)}
    # An item is in both tops from the deeper one of its two places on.
    met = Counter(
        max(place, places[item]) for place, item in enumerate(short, start=1) if item in places
    )
    depths = range(1, len(long) + 1)
    common = list(accumulate(met[depth] for depth in depths))
    expected = common[len(short) - 1] / len(short)
    return [
        (both + expected * max(depth - len(short), 0)) / depth
        for depth, both in zip(depths, common, strict=True)
    ]
