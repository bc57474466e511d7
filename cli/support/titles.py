"""Titles for the terminal: the services answer with identifiers, a bundle knows what they mean."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from core.bundle import Histories
    from core.catalog import CatalogItem

DEFAULT_BUNDLE: Final = Path("bundles/ml-100k/current")


@dataclass(frozen=True)
class Titles:
    """What a bundle says about items; nothing without a bundle."""

    items: "dict[str, CatalogItem]"
    histories: "Histories | None" = None

    @classmethod
    def of(cls, path: Path | None) -> "Titles":
        """Reads a bundle, or the demo's where there is one and none is named."""
        if path is None and not (DEFAULT_BUNDLE / "manifest.json").is_file():
            return cls({})
        from core.bundle import Bundle  # numpy and pydantic take half a second to import

        # Only names are taken from it, so it need not be verified.
        bundle = Bundle.open(path or DEFAULT_BUNDLE, verify=False)
        return cls({item.item_id: item for item in bundle.catalog.items}, bundle.histories)

    def title(self, item_id: str) -> str:
        """The title; empty when it is not known."""
        item = self.items.get(item_id)
        return item.title if item else ""

    def details(self, item_id: str) -> str:
        """The item's attributes in one line, such as "Comedy, Drama, 1995"."""
        item = self.items.get(item_id)
        if item is None:
            return ""
        values = [value for values in item.attributes.values() for value in values]
        return ", ".join(v if isinstance(v, str) else f"{v:g}" for v in values)

    def history(self, user_id: str) -> Sequence[str]:
        """The item identifiers of a stored history, oldest first; empty when it is not known."""
        positions = self.histories.of(user_id) if self.histories else None
        if positions is None:
            return ()
        identifiers = list(self.items)
        return [identifiers[position] for position in positions]
