"""IVF: the vectors in cells around centroids, of which a search looks into the nearest.

With product quantization (https://inria.hal.science/inria-00514462) a vector of 128 numbers is 32
bytes in its cell, and the full vectors, mapped from their file, decide among what the cells
propose: the kind for catalogs whose vectors do not fit into memory.
"""

from typing import ClassVar, Final, Literal, Self

import faiss
import numpy as np

from services.candidate.index.approximate import Advance, ApproximateIndex, add
from services.candidate.index.vectors import Vector

CELLS: Final = 2.0
"""Cells, as a multiple of the square root of the number of vectors."""
PROBES: Final = 64
"""Cells that a search looks into, at least."""
DEPTH: Final = 64
"""Allowed items in the cells looked into, as a multiple of those that are wanted, at least."""
PROPOSED: Final = 8
"""Items that quantized vectors propose, as a multiple of those that are wanted."""
NUMBERS_PER_BYTE: Final = 4

Coding = Literal["PQ", "Flat"]
TRAINED_ON: Final[dict[Coding, int]] = {"PQ": 64, "Flat": 16}
"""Vectors for each centroid that is learned: cells of full vectors need not be that good."""
ROUNDS: Final[dict[Coding, int]] = {"PQ": 10, "Flat": 4}
"""Of k-means."""


class IvfIndex(ApproximateIndex):
    """Cells of quantized or of full vectors."""

    kind: ClassVar[str] = "ivfpq"
    faiss_kind: ClassVar[type[faiss.Index]] = faiss.IndexIVF
    read_flags: ClassVar[int] = faiss.IO_FLAG_MMAP_IFC | faiss.IO_FLAG_PQ_SKIP_SDC_TABLE

    @classmethod
    def build(
        cls,
        vectors: Vector,
        *,
        coding: Coding = "PQ",
        threads: int = 1,
        advance: Advance = lambda _: None,
    ) -> Self:
        """Indexes vectors, float32 [items, dimension], after learning centroids from a sample.

        Args:
            vectors: of unit norm.
            coding: how the cells keep them.
            threads: how many work on it.
            advance: told how many vectors were taken in.
        """
        faiss.omp_set_num_threads(threads)
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        count, dimension = vectors.shape
        cells = max(1, round(CELLS * count**0.5))
        bits = min(8, count.bit_length() - 1)  # a part has no more values than there are vectors
        index = _empty(dimension, cells, coding, bits)
        learned = max(cells, 1 << bits)
        sample = np.random.default_rng(0).permutation(count)[: TRAINED_ON[coding] * learned]
        index.train(vectors[np.sort(sample)])
        add(index, vectors, advance)
        return cls(index, vectors)

    def _proposed(self, count: int) -> int:
        proposed = count if isinstance(self._index, faiss.IndexIVFFlat) else PROPOSED * count
        return min(proposed, len(self))

    def _options(
        self, count: int, share: float, selector: faiss.IDSelector | None
    ) -> faiss.SearchParameters:
        return faiss.SearchParametersIVF(nprobe=self._probes(count, share), sel=selector)

    def _cost(self, count: int, share: float) -> float:
        looked_at = self._probes(count, share) * len(self) / self._cells
        quantized = not isinstance(self._index, faiss.IndexIVFFlat)
        return self._cells + looked_at / (NUMBERS_PER_BYTE if quantized else 1)

    def _probes(self, count: int, share: float) -> int:
        needed = DEPTH * count / share / (len(self) / self._cells)
        return min(max(PROBES, round(needed)), self._cells)

    @property
    def _cells(self) -> int:
        return int(self._index.nlist)


def _empty(dimension: int, cells: int, coding: Coding, bits: int) -> faiss.IndexIVF:
    metric, centroids = faiss.METRIC_INNER_PRODUCT, faiss.IndexFlatIP(dimension)
    if coding == "Flat":
        index = faiss.IndexIVFFlat(centroids, dimension, cells, metric)
    else:
        most = max(1, dimension // NUMBERS_PER_BYTE)
        parts = max(part for part in range(1, most + 1) if dimension % part == 0)
        index = faiss.IndexIVFPQ(centroids, dimension, cells, parts, bits, metric)
        _limit(index.pq.cp, coding)
    _limit(index.cp, coding)
    centroids.this.disown()  # the index frees them
    index.own_fields = True
    return index


def _limit(clustering: faiss.ClusteringParameters, coding: Coding) -> None:
    clustering.niter = ROUNDS[coding]
    clustering.min_points_per_centroid = 1  # a small catalog is no mistake
    clustering.max_points_per_centroid = TRAINED_ON[coding]
