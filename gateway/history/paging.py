"""Reading a history page by page, from the newest event to the oldest."""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.history.event import Event
from gateway.history.store import HistoryStore
from serving.validation import MAX_HISTORY


@dataclass(frozen=True)
class Cursor:
    """The event that a page ended with."""

    time: int
    """Microseconds since 1970."""
    event_id: str


@dataclass(frozen=True)
class PageQuery:
    """A page of a user's history to read."""

    user_id: str
    size: int
    after: Cursor | None = None
    """What the page before ended with; None for the first page."""


@dataclass(frozen=True)
class Page:
    """Some events of a history, newest first."""

    events: Sequence[Event]
    more: bool
    """Whether there are older ones."""


async def read_page(histories: HistoryStore, query: PageQuery) -> Page:
    """Reads a page. What is recorded meanwhile is newer, so that it moves no page.

    Raises:
        Unavailable: reason HISTORY_UNAVAILABLE.
    """
    if query.after is None:
        older = await histories.events(query.user_id, query.size + 1)
    else:
        kept = await histories.events(query.user_id, MAX_HISTORY)
        older = kept[: _place(kept, query.after)]
    return Page(older[-query.size :][::-1], more=len(older) > query.size)


async def read_all(histories: HistoryStore, user_id: str) -> list[Event]:
    """All events that are kept of a user: the history's and then the others, oldest first.

    Raises:
        Unavailable: reason HISTORY_UNAVAILABLE.
    """
    history = await histories.events(user_id, MAX_HISTORY)
    return history + await histories.events(user_id, MAX_HISTORY, in_history=False)


def _place(events: Sequence[Event], cursor: Cursor) -> int:
    """Where the cursor's event is among events, oldest first; else, where it would be."""
    for place, event in enumerate(events):
        if event.event_id == cursor.event_id or event.time > cursor.time:
            return place
    return len(events)
