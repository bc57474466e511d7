"""Messages of the history's methods: checked and read, and written."""

from collections.abc import Iterable
from typing import Final

from core.errors import InvalidArgument
from gateway.history.store import DAY, MICROSECONDS, Event, Recorded, now
from serving import validation as edge
from tandem.v1 import recommendation_service_pb2 as pb

MAX_EVENTS: Final = 1_000
DEFAULT_SHOWN: Final = 100


def read_events(request: pb.RecordEventsRequest) -> list[Event]:
    """Checks the events to record.

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
    received = now()
    return [_read_event(message, place, received) for place, message in enumerate(messages)]


def read_user(user_id: str) -> str:
    """Checks the identifier of a user.

    Raises:
        InvalidArgument: it is empty or too long.
    """
    return edge.identifier(user_id, field="user_id")


def read_shown(request: pb.GetHistoryRequest) -> int:
    """How many events to show.

    Raises:
        InvalidArgument: less than none.
    """
    return edge.result_count(request.max_results, default=DEFAULT_SHOWN, limit=edge.MAX_HISTORY)


def write_recorded(recorded: Recorded, bundle_version: str) -> pb.RecordEventsResponse:
    """Writes what became of the events."""
    return pb.RecordEventsResponse(
        recorded=recorded.new,
        known=recorded.known,
        outdated=recorded.outdated,
        bundle_version=bundle_version,
    )


def write_history(events: Iterable[Event], bundle_version: str) -> pb.GetHistoryResponse:
    """Writes a history."""
    return pb.GetHistoryResponse(events=map(write_event, events), bundle_version=bundle_version)


def write_event(event: Event) -> pb.Event:
    """Writes an event."""
    message = pb.Event(event_id=event.event_id, user_id=event.user_id, item_id=event.item_id)
    message.time.FromMicroseconds(event.time)
    return message


def _read_event(message: pb.Event, place: int, received: int) -> Event:
    where = f"events[{place}]"
    for name in ("event_id", "user_id", "item_id"):
        edge.identifier(getattr(message, name), field=f"{where}.{name}")
    return Event(
        message.event_id, message.user_id, message.item_id, _read_time(message, where, received)
    )


def _read_time(message: pb.Event, where: str, received: int) -> int:
    if not message.HasField("time"):
        return received
    seconds, nanoseconds = message.time.seconds, message.time.nanos
    time = seconds * MICROSECONDS + nanoseconds // 1_000
    if not 0 <= nanoseconds < 1_000_000_000 or not 0 <= time <= received + DAY:
        raise InvalidArgument(
            f"{where}.time is {seconds} s {nanoseconds} ns after 1970; give a time from 1970 to a "
            "day from now",
            reason="TIME_OUT_OF_RANGE",
            field=f"{where}.time",
        )
    return time
