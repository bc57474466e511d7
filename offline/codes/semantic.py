"""Semantic indexing: items that read alike share prefixes.

Residual k-means over the embeddings of the items' texts, as in TIGER (Rajput et al., 2023) with
k-means in place of an RQ-VAE. No interaction is read, so nothing of the test set can leak.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from offline.codes.code import Codes, CodesConfig, branching
from offline.codes.residual import residual_levels

if TYPE_CHECKING:
    import numpy as np
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
    base = branching(len(embeddings), config, SLACK)
    levels = residual_levels(embeddings, base, config)
    return Codes("semantic", levels, (base,) * config.levels)
