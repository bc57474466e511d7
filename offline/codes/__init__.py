"""Indexings: rules that give every item its code.

- *random*: a permutation; what codes are worth that say nothing.
- *sequential*: numbers in order of first appearance in training (OpenP5).
- *collaborative*: spectral clusters of training co-occurrence (P5's CID).
- *semantic*: residual k-means over text embeddings (after TIGER).
- *behavior*: balanced residual k-means over the query encoder's item vectors.

All are deterministic whatever the hash seed, and read training interactions only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from offline.codes.behavior import behavior_codes
from offline.codes.code import CodeKind, Codes, CodesConfig, code_text
from offline.codes.collaborative import collaborative_codes
from offline.codes.numbering import random_codes, sequential_codes
from offline.codes.semantic import semantic_codes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from offline.dataset import Dataset

__all__ = [
    "CodeKind",
    "Codes",
    "CodesConfig",
    "assign",
    "code_text",
]


def assign(
    kind: CodeKind,
    dataset: Dataset,
    vectors: NDArray[np.floating] | None = None,
    config: CodesConfig | None = None,
) -> Codes:
    """Give every item of the dataset a code.

    Args:
        kind: The indexing.
        dataset: The catalog, and the training interactions that some indexings read.
        vectors: `[items, dimensions]`: of the items' texts for semantic codes, of the query encoder
            for behavior codes; ignored by the others.
        config: How; the defaults otherwise.

    Raises:
        ValueError: An unknown kind, no or unfit vectors, or too few codes for the catalog.
    """
    config = config or CodesConfig()
    with threadpool_limits(1):  # one thread adds up in one order
        if kind == "random":
            return random_codes(dataset, config)
        if kind == "sequential":
            return sequential_codes(dataset, config)
        if kind == "collaborative":
            return collaborative_codes(dataset, config)
        if kind not in ("semantic", "behavior"):
            raise ValueError(f"there is no indexing {kind!r}")
        if vectors is None or len(vectors) != len(dataset.items):
            raise ValueError(f"{kind} codes need one vector per item")
        quantize = semantic_codes if kind == "semantic" else behavior_codes
        return quantize(vectors, config)
