"""Where a user's history comes from when the caller does not send it."""

from typing import Protocol

from runtime.bundle import Bundle
from runtime.edge import MAX_HISTORY


class HistoryStore(Protocol):
    """Looks histories up."""

    async def history(self, user_id: str) -> tuple[str, ...] | None:
        """The user's items, oldest first, the newest `MAX_HISTORY` at most.

        Returns:
            None for a user that the store does not know.
        """

    async def close(self) -> None:
        """Releases what the store holds open."""


class BundleHistoryStore:
    """The histories of the users in the data that the bundle was built from; they never change."""

    def __init__(self, bundle: Bundle) -> None:
        self._catalog = bundle.catalog
        self._histories = bundle.histories

    async def history(self, user_id: str) -> tuple[str, ...] | None:
        """As the protocol says."""
        positions = self._histories.of(user_id)
        if positions is None:
            return None
        return tuple(self._catalog.ids(positions[-MAX_HISTORY:].tolist()))

    async def close(self) -> None:
        """Nothing is held open."""
