"""Semantic indexing: items that read alike share prefixes.

Residual k-means over the embeddings of the items' texts, as in TIGER (Rajput et al., 2023) with
k-means in place of an RQ-VAE: the first level is the nearest of its entries, the next one the
nearest to what is left over. No prefix takes more items than the levels below can name, and on
the last level every item has its own value; so codes are unique and levels bounded, without a
level that only counts collisions.

No interaction is read, so nothing of the test set can leak.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from offline.codes.clustering import bounded_assignment, kmeans, squared_distances
from offline.codes.code import Codes, CodesConfig, branching

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["semantic_codes"]

SLACK = 8.0  # codes per item: the fewer collisions there are, the more a code says


def semantic_codes(embeddings: NDArray[np.floating], config: CodesConfig) -> Codes:
    """Quantize the embeddings level by level.

    Args:
        embeddings: `[items, dimensions]`.
        config: Levels, branching and seed.

    Raises:
        ValueError: An embedding is not finite.
    """
    if not np.isfinite(embeddings).all():
        raise ValueError("an embedding is not finite")
    base = branching(len(embeddings), config, SLACK)
    residuals = embeddings.astype(np.float64)
    levels = np.zeros((len(embeddings), config.levels), dtype=np.int32)
    for level in range(config.levels):
        centroids = kmeans(residuals, base, config.seed)
        distances = squared_distances(residuals, centroids)
        capacity = base ** (config.levels - 1 - level)
        for members in _same_prefix(levels[:, :level]):
            levels[members, level] = bounded_assignment(distances[members], capacity)
        residuals -= centroids[levels[:, level]]
    return Codes("semantic", levels, (base,) * config.levels)


def _same_prefix(prefixes: NDArray[np.int32]) -> list[NDArray[np.int64]]:
    """Item indices, ascending, grouped by equal rows of `prefixes`."""
    _, group = np.unique(prefixes, axis=0, return_inverse=True)
    order = np.argsort(group.ravel(), kind="stable")
    starts = np.flatnonzero(np.diff(group.ravel()[order])) + 1
    return np.split(order, starts)
