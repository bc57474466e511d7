"""Messages of the history's methods: checked and read, and written."""

import base64
import hashlib
import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from core.errors import InvalidArgument
from gateway.attribution.ids import MAX_BYTES, Recommendation, RecommendationIds
from gateway.history.event import INTERACTION, Event, Shown, is_type
from gateway.history.paging import Cursor, Page, PageQuery
from gateway.history.store import DAY, MICROSECONDS, Recorded, now
from serving import validation as edge
from tandem.v1 import recommendation_service_pb2 as pb

MAX_EVENTS: Final = 1_000
DEFAULT_PAGE: Final = 100
MAX_PAGE: Final = 1_000


@dataclass(frozen=True)
class EventRules:
    """What a server makes of events."""

    ids: RecommendationIds
    """Reads the ids of the answers that they came of."""
    history_types: Collection[str]
    """What the models read."""


def read_events(request: pb.RecordEventsRequest, rules: EventRules) -> tuple[list[Event], int]:
    """Checks the events to record.

    Returns:
        The events, and how many name an answer that is not known or did not show their item.

    Raises:
        InvalidArgument: there are none or too many, or one of them breaks a rule; `field` says
            which and where.
    """
    messages = request.events
    if not messages:
        raise InvalidArgument("there is no event to record", reason="NO_EVENTS")
    if len(messages) > MAX_EVENTS:
        raise InvalidArgument(
            f"there are {len(messages)} events; send at most {MAX_EVENTS} in a call",
            reason="TOO_MANY_EVENTS",
            limit=str(MAX_EVENTS),
        )
    received, answers = now(), _Answers(rules.ids)
    events = [
        _read_event(message, f"events[{place}]", received, rules, answers)
        for place, message in enumerate(messages)
    ]
    return events, answers.unknown


def read_user(user_id: str) -> str:
    """Checks the identifier of a user.

    Raises:
        InvalidArgument: it is empty or too long.
    """
    return edge.identifier(user_id, field="user_id")


def read_page(request: pb.GetHistoryRequest) -> PageQuery:
    """Checks a page to read.

    Raises:
        InvalidArgument: the user, the size or the token breaks a rule of the contract.
    """
    user_id = read_user(request.user_id)
    size = edge.page_size(request.page_size, default=DEFAULT_PAGE, limit=MAX_PAGE)
    if not request.page_token:
        return PageQuery(user_id, size)
    return PageQuery(user_id, size, _read_token(request.page_token, user_id))


def write_recorded(
    recorded: Recorded, unattributed: int, bundle_version: str
) -> pb.RecordEventsResponse:
    """Writes what became of the events."""
    return pb.RecordEventsResponse(
        recorded=recorded.new,
        known=recorded.known,
        outdated=recorded.outdated,
        unattributed=unattributed,
        bundle_version=bundle_version,
    )


def write_page(page: Page, bundle_version: str) -> pb.GetHistoryResponse:
    """Writes a page of a history."""
    return pb.GetHistoryResponse(
        events=map(write_event, page.events),
        next_page_token=_write_token(page.events[-1]) if page.more else "",
        bundle_version=bundle_version,
    )


def read_merge(request: pb.MergeUsersRequest) -> tuple[str, str]:
    """Checks whose events are to be whose.

    Raises:
        InvalidArgument: one is empty or too long, or both are the same.
    """
    source = edge.identifier(request.source_user_id, field="source_user_id")
    target = edge.identifier(request.user_id, field="user_id")
    if source == target:
        raise InvalidArgument("a user cannot be merged into itself", reason="SAME_USER")
    return source, target


def write_stored(event: Event) -> pb.StoredEvent:
    """Writes an event with all that is stored of it."""
    shown = event.shown
    return pb.StoredEvent(
        event=write_event(event),
        in_history=event.in_history,
        attribution=None
        if shown is None
        else pb.Attribution(
            recommendation_id=shown.recommendation,
            strategy=shown.strategy,
            position=shown.position,
            score=shown.score,
            variant=shown.variant,
            bundle_version=shown.bundle_version,
        ),
    )


def write_event(event: Event) -> pb.Event:
    """Writes an event."""
    message = pb.Event(
        event_id=event.event_id,
        user_id=event.user_id,
        item_id=event.item_id,
        type="" if event.type == INTERACTION else event.type,
        value=event.value,
        position=event.place,
        recommendation_id=event.shown.recommendation if event.shown else "",
    )
    message.event_time.FromMicroseconds(event.time)
    return message


class _Answers:
    """The answers that the events of a call name, each read once."""

    def __init__(self, ids: RecommendationIds) -> None:
        self._ids = ids
        self._read: dict[str, Recommendation | None] = {}
        self.unknown = 0
        """Of the events: those whose answer is not known, or did not show their item."""

    def shown(self, recommendation_id: str, item_id: str) -> Shown | None:
        """How an answer showed an item."""
        if recommendation_id not in self._read:
            self._read[recommendation_id] = self._ids.read(recommendation_id)
        answer = self._read[recommendation_id]
        shown = answer.shown(item_id) if answer else None
        self.unknown += shown is None
        return shown


def _read_event(
    message: pb.Event, where: str, received: int, rules: EventRules, answers: _Answers
) -> Event:
    for name in ("event_id", "user_id", "item_id"):
        edge.identifier(getattr(message, name), field=f"{where}.{name}")
    kind = message.type or INTERACTION
    _check_details(message, kind, where)
    answer = message.recommendation_id
    return Event(
        message.event_id,
        message.user_id,
        message.item_id,
        _read_time(message, where, received),
        kind,
        message.value if message.HasField("value") else None,
        message.position,
        answers.shown(answer, message.item_id) if answer else None,
        in_history=kind in rules.history_types,
    )


def _check_details(message: pb.Event, kind: str, where: str) -> None:
    if not is_type(kind):
        raise InvalidArgument(
            f"{where}.type is no name of 1 to 64 letters, digits, dots, dashes and underscores",
            reason="INVALID_EVENT_TYPE",
            field=f"{where}.type",
        )
    if not math.isfinite(message.value):
        raise InvalidArgument(
            f"{where}.value is {message.value}; give a finite number",
            reason="NOT_FINITE",
            field=f"{where}.value",
        )
    if message.position < 0:
        raise InvalidArgument(
            f"{where}.position is {message.position}; positions are from 1, and 0 is for none",
            reason="NEGATIVE_POSITION",
            field=f"{where}.position",
        )
    if len(message.recommendation_id) > MAX_BYTES:
        raise InvalidArgument(
            f"{where}.recommendation_id is over {MAX_BYTES} bytes",
            reason="ID_TOO_LONG",
            field=f"{where}.recommendation_id",
        )


def _read_time(message: pb.Event, where: str, received: int) -> int:
    if not message.HasField("event_time"):
        return received
    seconds, nanoseconds = message.event_time.seconds, message.event_time.nanos
    time = seconds * MICROSECONDS + nanoseconds // 1_000
    if not 0 <= nanoseconds < 1_000_000_000 or not 0 <= time <= received + DAY:
        raise InvalidArgument(
            f"{where}.event_time is {seconds} s {nanoseconds} ns after 1970; give a time from 1970 "
            "to a day from now",
            reason="TIME_OUT_OF_RANGE",
            field=f"{where}.event_time",
        )
    return time


def _write_token(last: Event) -> str:
    """Writes what `_read_token` reads: the event that a page ends with."""
    text = f"{_digest(last.user_id)}.{last.time}.{last.event_id}"
    return base64.urlsafe_b64encode(text.encode()).decode()


def _read_token(token: str, user_id: str) -> Cursor:
    try:
        text = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True).decode()
    except ValueError:
        raise edge.page_token_error() from None
    owner, _, position = text.partition(".")
    time, _, event_id = position.partition(".")
    if owner != _digest(user_id) or not (time.isascii() and time.isdecimal() and len(time) < 20):
        raise edge.page_token_error()
    return Cursor(int(time), event_id)


def _digest(user_id: str) -> str:
    """Tells users apart without naming them: tokens end up in logs."""
    return hashlib.blake2b(user_id.encode(), digest_size=8).hexdigest()
