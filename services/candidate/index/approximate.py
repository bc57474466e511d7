"""Approximate search: FAISS proposes items, and their own vectors decide.

A filter acts inside the search of FAISS, which has to look further the fewer items pass: it costs
more, where comparing just those that pass costs less. Whichever is cheaper is done, counted in
vectors that are compared; how many pass is asked near the query, where it matters. And where FAISS
finds too few, all that pass are compared after all.
"""

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Final, Self

import faiss
import numpy as np
from numpy.typing import NDArray

from core.catalog import Mask
from core.errors import BundleError
from services.candidate.index.flat import BaseIndex, Neighbors, Selector, exact, rescored
from services.candidate.index.vectors import Vector

Advance = Callable[[int], object]
"""Told how many vectors were taken in, for a progress bar."""

SAMPLED: Final = 100
"""Items nearest to a query that show how many a filter lets pass there."""
SLICE: Final = 10_000
"""Vectors that are taken in between two reports of progress."""


class ApproximateIndex(BaseIndex):
    """A FAISS index of some kind, and the vectors that it was made of.

    Args:
        index: proposes items.
        vectors: float32 [items, dimension], what decides; mapped from their file as a rule.
    """

    kind: ClassVar[str]
    faiss_kind: ClassVar[type[faiss.Index]]
    read_flags: ClassVar[int]
    """How FAISS maps the file of this kind rather than to read it."""

    def __init__(self, index: faiss.Index, vectors: Vector) -> None:
        super().__init__(vectors)
        self._index = index

    @classmethod
    def read(cls, path: Path, vectors: Vector) -> Self:
        """Maps what `write` wrote.

        Raises:
            BundleError: the file is not an index of this kind and of these vectors.
        """
        try:
            index = faiss.read_index(str(path), cls.read_flags)
        except RuntimeError as error:
            raise BundleError(f"{path} is not a FAISS index: {error}") from error
        if not isinstance(index, cls.faiss_kind) or index.metric_type != faiss.METRIC_INNER_PRODUCT:
            raise BundleError(f"{path} holds {type(index).__name__}, which is not {cls.kind}")
        if (index.ntotal, index.d) != vectors.shape:
            raise BundleError(
                f"{path} holds {index.ntotal} vectors of {index.d} numbers, and not {vectors.shape}"
            )
        return cls(index, vectors)

    def write(self, path: Path) -> None:
        """Writes the index in FAISS' own format."""
        faiss.write_index(self._index, str(path))

    def propose(
        self, query: Vector, count: int, allowed: Mask | None, share: float
    ) -> NDArray[np.int64]:
        """What FAISS finds for a query, -1 where it finds nothing: int64 [at least count].

        Args:
            query: float32 [dimension], contiguous.
            count: how many items are wanted.
            allowed: bool [items], or None for all.
            share: of the items that are allowed, above 0.
        """
        selector = None if allowed is None else Selector(allowed)
        options = self._options(count, share, selector.sel if selector else None)
        _, items = self._index.search(query[None], self._proposed(count), params=options)
        found: NDArray[np.int64] = items[0]
        return found

    def _search(self, query: Vector, count: int, allowed: Mask | None, available: int) -> Neighbors:
        vectors, share = self._all.base, available / len(self)
        if allowed is not None and available > self._cost(count, share):
            share = min(share, self._share_near(query, allowed))
        if available <= self._cost(count, share):
            return exact(vectors, query, count, allowed, available)
        items = self.propose(query, count, allowed, share)
        items = items[items >= 0]
        if len(items) < count:
            return exact(vectors, query, count, allowed, available)
        return rescored(vectors, query, count, items)

    def _share_near(self, query: Vector, allowed: Mask) -> float:
        """The share that is allowed of what is nearest to the query, above 0.

        Filters and vectors go together: whoever asks near a comedy for war films is among items of
        which none is allowed, and what FAISS sees at the edge of those is not what is best.
        """
        near = self.propose(query, SAMPLED, None, 1.0)
        return max(1, int(np.count_nonzero(allowed[near[near >= 0]]))) / len(near)

    def _proposed(self, count: int) -> int:
        """How many items FAISS proposes where `count` are wanted."""
        raise NotImplementedError

    def _options(
        self, count: int, share: float, selector: faiss.IDSelector | None
    ) -> faiss.SearchParameters:
        """How far FAISS looks where this share of the items is allowed."""
        raise NotImplementedError

    def _cost(self, count: int, share: float) -> float:
        """What FAISS' search takes, as the number of vectors compared in the same time."""
        raise NotImplementedError


def add(index: faiss.Index, vectors: Vector, advance: Advance) -> None:
    """Puts vectors into an index, slice by slice."""
    for start in range(0, len(vectors), SLICE):
        part = np.ascontiguousarray(vectors[start : start + SLICE], dtype=np.float32)
        index.add(part)
        advance(len(part))
