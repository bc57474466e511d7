"""The place of a new item: a vector in both spaces, and a code, without any training."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from core.bundle import Bundle
from core.catalog import CatalogItem
from core.errors import BundleError
from services.candidate.catalog.coding import Coding
from services.candidate.changes import Code, PlacedItem
from services.candidate.index.flat import Vector
from services.candidate.index.space import SpaceName
from services.candidate.retrieval.engine import CandidateEngine

MODELS: Final = 16
"""Nearest items whose codes a new one may begin like."""


@dataclass(frozen=True)
class Placement:
    """Places items. For one thread, as the codes in use are.

    Attributes:
        coding: the codes in use.
        projection: float32 [content dimension + 1, behavior dimension], from content vectors to
            behavior vectors; the last row is the intercept. See `offline.query_encoder.projection`.
    """

    coding: Coding
    projection: Vector

    @classmethod
    def read(cls, bundle: Bundle) -> "Placement":
        """Reads what places items.

        Raises:
            BundleError: the bundle lacks it, or its parts do not belong together.
        """
        coding = Coding.read(bundle)
        projection = np.asarray(bundle.array("behavior_projection", np.float32))
        if len(coding) != bundle.manifest.items or projection.ndim != 2:
            raise BundleError(
                f"there are {len(coding)} codes for {bundle.manifest.items} items, and "
                f"behavior_projection.npy has the shape {projection.shape}"
            )
        return cls(coding, projection)

    def place(
        self, engine: CandidateEngine, item: CatalogItem, content: Vector, before: Code | None
    ) -> PlacedItem:
        """Places an item, and takes a code into use for it.

        Args:
            engine: the version whose items it is placed among.
            item: the item.
            content: its vector in the content space, float32 [content dimension], of unit norm.
            before: the code that the item has had, if it was there.

        Raises:
            FailedPrecondition: reason NO_FREE_CODE.
        """
        near = engine.similar_to_vector(content, MODELS).items
        code = self.coding.give([self.code(engine, at) for at in near.tolist()], before)
        return PlacedItem(item, content, self.behavior(content), code)

    def placed(self, engine: CandidateEngine, item_id: str) -> PlacedItem | None:
        """An item as it is placed in a version, if it is there."""
        positions, _ = engine.catalog.lookup([item_id])
        if not len(positions):
            return None
        at = int(positions[0])
        content, behavior = (engine.space(name).take(positions)[0] for name in SpaceName)
        return PlacedItem(engine.catalog.items[at], content, behavior, self.code(engine, at))

    def code(self, engine: CandidateEngine, position: int) -> Code:
        """The code of an item of a version."""
        added = position - len(self.coding)
        return self.coding.of(position) if added < 0 else engine.codes[added]

    def behavior(self, content: Vector) -> Vector:
        """Maps a content vector to a behavior vector, float32 [dimension], of unit norm."""
        mapped = content @ self.projection[:-1] + self.projection[-1]
        norm = np.linalg.norm(mapped)
        behavior: Vector = (mapped / norm if norm else mapped).astype(np.float32)
        return behavior
