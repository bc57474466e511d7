"""Nearest neighbors by inner product, restricted inside the search to the items that are allowed.

`VectorIndex` is all that the engine needs to know of an index. Vectors are of unit norm in both
spaces, so that one index answers inner products of a query encoder and cosines alike.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import faiss
import numpy as np
from numpy.typing import NDArray

from runtime.catalog import ItemArray, Mask
from runtime.errors import BundleError

Vector = NDArray[np.float32]


@dataclass(frozen=True)
class Neighbors:
    """Items and their inner products with the query, best first; equal ones by position."""

    items: ItemArray
    scores: NDArray[np.float64]

    def picked(self, places: NDArray[np.bool_] | NDArray[np.int64]) -> "Neighbors":
        """Those at some places, in that order."""
        return Neighbors(self.items[places], self.scores[places])


class VectorIndex(Protocol):
    """Finds the vectors that have the largest inner product with a query."""

    @property
    def dimension(self) -> int:
        """Numbers in a vector."""

    def __len__(self) -> int:
        """Vectors in the index; an item's position is its identifier."""

    def search(self, query: Vector, count: int, allowed: Mask | None = None) -> Neighbors:
        """Finds the `count` best allowed items, or all that are allowed where they are fewer.

        Args:
            query: float32 [dimension].
            count: how many items to find.
            allowed: bool [items], or None for all.
        """


class FlatIndex:
    """Every vector is compared: exact, and the reference for all other kinds."""

    def __init__(self, index: faiss.IndexFlat) -> None:
        self._index = index

    @classmethod
    def build(cls, vectors: Vector) -> "FlatIndex":
        """Indexes vectors, float32 [items, dimension]."""
        index = faiss.IndexFlatIP(vectors.shape[1])
        index.add(np.ascontiguousarray(vectors, dtype=np.float32))
        return cls(index)

    @classmethod
    def read(cls, path: Path) -> "FlatIndex":
        """Reads what `write` wrote.

        Raises:
            BundleError: the file is not a flat inner-product index.
        """
        try:
            index = faiss.read_index(str(path))
        except RuntimeError as error:
            raise BundleError(f"{path} is not a FAISS index: {error}") from error
        if (
            not isinstance(index, faiss.IndexFlat)
            or index.metric_type != faiss.METRIC_INNER_PRODUCT
        ):
            raise BundleError(f"{path} holds a {type(index).__name__}, not a flat inner product")
        return cls(index)

    def write(self, path: Path) -> None:
        """Writes the index in FAISS' own format."""
        faiss.write_index(self._index, str(path))

    @property
    def dimension(self) -> int:
        """Numbers in a vector."""
        return int(self._index.d)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def search(self, query: Vector, count: int, allowed: Mask | None = None) -> Neighbors:
        """See `VectorIndex.search`. Safe to call from several threads."""
        return search_faiss(self._index, query, count, allowed, faiss.SearchParameters)


def search_faiss(
    index: faiss.Index,
    query: Vector,
    count: int,
    allowed: Mask | None,
    parameters: Callable[..., faiss.SearchParameters],
) -> Neighbors:
    """Searches a FAISS index with the filter inside.

    Args:
        index: any index that takes a selector.
        query: float32 [dimension].
        count: how many items to find.
        allowed: bool [items], or None for all.
        parameters: makes the search parameters of this kind of index. A selector may be changed
            by the index that it is given to, so every call has its own.
    """
    available = index.ntotal if allowed is None else int(np.count_nonzero(allowed))
    count = min(count, available)
    if count <= 0:
        return Neighbors(np.empty(0, np.int32), np.empty(0, np.float64))
    faiss.omp_set_num_threads(1)  # holds for the calling thread only, and the pool is the threads
    options = None
    if allowed is not None:
        bits = np.packbits(allowed, bitorder="little")
        options = parameters(sel=faiss.IDSelectorBitmap(len(bits), faiss.swig_ptr(bits)))
    row = np.ascontiguousarray(query, dtype=np.float32)[None, :]
    scores, items = index.search(row, count, params=options)
    found = items[0] >= 0
    return ranked(items[0][found].astype(np.int32), scores[0][found].astype(np.float64))


def ranked(items: ItemArray, scores: NDArray[np.float64]) -> Neighbors:
    """Orders items by score, best first, and equal scores by position."""
    order = np.lexsort((items, -scores))
    return Neighbors(items[order], scores[order])
