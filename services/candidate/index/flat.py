"""Nearest neighbors by inner product, restricted inside the search to the items that are allowed.

`VectorIndex` is all that the engine needs to know of an index. Vectors are of unit norm in both
spaces, so that one index answers inner products of a query encoder and cosines alike.

    FlatIndex        compares every vector                      here
    HnswIndex        walks a graph                              hnsw.py
    IvfIndex         looks into the nearest cells               ivf.py
    MilvusIndex      asks a Milvus server                       milvus.py
    LiveIndex        one of these, and what was added since     live_index.py

All of them score exactly, give nothing that is not allowed, and give as many items as are asked
for wherever so many are allowed; an approximate kind may miss some of the best.
"""

from dataclasses import dataclass
from typing import Final, Protocol

import faiss
import numpy as np
from numpy.typing import NDArray

from core.catalog import ItemArray, Mask
from services.candidate.index.vectors import NO_ITEMS, Vector, Vectors, inner_products

__all__ = ["FlatIndex", "Neighbors", "Vector", "VectorIndex", "ranked"]


@dataclass(frozen=True)
class Neighbors:
    """Items and their inner products with the query, best first; equal ones by position."""

    items: ItemArray
    scores: NDArray[np.float64]

    def picked(self, places: NDArray[np.bool_] | NDArray[np.int64] | slice) -> "Neighbors":
        """Those at some places, in that order."""
        return Neighbors(self.items[places], self.scores[places])


NOTHING: Final = Neighbors(NO_ITEMS, np.empty(0, np.float64))


class VectorIndex(Protocol):
    """Finds the vectors that have the largest inner product with a query.

    An index never changes, and may be searched from several threads at once.
    """

    @property
    def vectors(self) -> Vectors:
        """What is indexed; an item's position is its identifier."""

    @property
    def dimension(self) -> int:
        """Numbers in a vector."""

    def __len__(self) -> int:
        """Vectors in the index."""

    def search(self, query: Vector, count: int, allowed: Mask | None = None) -> Neighbors:
        """Finds the `count` best allowed items, or all that are allowed where they are fewer.

        Args:
            query: float32 [dimension].
            count: how many items to find.
            allowed: bool [items], or None for all.
        """


class BaseIndex:
    """What the kinds have in common: vectors in one piece, and what every search begins with."""

    def __init__(self, vectors: Vector) -> None:
        self._all = Vectors(vectors)

    @property
    def vectors(self) -> Vectors:
        """What is indexed."""
        return self._all

    @property
    def dimension(self) -> int:
        """Numbers in a vector."""
        return self._all.dimension

    def __len__(self) -> int:
        return len(self._all)

    def search(self, query: Vector, count: int, allowed: Mask | None = None) -> Neighbors:
        """See `VectorIndex.search`."""
        available = len(self) if allowed is None else int(np.count_nonzero(allowed))
        count = min(count, available)
        if count <= 0:
            return NOTHING
        faiss.omp_set_num_threads(1)  # holds for the calling thread only: a pool is the threads
        query = np.ascontiguousarray(query, dtype=np.float32)
        return self._search(query, count, allowed, available)

    def _search(self, query: Vector, count: int, allowed: Mask | None, available: int) -> Neighbors:
        """Searches for 0 < count <= available items, which is how many are allowed."""
        raise NotImplementedError


class FlatIndex(BaseIndex):
    """Every vector is compared, where it lies: exact, and the reference for all other kinds."""

    def _search(self, query: Vector, count: int, allowed: Mask | None, available: int) -> Neighbors:
        return exact(self._all.base, query, count, allowed, available)


def exact(
    vectors: Vector, query: Vector, count: int, allowed: Mask | None, available: int
) -> Neighbors:
    """Compares a query with every vector that is allowed.

    Args:
        vectors: float32 [items, dimension], contiguous.
        query: float32 [dimension], contiguous.
        count: how many items to find, of those that are available.
        allowed: bool [items], or None for all.
        available: how many are allowed.
    """
    if allowed is not None and available < GATHERED * len(vectors):
        return rescored(vectors, query, count, np.flatnonzero(allowed))
    selector = None if allowed is None else Selector(allowed)
    items = np.empty(count, np.int64)
    scores = np.empty(count, np.float32)
    faiss.knn_inner_product(
        faiss.swig_ptr(query),
        faiss.swig_ptr(vectors),
        vectors.shape[1],
        1,
        len(vectors),
        count,
        faiss.swig_ptr(scores),
        faiss.swig_ptr(items),
        None if selector is None else selector.sel,
    )
    return ranked(items.astype(np.int32), scores.astype(np.float64))


GATHERED: Final = 0.2
"""Share of allowed vectors below which it is faster to visit them than to test all the others."""


class Selector:
    """A filter as FAISS takes it. It may be changed by the index that it is given to: one a call.

    Attributes:
        sel: the selector, which reads the bits beside it.
    """

    def __init__(self, allowed: Mask) -> None:
        self._bits = np.packbits(allowed, bitorder="little")
        self.sel = faiss.IDSelectorBitmap(len(self._bits), faiss.swig_ptr(self._bits))


def rescored(vectors: Vector, query: Vector, count: int, items: NDArray[np.int64]) -> Neighbors:
    """The `count` best of some items by their exact inner products.

    Args:
        vectors: float32 [all, dimension], contiguous.
        query: float32 [dimension], contiguous.
        count: how many to keep.
        items: int64 [items], rows of `vectors`, each once.
    """
    scores = inner_products(vectors, query, items)
    return best_of(items.astype(np.int32), scores.astype(np.float64), count)


def best_of(items: ItemArray, scores: NDArray[np.float64], count: int) -> Neighbors:
    """The `count` items with the highest scores, and of equal ones those by position."""
    if count < len(items):
        # All that equal the last are kept, so that it is positions that decide between them.
        last = np.partition(scores, len(items) - count)[len(items) - count]
        kept = scores >= last
        items, scores = items[kept], scores[kept]
    best = ranked(items, scores)
    return best.picked(slice(count)) if count < len(best.items) else best


def ranked(items: ItemArray, scores: NDArray[np.float64]) -> Neighbors:
    """Orders items by score, best first, and equal scores by position."""
    order = np.lexsort((items, -scores))
    return Neighbors(items[order], scores[order])
