"""Behavior indexing: items that people use alike share prefixes.

Balanced residual k-means over the item vectors of the trained query encoder. These start from
the items' texts and are moved by what people do, so a code says something of both. Groups are of
nearly equal size on every level, because a generator learns a value that few items have from few
examples, and one that most items have tells it little.

The vectors are trained on training interactions. Validation chose how long, nothing else; the
test set has no part in them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from offline.codes.code import Codes, CodesConfig, branching
from offline.codes.residual import residual_levels

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["behavior_codes"]

SLACK = 1.35  # codes per item: two levels of 128 for 12,101 items, with room for new ones
BALANCE = 1.05  # the largest group of a prefix, in equal shares
ROUNDS = 10  # of moving entries to where their bounded groups are


def behavior_codes(vectors: NDArray[np.floating], config: CodesConfig) -> Codes:
    """Quantize the vectors into groups of nearly equal size, level by level.

    Args:
        vectors: `[items, dimensions]`, of the behavior space.
        config: Levels, branching and seed.

    Raises:
        ValueError: A vector is not finite.
    """
    base = branching(len(vectors), config, SLACK)

    def largest(items: int) -> int:
        return math.ceil(BALANCE * items / base)

    levels = residual_levels(vectors, base, config, largest, ROUNDS)
    return Codes("behavior", levels, (base,) * config.levels)
