"""A space: the vectors of all items, by which they are near to each other or far apart."""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np

from runtime.bundle import Bundle
from runtime.catalog import ItemArray
from runtime.errors import BundleError
from services.candidate.index import FlatIndex, Vector, VectorIndex


class SpaceName(Enum):
    """A space of item vectors."""

    CONTENT = "content"
    """Embeddings of the item texts: what an item is."""
    BEHAVIOR = "behavior"
    """The query encoder's item vectors: how an item is used."""


@dataclass(frozen=True)
class Space:
    """Item vectors of unit norm, float32 [items, dimension], and their index."""

    vectors: Vector
    index: VectorIndex

    @classmethod
    def read(cls, bundle: Bundle, name: SpaceName) -> "Space":
        """Reads `<name>_vectors.npy` and `<name>.faiss`.

        Raises:
            BundleError: the two do not belong to each other or to the catalog.
        """
        # A plain view of the mapped file: slicing numpy's own memmap class is several times slower.
        vectors = np.asarray(bundle.array(f"{name.value}_vectors", np.float32))
        index = FlatIndex.read(bundle.file(f"{name.value}.faiss"))
        if (
            not vectors.shape
            == (bundle.manifest.items, index.dimension)
            == (len(index), index.dimension)
        ):
            raise BundleError(
                f"{name.value}.faiss holds {len(index)} vectors of {index.dimension} numbers, "
                f"{name.value}_vectors.npy {vectors.shape}, the catalog {bundle.manifest.items}"
            )
        return cls(vectors, index)

    def take(self, items: ItemArray) -> Vector:
        """The vectors of some items, float32 [items, dimension]."""
        return self.vectors[items]

    @staticmethod
    def write(directory: Path, name: SpaceName, vectors: Vector) -> None:
        """Writes what `read` reads."""
        np.save(directory / f"{name.value}_vectors.npy", vectors, allow_pickle=False)
        FlatIndex.build(vectors).write(directory / f"{name.value}.faiss")
