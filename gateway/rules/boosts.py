"""Boosts: what satisfies a condition stands higher or lower than its score says.

Scores of different strategies are not on one scale, so a boost counts in places: one of 1 moves an
item up by `span` places, one of -1 down by as many, one between in proportion. All items move at
once, from the places of their scores, so that no boost depends on the order of others.
"""

from collections.abc import Sequence

from core.attributes import Attributes
from core.filters import satisfies
from gateway.domain import Boost


def boost_of(attributes: Attributes, boosts: Sequence[Boost]) -> float:
    """What an item's boosts add up to, from -1 to 1."""
    total = sum(each.boost for each in boosts if satisfies(each.condition, attributes))
    return max(-1.0, min(1.0, total))


def boosted(pool: Sequence[Attributes], boosts: Sequence[Boost], span: int) -> list[int]:
    """Orders items anew.

    Args:
        pool: the attributes of items, best first.
        boosts: of conditions.
        span: places that a boost of 1 is worth, at least 1.

    Returns:
        Every place in the pool, in the new order; items that are moved to one place keep theirs.
    """
    # Rounded, so that what is one place to whoever chose the boosts is one to floats.
    moved = [
        round(place - span * boost_of(attributes, boosts), 6)
        for place, attributes in enumerate(pool)
    ]
    return sorted(range(len(pool)), key=moved.__getitem__)
