"""HNSW: a graph of neighbors that is walked towards the query (https://arxiv.org/abs/1603.09320).

The graph is walked over vectors of 8 bits a number, a quarter of the size, and the full vectors
score what it finds. An item takes a byte a number and 270 bytes of links; files are mapped.
"""

from typing import ClassVar, Final, Self

import faiss
import numpy as np

from services.candidate.index.approximate import Advance, ApproximateIndex, add
from services.candidate.index.vectors import Vector

LINKS: Final = 32
"""Of an item, at most; twice as many on the lowest level."""
BUILD_BREADTH: Final = 80
"""Neighbors that are weighed for the links of an item."""
BREADTH: Final = 3
"""Items that a search keeps in view, as a multiple of those that are wanted and allowed."""
MIN_BREADTH: Final = 128
PROPOSED: Final = 1.2
"""Items that the graph proposes, as a multiple of those that are wanted: with 8 bits a number, some
that are near each other change places."""
STEP: Final = 50
"""Vectors compared one by one in the time that one more item in view takes."""


class HnswIndex(ApproximateIndex):
    """A graph of neighbors. Fast and near exact, for a few hundred bytes an item in memory."""

    kind: ClassVar[str] = "hnsw"
    faiss_kind: ClassVar[type[faiss.Index]] = faiss.IndexHNSWSQ
    read_flags: ClassVar[int] = faiss.IO_FLAG_MMAP_IFC

    @classmethod
    def build(cls, vectors: Vector, *, threads: int = 1, advance: Advance = lambda _: None) -> Self:
        """Indexes vectors, float32 [items, dimension].

        Args:
            vectors: of unit norm.
            threads: how many work on it.
            advance: told how many vectors were taken in.
        """
        faiss.omp_set_num_threads(threads)
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        index = faiss.IndexHNSWSQ(
            vectors.shape[1],
            faiss.ScalarQuantizer.QT_8bit,
            LINKS,
            faiss.METRIC_INNER_PRODUCT,
        )
        index.hnsw.efConstruction = BUILD_BREADTH
        index.train(vectors)
        add(index, vectors, advance)
        return cls(index, vectors)

    def _proposed(self, count: int) -> int:
        return min(round(PROPOSED * count), len(self))

    def _options(
        self, count: int, share: float, selector: faiss.IDSelector | None
    ) -> faiss.SearchParameters:
        return faiss.SearchParametersHNSW(efSearch=_breadth(count, share), sel=selector)

    def _cost(self, count: int, share: float) -> float:
        return STEP * _breadth(count, share)


def _breadth(count: int, share: float) -> int:
    return max(MIN_BREADTH, round(BREADTH * count / share))
