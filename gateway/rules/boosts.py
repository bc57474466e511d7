"""Boosts: what satisfies a condition stands higher or lower than its score says.

Scores of different strategies are not on one scale, so a boost counts in places: one of 1 moves an
item up by `span` places, one of -1 down by as many, one between in proportion. All items move at
once, from the places of their scores, so that no boost depends on the order of others.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from core.attributes import Attributes
from core.filters import satisfying
from gateway.domain import Boost


def boosts_of(items: Sequence[Attributes], boosts: Sequence[Boost]) -> NDArray[np.float64]:
    """What each item's boosts add up to, from -1 to 1. Shape [items]."""
    satisfied = satisfying([each.condition for each in boosts], items)
    total = np.array([each.boost for each in boosts], np.float64) @ satisfied
    return np.clip(total, -1.0, 1.0)


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
    moved = np.round(np.arange(len(pool)) - span * boosts_of(pool, boosts), 6)
    order: list[int] = np.argsort(moved, kind="stable").tolist()
    return order
