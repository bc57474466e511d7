"""What every history store promises, and the values it works with.

A user's history is ordered by the time of its events, whenever they arrive; events of the same
time are in the order of arrival. Of each user the newest events are kept, as many as `Retention`
says and for as long.

An event is known by its identifier, whatever else it says. The identifier is remembered for as long
as `Retention` keeps an event of that time, also when the event itself has made room for newer ones:
one that comes again, perhaps without a time and so as the newest of all, is not recorded again.

Events that the models do not read, such as impressions, are kept apart: they are known, ordered,
trimmed and deleted in the same way, but neither list takes room of the other.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from core.errors import Unavailable
from gateway.history.event import Event

MICROSECONDS: Final = 1_000_000
DAY: Final = 86_400 * MICROSECONDS
HOUR_SECONDS: Final = 3_600.0


@dataclass(frozen=True)
class Recorded:
    """What became of a batch of events."""

    new: int = 0
    known: int = 0
    """Recorded before, under the same identifier."""
    outdated: int = 0
    """Older than what is kept of their users."""
    added: tuple[Event, ...] = field(default=(), compare=False)
    """Those that are new."""

    def __add__(self, other: "Recorded") -> "Recorded":
        return Recorded(
            self.new + other.new,
            self.known + other.known,
            self.outdated + other.outdated,
            self.added + other.added,
        )

    @classmethod
    def of(cls, added: Sequence[Event], known: int, sent: int) -> "Recorded":
        """What became of `sent` events of one list."""
        return cls(len(added), known, sent - len(added) - known, tuple(added))


@dataclass(frozen=True)
class Retention:
    """What is kept of each user."""

    events: int = 1_000
    """The newest so many."""
    days: float = 0.0
    """Those no older than this; 0 keeps them however old they are."""
    others: int = 1_000
    """Of the events that the models do not read: the newest so many."""

    @property
    def lifetime(self) -> int | None:
        """`days` in microseconds; None for ever."""
        return int(self.days * DAY) if self.days else None

    def most(self, *, in_history: bool) -> int:
        """How many events of one of the two lists are kept."""
        return self.events if in_history else self.others

    def oldest(self) -> int:
        """The time before which events are not kept: that of 1970 when they are kept for ever."""
        return 0 if self.lifetime is None else max(0, now() - self.lifetime)


class HistoryStore(Protocol):
    """Keeps histories. Its methods are called on one event loop, any number at a time."""

    async def record(self, events: Sequence[Event], *, seeded: bool = False) -> Recorded:
        """Records a batch; once it returns, the events survive the death of any process.

        Args:
            events: to record.
            seeded: whether they are a bundle's: then none is recorded of a user who was deleted.

        Raises:
            ResourceExhausted: reason HISTORY_QUEUE_FULL or HISTORY_FULL: nothing is promised of the
                batch, and sending it again is safe.
            Unavailable: reason HISTORY_UNAVAILABLE: the same.
            FailedPrecondition: reason HISTORY_READ_ONLY.
        """

    async def history(self, user_id: str) -> tuple[str, ...] | None:
        """The items of what is kept, oldest first.

        Returns:
            None for a user of whom nothing is kept.

        Raises:
            Unavailable: reason HISTORY_UNAVAILABLE.
        """

    async def events(self, user_id: str, count: int, *, in_history: bool = True) -> list[Event]:
        """The newest `count` events of one of the two lists that are kept, oldest first.

        Args:
            user_id: whose.
            count: how many.
            in_history: whether of those that the models read.

        Raises:
            Unavailable: as `history` does.
        """

    async def delete(self, user_id: str) -> int:
        """Deletes all that is kept of a user, and returns how many events that were.

        That the user was deleted is remembered as a keyed hash (`tombstones.py`), for good: a
        bundle's history does not come back. What is recorded later makes a new history.

        Raises:
            ResourceExhausted, Unavailable, FailedPrecondition: as `record` does; calling it again
                is safe, and ends what was begun.
        """

    async def merge(self, source: str, user_id: str) -> Recorded:
        """Records what is kept of one user as another's, and deletes the first as `delete` does.

        Both or neither is done. What is known of the events of the first is known of the other's.

        Args:
            source: the user whose events they are.
            user_id: the other.

        Raises:
            ResourceExhausted, Unavailable, FailedPrecondition: as `delete` does.
        """

    async def seed(self) -> str | None:
        """The bundle whose histories the store was filled with; None before it was.

        Raises:
            Unavailable: as `history` does.
        """

    async def set_seed(self, bundle_version: str) -> None:
        """Notes that the histories of a bundle are all recorded.

        Raises:
            ResourceExhausted, Unavailable, FailedPrecondition: as `record` does.
        """

    async def tend(self) -> float:
        """Does what is due now and then: what is too old goes, what is amiss is logged.

        Returns:
            In how many seconds to do it again.

        Raises:
            ResourceExhausted, Unavailable: as `record` does.
        """

    async def close(self) -> None:
        """Ends what was begun, and releases what the store holds open."""


def now() -> int:
    """The time, in microseconds since 1970."""
    return time.time_ns() // 1_000


def unavailable(store: str) -> Unavailable:
    """The error of a store that cannot be reached, or not in time."""
    return Unavailable(
        f"the history store ({store}) cannot be reached or fails; "
        "recommendations for a history_item_ids work without it",
        reason="HISTORY_UNAVAILABLE",
        store=store,
    )
