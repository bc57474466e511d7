"""An index that grows: a bundle's, and what was added since in pieces with indexes of their own.

Searching what others add to is unsafe, and a graph or cells cannot be taken from. So nothing is
ever added to an index: vectors that come in are a piece that is searched beside it, pieces are
joined as they grow, and one that has become long gets cells. A vector is copied, and its piece
indexed, only each time that its piece doubles.
"""

from typing import Final

import numpy as np

from core.catalog import ItemArray, Mask
from services.candidate.index.flat import FlatIndex, Neighbors, VectorIndex, best_of
from services.candidate.index.ivf import IvfIndex
from services.candidate.index.vectors import Vector, Vectors

FOLDED: Final = 1 << 13
"""Vectors in a piece from which on it gets cells: comparing fewer takes a quarter of a millisecond
at 128 numbers, and giving them cells a tenth of a second."""


class LiveIndex:
    """A base index and the pieces that follow it.

    Args:
        base: of the first vectors.
        vectors: those of the base, and all pieces.
        pieces: the index of each piece.
    """

    def __init__(
        self, base: VectorIndex, vectors: Vectors, pieces: tuple[VectorIndex, ...]
    ) -> None:
        self.base = base
        self._vectors = vectors
        self._pieces = pieces

    @classmethod
    def of(cls, base: VectorIndex) -> "LiveIndex":
        """A base index to which nothing was added yet."""
        return cls(base, base.vectors, ())

    @property
    def vectors(self) -> Vectors:
        """What is indexed."""
        return self._vectors

    @property
    def dimension(self) -> int:
        """Numbers in a vector."""
        return self._vectors.dimension

    def __len__(self) -> int:
        return len(self._vectors)

    def search(self, query: Vector, count: int, allowed: Mask | None = None) -> Neighbors:
        """See `VectorIndex.search`."""
        if not self._pieces:
            return self.base.search(query, count, allowed)
        items, scores, start = [], [], 0
        for index in (self.base, *self._pieces):
            end = start + len(index)
            found = index.search(query, count, None if allowed is None else allowed[start:end])
            items.append(found.items + np.int32(start))
            scores.append(found.scores)
            start = end
        return best_of(np.concatenate(items), np.concatenate(scores), count)

    def extended(self, vectors: Vector) -> "LiveIndex":
        """The next version: these vectors, float32 [more, dimension], at the end."""
        grown = self._vectors.extended(vectors)
        known = dict(zip(map(id, self._vectors.added), self._pieces, strict=True))
        pieces = tuple(known.get(id(piece)) or _index(piece) for piece in grown.added)
        return LiveIndex(self.base, grown, pieces)

    def compacted(self, kept: ItemArray) -> "LiveIndex":
        """The next version: the base, and of what follows it the vectors of these items alone.

        Args:
            kept: int32 [items], ascending, all of the base first.
        """
        base = LiveIndex.of(self.base)
        added = kept[len(self.base) :]
        return base.extended(self._vectors.take(added)) if len(added) else base


def _index(piece: Vector) -> VectorIndex:
    return FlatIndex(piece) if len(piece) < FOLDED else IvfIndex.build(piece, coding="Flat")
