"""An item as catalogs hold it, and what can become of one."""

from collections.abc import Mapping
from dataclasses import dataclass

AttributeValues = tuple[str | float, ...]


@dataclass(frozen=True, slots=True)
class CatalogItem:
    """An item as it is shown, embedded and filtered."""

    item_id: str
    title: str
    text: str
    attributes: Mapping[str, AttributeValues]
    popularity: int
    """Interactions in the training data."""


@dataclass(frozen=True)
class Upsert:
    """Adds an item, or replaces the one that has its identifier."""

    item: CatalogItem

    @property
    def item_id(self) -> str:
        """The identifier of the item."""
        return self.item.item_id


@dataclass(frozen=True)
class Update:
    """Says something else of an item, which stays where it is.

    For what leaves everything as it is that is known of the item by position, beside the catalog:
    vectors, codes. An item that is not there, or has another popularity, is upserted.
    """

    item: CatalogItem

    @property
    def item_id(self) -> str:
        """The identifier of the item."""
        return self.item.item_id


@dataclass(frozen=True)
class Delete:
    """Removes an item."""

    item_id: str


Change = Upsert | Update | Delete
