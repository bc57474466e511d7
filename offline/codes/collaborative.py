"""Collaborative indexing: items that occur together share prefixes.

As in P5's CID, the graph of co-occurrences is split by spectral clustering (Ng, Jordan and Weiss,
2001), and each part again. Two things differ, and bound the code: the depth is fixed, and so is
the size of a part, which takes no more items than its codes can name. That is also the guard for
graphs that fall apart and for parts that would not shrink. Items that occur with none, such as
those outside the training interactions, are spread over the parts with the most room.

Within a part numbers go by popularity, so that a value means something alike under every prefix.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg
import scipy.sparse
import scipy.sparse.linalg

from offline.codes.clustering import bounded_assignment, kmeans, squared_distances
from offline.codes.code import Codes, CodesConfig, branching
from offline.dataset.windows import windowed_counts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from offline.dataset import Dataset

__all__ = ["collaborative_codes"]

DENSE_UP_TO = 2000  # items: beyond it the leading eigenvectors are found iteratively


def collaborative_codes(dataset: Dataset, config: CodesConfig) -> Codes:
    """Split the items recursively by the company they keep in training."""
    items = len(dataset.items)
    base = branching(items, config)
    forward = windowed_counts(dataset.train(), items, config.window, config.decay)
    splitter = _Splitter(
        graph=scipy.sparse.csr_array(forward + forward.T),
        popularity=dataset.popularity(),
        base=base,
        seed=config.seed,
    )
    levels = np.zeros((items, config.levels), dtype=np.int32)
    splitter.split(np.arange(items), levels)
    return Codes("collaborative", levels, (base,) * config.levels)


@dataclass(frozen=True)
class _Splitter:
    graph: scipy.sparse.csr_array
    popularity: NDArray[np.int64]
    base: int
    seed: int

    def split(self, members: NDArray[np.int64], levels: NDArray[np.int32]) -> None:
        """Number `members` (ascending) on the first of `levels`, their parts on the others.

        Args:
            members: Item indices.
            levels: `[items, remaining levels]`, written in place.
        """
        parts = min(self.base, len(members))
        capacity = self.base ** (levels.shape[1] - 1)
        labels = np.arange(parts) if parts == len(members) else self._parts(members, capacity)
        weight = np.bincount(labels, weights=self.popularity[members], minlength=parts)
        most_popular_first = np.argsort(-weight, kind="stable")
        for number, part in enumerate(most_popular_first):
            inside = members[labels == part]
            levels[inside, 0] = number
            if len(inside) > 1:
                self.split(inside, levels[:, 1:])

    def _parts(self, members: NDArray[np.int64], capacity: int) -> NDArray[np.int64]:
        """`[members]` labels of `base` parts of at most `capacity` items each."""
        affinity = self.graph[members][:, members]
        affinity.setdiag(0)
        degrees = affinity.sum(axis=1)
        linked = degrees > 0
        labels = np.full(len(members), -1, dtype=np.int64)
        if linked.any():
            points = _spectral_embedding(affinity[linked][:, linked], degrees[linked], self.base)
            centroids = kmeans(points, self.base, self.seed)
            labels[linked] = bounded_assignment(squared_distances(points, centroids), capacity)
        sizes = np.bincount(labels[linked], minlength=self.base)
        for member in np.flatnonzero(~linked):
            labels[member] = sizes.argmin()
            sizes[labels[member]] += 1
        return labels


def _spectral_embedding(
    affinity: scipy.sparse.csr_array, degrees: NDArray[np.float64], dimensions: int
) -> NDArray[np.float64]:
    """`[n, <= dimensions]` rows of unit length: leading eigenvectors of the scaled affinity."""
    size = len(degrees)
    dimensions = min(dimensions, size)
    scale = scipy.sparse.diags_array(1.0 / np.sqrt(degrees))
    scaled = scale @ affinity @ scale
    if size <= max(DENSE_UP_TO, 2 * dimensions):
        leading = (size - dimensions, size - 1)
        _, vectors = scipy.linalg.eigh(scaled.toarray(), subset_by_index=leading)
    else:
        start = np.sqrt(degrees)  # fixed, so that the iteration is the same on every run
        _, vectors = scipy.sparse.linalg.eigsh(scaled, k=dimensions, which="LA", v0=start)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, np.finfo(np.float64).tiny))
