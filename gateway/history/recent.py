"""Histories in memory that were read lately, within a bound of bytes.

Reading a history costs the event loop several times what finding it here does: a thread's turn for
SQLite, the bytes of a whole history for Redis. Each store has its own way of knowing that what is
here is current: SQLite's forgets what it writes, because nobody else writes to its file, and Redis'
asks for the history's version, because others do.
"""

import sys
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, NamedTuple, TypeAlias

PLACE_BYTES: Final = 400
"""What a history takes beside its items: some small objects, and its entry in the dictionary."""
ITEM_BYTES: Final = 84
"""What an item's id takes beside its characters: the object, rounded up, and the place of it."""


class History(NamedTuple):
    """What is kept of a user."""

    items: tuple[str, ...]
    """At least one, oldest first."""
    since: int
    """The time of the oldest event, in microseconds since 1970."""
    version: bytes = b""
    """Differs after each change, where the store has versions."""


class _Reading:
    """Holds the place of a history that is being read."""


_Place: TypeAlias = History | _Reading


class RecentHistories:
    """A bounded memory, from which a history is forgotten when it changes.

    `of` and `keep` belong to one event loop; `forget` may be called on any thread.

    Args:
        max_bytes: of all histories together; 0 to remember nothing. The history that was not asked
            for the longest goes first.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._places: OrderedDict[str, tuple[_Place, int]] = OrderedDict()
        self._lock = threading.Lock()
        self.bytes = 0
        """Of what is remembered."""

    async def of(
        self, user_id: str, oldest: int, read: Callable[[], Awaitable[History | None]]
    ) -> tuple[str, ...] | None:
        """The items of a user's history, in a store that says when a history has changed.

        Args:
            user_id: whose.
            oldest: the time before which events do not count any more.
            read: reads it. What it gives is remembered, unless the history was forgotten since it
                began: it may have read what was there before the change.
        """
        known = self.find(user_id, oldest)
        if known is not None:
            return known.items
        place = _Reading()
        with self._lock:
            self._put(user_id, place)
        history = None
        try:
            history = await read()
        finally:
            with self._lock:
                if self._place(user_id) is place:
                    self._put(user_id, history)
        return history and history.items

    def find(self, user_id: str, oldest: int) -> History | None:
        """What is remembered, unless some of it is older than what counts."""
        with self._lock:
            known = self._place(user_id)
            if not isinstance(known, History) or known.since < oldest:
                return None
            self._places.move_to_end(user_id)
            return known

    def keep(self, user_id: str, history: History | None) -> None:
        """Remembers a history in place of what was remembered; None for none."""
        with self._lock:
            self._put(user_id, history)

    def users(self) -> list[str]:
        """Those whose histories are remembered."""
        with self._lock:
            return list(self._places)

    def forget(self, user_ids: Iterable[str]) -> None:
        """To be called when histories have changed, before anybody is told that they have."""
        with self._lock:
            for user_id in user_ids:
                self._put(user_id, None)

    def _place(self, user_id: str) -> _Place | None:
        found = self._places.get(user_id)
        return found and found[0]

    def _put(self, user_id: str, place: _Place | None) -> None:
        _, size = self._places.pop(user_id, (None, 0))
        self.bytes -= size
        if place is not None:
            size = _size(user_id, place)
            self._places[user_id] = place, size
            self.bytes += size
        while self.bytes > self._max_bytes:
            _, (_, size) = self._places.popitem(last=False)
            self.bytes -= size


def _size(user_id: str, place: _Place) -> int:
    """About the bytes of memory; none for a read that is under way, whose caller waits for it."""
    if not isinstance(place, History):
        return 0
    # In one string, which is quicker than asking each for its size.
    characters = sys.getsizeof("".join(place.items))
    return PLACE_BYTES + sys.getsizeof(user_id) + ITEM_BYTES * len(place.items) + characters
