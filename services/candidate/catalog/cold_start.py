"""The place of a new item: a vector in both spaces, and a code, without any training."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from tokenizers import Tokenizer

from core.bundle import Bundle
from core.catalog import CatalogItem
from core.codes import ItemCode, ItemCodes
from core.errors import BundleError
from services.candidate.catalog.code_allocator import CodeAllocator
from services.candidate.changes import PlacedChange, PlacedItem
from services.candidate.index.flat import Vector
from services.candidate.index.space import SpaceName
from services.candidate.retrieval.engine import CandidateEngine

MODELS: Final = 16
"""Nearest items whose codes a new one may begin like."""


@dataclass(frozen=True)
class ColdStartPlacer:
    """Places items. For one thread, as the codes in use are.

    Attributes:
        codes: of the bundle's items.
        allocator: of the codes of other items.
        projection: float32 [content dimension + 1, behavior dimension], from content vectors to
            behavior vectors; the last row is the intercept. See `offline.query_encoder.projection`.
    """

    codes: ItemCodes
    allocator: CodeAllocator
    projection: Vector

    @classmethod
    def read(cls, bundle: Bundle) -> "ColdStartPlacer":
        """Reads what places items.

        Raises:
            BundleError: the bundle lacks it, or its parts do not belong together.
        """
        codes = ItemCodes.read(bundle)
        tokenizer = Tokenizer.from_file(str(bundle.file("generator_tokenizer.json")))
        projection = np.asarray(bundle.array("behavior_projection", np.float32))
        if len(codes) != bundle.manifest.items or projection.ndim != 2:
            raise BundleError(
                f"there are {len(codes)} codes for {bundle.manifest.items} items, and "
                f"behavior_projection.npy has the shape {projection.shape}"
            )
        return cls(codes, CodeAllocator(codes, tokenizer), projection)

    def place(
        self, engine: CandidateEngine, item: CatalogItem, content: Vector, before: ItemCode | None
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
        code = self.allocator.allocate([self.code(engine, at) for at in near.tolist()], before)
        return PlacedItem(item, content, self.behavior(content), code)

    def placed(self, engine: CandidateEngine, item_id: str) -> PlacedItem | None:
        """An item as it is placed in a version, if it is there."""
        positions, _ = engine.catalog.lookup([item_id])
        if not len(positions):
            return None
        at = int(positions[0])
        content, behavior = (engine.space(name).take(positions)[0] for name in SpaceName)
        return PlacedItem(engine.catalog.items[at], content, behavior, self.code(engine, at))

    def staying(self, engine: CandidateEngine, changes: Sequence[PlacedChange]) -> frozenset[str]:
        """The items that have, after changes of a version, the vectors and the code that they have
        in it."""
        last = {change.item_id: change for change in changes}
        placed = [change for change in last.values() if isinstance(change, PlacedItem)]
        places = engine.catalog.places(change.item_id for change in placed)
        there = [change for change, at in zip(placed, places.tolist(), strict=True) if at >= 0]
        positions = places[places >= 0]
        if not there:
            return frozenset()
        codes = [self.code(engine, at) for at in positions.tolist()]
        same = np.array([code == change.code for code, change in zip(codes, there, strict=True)])
        content = np.stack([change.content for change in there])
        behavior = np.stack([change.behavior for change in there])
        for name, new in ((SpaceName.CONTENT, content), (SpaceName.BEHAVIOR, behavior)):
            same &= (engine.space(name).take(positions) == new).all(axis=1)
        return frozenset(there[place].item_id for place in np.flatnonzero(same))

    def code(self, engine: CandidateEngine, position: int) -> ItemCode:
        """The code of an item of a version."""
        added = position - len(self.codes)
        return self.codes.of(position) if added < 0 else engine.codes[added]

    def behavior(self, content: Vector) -> Vector:
        """Maps a content vector to a behavior vector, float32 [dimension], of unit norm."""
        mapped = content @ self.projection[:-1] + self.projection[-1]
        norm = np.linalg.norm(mapped)
        behavior: Vector = (mapped / norm if norm else mapped).astype(np.float32)
        return behavior
