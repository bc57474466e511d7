"""What a user did with an item, and what a store writes of it beside user, item and time."""

import json
import re
from dataclasses import dataclass
from typing import Final

INTERACTION: Final = "interaction"
"""The type of an event that names none."""
IMPRESSION: Final = "impression"
"""The type of one by which an item was seen."""
CLICK: Final = "click"
_TYPE: Final = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


@dataclass(frozen=True)
class Shown:
    """How an item came to be shown: its place in an answer of the gateway."""

    recommendation: str
    """The name of the answer, 16 characters."""
    strategy: str
    """What made it: a strategy, `popularity` or `similar`."""
    position: int
    """Of the item in the list, from 1."""
    score: float
    """Of the item, as the answer had it, to the precision of 32 bits."""
    variant: str = ""
    """The variant of an experiment; empty for none."""
    bundle_version: str = ""


@dataclass(frozen=True)
class Event:
    """What a user did with an item."""

    event_id: str
    """Unique among the user's events: recording it again changes nothing."""
    user_id: str
    item_id: str
    time: int
    """When it happened: microseconds since 1970."""
    type: str = INTERACTION
    """Such as `click`."""
    value: float | None = None
    """Such as a price or a rating."""
    position: int = 0
    """Where the user saw the item, from 1, as the caller says; 0 where it does not."""
    shown: Shown | None = None
    """The answer that it came of; None where that is not known."""
    in_history: bool = True
    """Whether the models read it. The others are kept apart, so that they take no room there."""

    @property
    def place(self) -> int:
        """Where the user saw the item, from 1: as the caller says, or else as the answer had it."""
        return self.position or (self.shown.position if self.shown else 0)


def is_type(name: str) -> bool:
    """Whether a name may be a type."""
    return _TYPE.fullmatch(name) is not None


def split_types(names: str) -> list[str]:
    """Types that are separated by commas."""
    return [name.strip() for name in names.split(",") if name.strip()]


def write_details(event: Event) -> str:
    """What there is beside ids and time, as JSON; empty for an event that has no more."""
    if event.shown is None and (event.type, event.value, event.position) == (INTERACTION, None, 0):
        return ""
    shown = event.shown
    parts = () if shown is None else (
        shown.recommendation, shown.strategy, shown.position, shown.score, shown.variant,
        shown.bundle_version,
    )  # fmt: skip
    row = [event.type, event.value, event.position, *parts]
    return json.dumps(row, ensure_ascii=False, separators=(",", ":"))


def read_event(
    event_id: str, user_id: str, item_id: str, time: int, details: str, *, in_history: bool
) -> Event:
    """An event, from what `write_details` wrote of it."""
    if not details:
        return Event(event_id, user_id, item_id, time, in_history=in_history)
    kind, value, position, *parts = json.loads(details)
    shown = Shown(*parts) if parts else None
    return Event(event_id, user_id, item_id, time, kind, value, position, shown, in_history)
