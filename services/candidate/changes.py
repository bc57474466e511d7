"""Changes of the catalog as the candidate service keeps them: items with their place in it."""

from collections.abc import Sequence
from dataclasses import dataclass

from core.catalog import CatalogItem, Delete
from core.codes import ItemCode
from services.candidate.index.flat import Vector


@dataclass(frozen=True, eq=False, slots=True)
class PlacedItem:
    """An item with all that serving it takes: both vectors, and the code that stands for it."""

    item: CatalogItem
    content: Vector
    """float32 [content dimension], of unit norm."""
    behavior: Vector
    """float32 [behavior dimension], of unit norm."""
    code: ItemCode

    @property
    def item_id(self) -> str:
        """The identifier of the item."""
        return self.item.item_id


PlacedChange = PlacedItem | Delete


@dataclass(frozen=True)
class ChangeSet:
    """Changes that become visible together, one after another."""

    changes: Sequence[PlacedChange]
    sequence: int
    """Of the last of them."""
    staying: frozenset[str] = frozenset()
    """Items that have, after the changes, the vectors and the code that they have had: other things
    are said of them, and they stay where they are."""
