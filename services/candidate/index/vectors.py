"""The vectors of a catalog's items, by position, in an array that only ever grows."""

from collections.abc import Iterator
from functools import cached_property
from typing import Final

import faiss
import numpy as np
from numpy.typing import NDArray

from core.catalog import ItemArray, Mask
from core.persistent import append

Vector = NDArray[np.float32]

NO_ITEMS: Final[ItemArray] = np.empty(0, np.int32)


class Vectors:
    """One version of the vectors, float32 [items, dimension]; immutable.

    The bundle's are one piece, as a rule mapped from its file, so that they take memory only where
    they are read. What is added follows in pieces of which each is at least twice as long as the
    next, and versions share all that stays the same.

    Args:
        base: float32 [items, dimension], contiguous.
        added: pieces of the same dimension that follow it.
    """

    def __init__(self, base: Vector, added: tuple[Vector, ...] = ()) -> None:
        # A plain view: slicing numpy's own memmap class is several times slower.
        self.base: Vector = np.ascontiguousarray(np.asarray(base), dtype=np.float32)
        self.added = added

    def __len__(self) -> int:
        return len(self.base) + sum(map(len, self.added))

    @property
    def dimension(self) -> int:
        """Numbers in a vector."""
        return int(self.base.shape[1])

    def take(self, items: ItemArray) -> Vector:
        """The vectors of some items, float32 [items, dimension], copied."""
        if not self.added:
            return self.base[items]
        taken = np.empty((len(items), self.dimension), np.float32)
        for vectors, there, start in self._by_piece(items):
            taken[there] = vectors[items[there] - start]
        return taken

    def inner_products(self, query: Vector, items: ItemArray) -> Vector:
        """The inner products of a query with some of the vectors, without copying these.

        Args:
            query: float32 [dimension], contiguous.
            items: int32 [items].

        Returns:
            float32 [items].
        """
        rows = items.astype(np.int64)
        if not self.added:
            return inner_products(self.base, query, rows)
        products = np.empty(len(items), np.float32)
        for vectors, there, start in self._by_piece(items):
            products[there] = inner_products(vectors, query, rows[there] - start)
        return products

    def whole(self) -> Vector:
        """All of them in one array, float32 [items, dimension]; copied if anything was added."""
        return np.concatenate(self._pieces) if self.added else self.base

    def extended(self, more: Vector) -> "Vectors":
        """The next version: these vectors, float32 [more, dimension], at the end."""
        return Vectors(self.base, append(self.added, np.ascontiguousarray(more, dtype=np.float32)))

    def _by_piece(self, items: ItemArray) -> Iterator[tuple[Vector, Mask, int]]:
        """The pieces that items lie in: the vectors, which items those are, where it starts."""
        piece = np.searchsorted(self._starts, items, side="right") - 1
        for number in np.unique(piece):
            yield self._pieces[number], piece == number, int(self._starts[number])

    @cached_property
    def _pieces(self) -> tuple[Vector, ...]:
        return (self.base, *self.added)

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        return np.cumsum([0, *map(len, self._pieces[:-1])])


def inner_products(vectors: Vector, query: Vector, items: NDArray[np.int64]) -> Vector:
    """The inner products of a query with some of the vectors, read where they lie.

    Args:
        vectors: float32 [all, dimension], contiguous.
        query: float32 [dimension], contiguous.
        items: int64 [items], rows of `vectors`.

    Returns:
        float32 [items].
    """
    faiss.omp_set_num_threads(1)  # holds for the calling thread only: a pool is the threads
    products = np.empty(len(items), np.float32)
    faiss.fvec_inner_products_by_idx(
        faiss.swig_ptr(products),
        faiss.swig_ptr(query),
        faiss.swig_ptr(vectors),
        faiss.swig_ptr(items),
        vectors.shape[1],
        1,
        len(items),
    )
    return products
