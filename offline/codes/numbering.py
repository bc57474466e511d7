"""Codes that are plain numbers, written in mixed radix: random and sequential indexing.

Sequential indexing follows OpenP5: items are numbered in the order in which they first appear
when users are read one after the other, so that neighbors in time share prefixes. Only training
interactions are read. Numbering along whole sequences would put a user's test item right after
the last training item, which is the answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from offline.codes.code import Codes, CodesConfig, branching

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from offline.dataset import Dataset

__all__ = ["random_codes", "sequential_codes"]


def random_codes(dataset: Dataset, config: CodesConfig) -> Codes:
    """Number the items by a seeded permutation."""
    numbers = np.random.default_rng(config.seed).permutation(len(dataset.items))
    base = branching(len(dataset.items), config)
    return Codes("random", _digits(numbers, base, config.levels), (base,) * config.levels)


def sequential_codes(dataset: Dataset, config: CodesConfig) -> Codes:
    """Number the items by first appearance in training, the others after, by item index."""
    walked = np.concatenate([*dataset.train(), np.arange(len(dataset.items), dtype=np.int32)])
    items, first = np.unique(walked, return_index=True)
    numbers = np.empty(len(items), dtype=np.int64)
    numbers[items[np.argsort(first)]] = np.arange(len(items))
    base = branching(len(dataset.items), config)
    return Codes("sequential", _digits(numbers, base, config.levels), (base,) * config.levels)


def _digits(numbers: NDArray[np.int64], base: int, levels: int) -> NDArray[np.int32]:
    """`[n, levels]` digits, the most significant first."""
    powers = base ** np.arange(levels - 1, -1, -1, dtype=np.int64)
    return (numbers[:, None] // powers % base).astype(np.int32)
