"""What items are, for the terminal: learned from answers, and asked for where these do not say."""

from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from tandem import Client, Error
from tandem.v1.common_pb2 import Item, ScoredItem
from tandem.v1.recommendation_service_pb2 import Recommendation

Described = Recommendation | ScoredItem | Item
"""A message that says what an item is."""

MAX_LOOKED_UP: Final = 1_000
"""Items, in one call."""


class Titles:
    """The titles and attributes of items.

    Args:
        described: messages that say them.
    """

    def __init__(self, described: Iterable[Described] = ()) -> None:
        self._items: dict[str, Described] = {item.item_id: item for item in described}

    def look_up(self, client: Client, item_ids: Iterable[str]) -> "Titles":
        """Asks the gateway for items that are not known; what it cannot say stays unknown."""
        wanted = [item_id for item_id in dict.fromkeys(item_ids) if item_id not in self._items]
        with suppress(Error):
            for start in range(0, len(wanted), MAX_LOOKED_UP):
                found = client.get_items(wanted[start : start + MAX_LOOKED_UP]).items
                self._items.update((item.item_id, item) for item in found)
        return self

    def title(self, item_id: str) -> str:
        """The title; empty when it is not known."""
        item = self._items.get(item_id)
        return item.title if item else ""

    def details(self, item_id: str) -> str:
        """The item's attributes in one line, such as "Comedy, Drama, 1995"."""
        item = self._items.get(item_id)
        if item is None:
            return ""
        return ", ".join(
            value.text if value.WhichOneof("kind") == "text" else f"{value.number:g}"
            for _, several in sorted(item.attributes.items())
            for value in several.values
        )
