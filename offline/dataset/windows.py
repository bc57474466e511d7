"""Which items come shortly after which: what transitions and collaborative codes are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["windowed_counts"]


def windowed_counts(
    sequences: Sequence[NDArray[np.int32]], items: int, window: int, decay: float
) -> scipy.sparse.csr_array:
    """Count how often item `j` follows item `i` at most `window` places later.

    Args:
        sequences: Item indices, oldest first.
        items: The size of the catalog.
        window: The farthest place that counts.
        decay: A pair one place further apart weighs this much less; the next item weighs 1.

    Returns:
        `[items, items]`, float64, column indices ascending.
    """
    total = scipy.sparse.csr_array((items, items), dtype=np.float64)
    for gap in range(1, window + 1):
        long_enough = [sequence for sequence in sequences if len(sequence) > gap]
        if not long_enough:
            break
        before = np.concatenate([sequence[:-gap] for sequence in long_enough])
        after = np.concatenate([sequence[gap:] for sequence in long_enough])
        weights = np.full(len(before), decay ** (gap - 1))
        total = total + scipy.sparse.csr_array((weights, (before, after)), shape=(items, items))
    total.sort_indices()
    return total
