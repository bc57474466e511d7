"""A space of item vectors: content, what an item is, or behavior, how it is used."""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

import numpy as np

from core.bundle import Bundle
from core.catalog import ItemArray
from core.errors import BundleError, SettingsError
from core.manifest import IndexKind
from services.candidate.index.approximate import Advance, ApproximateIndex
from services.candidate.index.flat import FlatIndex, VectorIndex
from services.candidate.index.hnsw import HnswIndex
from services.candidate.index.ivf import IvfIndex
from services.candidate.index.live import LiveIndex
from services.candidate.index.vectors import Vector, Vectors

FLAT_LIMIT: Final = 50_000
"""Items up to which every vector is compared: that takes a millisecond or two."""
HNSW_LIMIT: Final = 10_000_000
"""Items up to which a graph of them all is kept in memory: 4 GB at 128 numbers."""

QUICK: Final = 1 << 20
"""Numbers to compare up to which a search takes a tenth of a millisecond."""

_APPROXIMATE: Final[dict[IndexKind, type[HnswIndex] | type[IvfIndex]]] = {
    "hnsw": HnswIndex,
    "ivfpq": IvfIndex,
}


class SpaceName(Enum):
    """A space of item vectors."""

    CONTENT = "content"
    """Embeddings of the item texts: what an item is."""
    BEHAVIOR = "behavior"
    """The query encoder's item vectors: how an item is used."""


@dataclass(frozen=True)
class Space:
    """One version of the item vectors of a space, all of unit norm, and their index."""

    index: LiveIndex

    @classmethod
    def of(cls, vectors: Vector) -> "Space":
        """Vectors, float32 [items, dimension], that are all compared."""
        return cls.over(FlatIndex(vectors))

    @classmethod
    def over(cls, index: VectorIndex) -> "Space":
        """The vectors of an index."""
        return cls(LiveIndex.of(index))

    @classmethod
    def read(cls, bundle: Bundle, name: SpaceName, index_uri: str | None = None) -> "Space":
        """Maps `<name>_vectors.npy` and, unless every vector is compared, `<name>.faiss`.

        Args:
            bundle: a bundle.
            name: of the space.
            index_uri: of a Milvus that is searched instead of the bundle's index; it gets the
                vectors first, unless it has them.

        Raises:
            BundleError: the two do not belong to each other or to the catalog.
            SettingsError: `pymilvus` is not installed.
            Unavailable: Milvus cannot be reached.
        """
        vectors = bundle.array(f"{name.value}_vectors", np.float32)
        if vectors.ndim != 2 or len(vectors) != bundle.manifest.items:
            raise BundleError(
                f"{name.value}_vectors.npy is {vectors.shape}, and the catalog has "
                f"{bundle.manifest.items} items"
            )
        if index_uri is not None:
            return cls.over(_milvus(index_uri, bundle.version, name, vectors))
        section = bundle.manifest.candidate
        facts = section.content_index if name is SpaceName.CONTENT else section.behavior_index
        if facts.kind == "flat":
            return cls.of(vectors)
        return cls.over(_APPROXIMATE[facts.kind].read(bundle.file(f"{name.value}.faiss"), vectors))

    @staticmethod
    def write(directory: Path, name: SpaceName, vectors: Vector) -> None:
        """Writes the vectors as `read` reads them."""
        np.save(directory / f"{name.value}_vectors.npy", vectors, allow_pickle=False)

    @property
    def vectors(self) -> Vectors:
        """The vectors by position."""
        return self.index.vectors

    @property
    def dimension(self) -> int:
        """Numbers in a vector."""
        return self.index.dimension

    @property
    def is_quick(self) -> bool:
        """Whether a search takes less time than it would to hand it to a thread."""
        flat = isinstance(self.index.base, FlatIndex)
        return flat and len(self.index) * self.index.dimension <= QUICK

    def __len__(self) -> int:
        return len(self.index)

    def take(self, items: ItemArray) -> Vector:
        """The vectors of some items, float32 [items, dimension]."""
        return self.vectors.take(items)

    def extended(self, vectors: Vector) -> "Space":
        """The next version, with these vectors, float32 [more, dimension], at the end."""
        return Space(self.index.extended(vectors))

    def compacted(self, kept: ItemArray) -> "Space":
        """The next version, of these items alone, all of the base among them; see `Catalog`."""
        return Space(self.index.compacted(kept))


def kind_for(items: int) -> IndexKind:
    """The kind of index that suits a catalog of this size."""
    if items <= FLAT_LIMIT:
        return "flat"
    return "hnsw" if items <= HNSW_LIMIT else "ivfpq"


def build_index(
    kind: IndexKind, vectors: Vector, *, threads: int = 1, advance: Advance = lambda _: None
) -> FlatIndex | ApproximateIndex:
    """Indexes vectors, float32 [items, dimension]; see `HnswIndex.build` and `IvfIndex.build`."""
    if kind == "flat":
        return FlatIndex(vectors)
    return _APPROXIMATE[kind].build(vectors, threads=threads, advance=advance)


def _milvus(uri: str, version: str, name: SpaceName, vectors: Vector) -> VectorIndex:
    try:  # an extra, which only those install who use it
        from services.candidate.index.milvus import MilvusIndex
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"--index-uri needs {error.name}: pip install '.[candidate,milvus]' in Tandem's source"
        ) from error
    return MilvusIndex.open(uri, version, name.value, vectors)
