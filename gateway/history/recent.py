"""Histories in memory that were read lately, of a store that nobody else writes to.

Handing a read to a thread and back costs the event loop seven times what the read itself does: with
the histories of users who come often at hand, that is spared.
"""

import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple, TypeAlias


class History(NamedTuple):
    """What is kept of a user."""

    items: tuple[str, ...]
    """At least one, oldest first."""
    since: int
    """The time of the oldest event, in microseconds since 1970."""


class _Reading:
    """Holds the place of a history that is being read."""


_Place: TypeAlias = History | _Reading


class RecentHistories:
    """A bounded memory, from which a history is forgotten when it changes.

    `of` belongs to one event loop; `forget` may be called on any thread.

    Args:
        max_items: of all histories together, about 70 bytes each; 0 to remember nothing. The
            history that was not asked for the longest goes first.
    """

    def __init__(self, max_items: int) -> None:
        self._max_items = max_items
        self._items = 0
        self._places: OrderedDict[str, _Place] = OrderedDict()
        self._lock = threading.Lock()

    async def of(
        self, user_id: str, oldest: int, read: Callable[[], Awaitable[History | None]]
    ) -> tuple[str, ...] | None:
        """The items of a user's history.

        Args:
            user_id: whose.
            oldest: the time before which events do not count any more.
            read: reads it. What it gives is remembered, unless the history was forgotten since it
                began: it may have read what was there before the change.
        """
        with self._lock:
            known = self._places.get(user_id)
            if isinstance(known, History) and known.since >= oldest:
                self._places.move_to_end(user_id)
                return known.items
            place = _Reading()
            self._put(user_id, place)
        history = None
        try:
            history = await read()
        finally:
            with self._lock:
                if self._places.get(user_id) is place:
                    self._put(user_id, history)
        return history and history.items

    def forget(self, user_ids: Iterable[str]) -> None:
        """To be called when histories have changed, before anybody is told that they have."""
        with self._lock:
            for user_id in user_ids:
                self._put(user_id, None)

    def _put(self, user_id: str, place: _Place | None) -> None:
        before = self._places.pop(user_id, None)
        self._items -= _size(before)
        if place is not None:
            self._places[user_id] = place
            self._items += _size(place)
        while self._items > self._max_items:
            _, oldest = self._places.popitem(last=False)
            self._items -= _size(oldest)


def _size(place: _Place | None) -> int:
    return len(place.items) if isinstance(place, History) else 0
