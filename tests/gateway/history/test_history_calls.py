"""`RecordEvents`, `GetHistory` and `DeleteUser` of a gateway, on SQLite and on a real Redis."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import tandem
from tandem.v1 import recommendation_service_pb2 as pb
from tests.gateway.stack import Stack, ids, raw, running
from tests.tiny_bundle import write_tiny_bundle

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
async def stack(history_flags: dict[str, Any], tmp_path: Path) -> AsyncIterator[Stack]:
    flags = history_flags | {"history_max_events": 5, "history_timeout": 5.0}
    async with running(write_tiny_bundle(tmp_path), **flags) as stack:
        await stack.servicer.warm_up()
        yield stack


def event(number: int, user: str = "dee") -> pb.Event:
    return tandem.event(
        user, f"i{number}", event_id=f"e{number}", event_time=NOW + timedelta(minutes=number)
    )


async def test_recommendations_follow_what_is_recorded(stack: Stack) -> None:
    with pytest.raises(tandem.NotFound) as caught:
        await stack.client.recommend("dee")
    assert caught.value.reason == "UNKNOWN_USER"
    answer = await stack.client.record_events([event(2), event(1), event(2)])
    assert (answer.recorded, answer.known, answer.outdated) == (2, 1, 0)
    assert answer.bundle_version == "tiny/1"
    recommended = ids(await stack.client.recommend("dee", strategy="embedding", max_results=20))
    assert list(stack.candidate.requests[-1].history_item_ids) == ["i1", "i2"]
    assert not {"i1", "i2"} & set(recommended)
    # Those of the bundle are there from the start, and grow.
    await stack.client.record_events([event(7, "ann")])
    await stack.client.recommend("ann", strategy="embedding")
    assert list(stack.candidate.requests[-1].history_item_ids) == ["i0", "i1", "i2", "i7"]


async def test_a_history_is_shown(stack: Stack) -> None:
    await stack.client.record_events([event(n) for n in range(7)])
    response = await stack.client.get_history("dee")
    assert list(response.events) == [event(n) for n in range(6, 1, -1)]
    assert not response.next_page_token
    response = await stack.client.get_history("dee", page_size=2)
    assert list(response.events) == [event(6), event(5)]
    with pytest.raises(tandem.NotFound) as caught:
        await stack.client.get_history("nobody")
    assert caught.value.reason == "UNKNOWN_USER"


async def test_pages_lead_through_a_history(stack: Stack) -> None:
    await stack.client.record_events([event(n) for n in range(5)])
    first = await stack.client.get_history("dee", page_size=2)
    assert list(first.events) == [event(4), event(3)]
    # What comes meanwhile moves no page; what it drops from a full history is gone from the last.
    await stack.client.record_events([event(9)])
    second = await stack.client.get_history("dee", page_size=2, page_token=first.next_page_token)
    assert list(second.events) == [event(2), event(1)]
    assert not second.next_page_token
    with pytest.raises(tandem.InvalidArgument) as caught:
        await stack.client.get_history("ann", page_token=first.next_page_token)
    assert caught.value.reason == "INVALID_PAGE_TOKEN"


async def test_an_event_without_a_time_happens_now(stack: Stack) -> None:
    before = datetime.now(UTC)
    await stack.client.record_events([tandem.event("dee", "i1"), tandem.event("dee", "i2")])
    second, first = (await stack.client.get_history("dee")).events
    assert (first.item_id, second.item_id) == ("i1", "i2")
    assert before - timedelta(seconds=1) < first.event_time.ToDatetime(UTC) <= datetime.now(UTC)


async def test_an_event_without_a_time_is_recorded_once(stack: Stack) -> None:
    events = [tandem.event("dee", f"i{n}", event_id=f"e{n}") for n in range(9)]
    for each in events:
        assert (await stack.client.record_events([each])).recorded == 1
    kept = (await stack.client.get_history("dee")).events
    assert [each.event_id for each in kept] == ["e8", "e7", "e6", "e5", "e4"]
    # Also the four that have made room for newer ones.
    for _ in range(2):
        answer = await stack.client.record_events(events)
        assert (answer.recorded, answer.known, answer.outdated) == (0, 9, 0)
    assert (await stack.client.get_history("dee")).events == kept


async def test_a_deleted_user_is_unknown(stack: Stack) -> None:
    for user, count in (("ann", 3), ("ann", 0), ("nobody", 0)):
        assert (await stack.client.delete_user(user)).deleted_events == count
    with pytest.raises(tandem.NotFound):
        await stack.client.recommend("ann")


async def test_many_calls_at_once(stack: Stack) -> None:
    calls = [
        stack.client.record_events([event(n, f"user {user}") for n in range(5)])
        for user in range(20)
        for _ in range(3)
    ]
    answers = await asyncio.gather(*calls)
    assert sum(answer.recorded for answer in answers) == 100
    assert sum(answer.known for answer in answers) == 200


def record(*events: Any) -> pb.RecordEventsRequest:
    return pb.RecordEventsRequest(events=events)


def changed(**fields: Any) -> pb.Event:
    made = pb.Event()
    made.CopyFrom(event(1))
    for name, value in fields.items():
        if name in ("seconds", "nanos"):
            setattr(made.event_time, name, value)
        else:
            setattr(made, name, value)
    return made


def page(token: str) -> pb.GetHistoryRequest:
    return pb.GetHistoryRequest(user_id="ann", page_token=token)


TOMORROW = int(datetime.now(UTC).timestamp()) + 2 * 86_400
BAD: list[tuple[str, Any, str, str]] = [
    ("RecordEvents", record(), "NO_EVENTS", ""),
    ("RecordEvents", record(*[event(1)] * 1_001), "TOO_MANY_EVENTS", ""),
    ("RecordEvents", record(event(0), changed(event_id="")), "EMPTY_ID", "events[1].event_id"),
    ("RecordEvents", record(changed(user_id="")), "EMPTY_ID", "events[0].user_id"),
    ("RecordEvents", record(changed(item_id="")), "EMPTY_ID", "events[0].item_id"),
    ("RecordEvents", record(changed(event_id="é" * 257)), "ID_TOO_LONG", "events[0].event_id"),
    ("RecordEvents", record(changed(user_id="x" * 513)), "ID_TOO_LONG", "events[0].user_id"),
    ("RecordEvents", record(changed(item_id="x" * 513)), "ID_TOO_LONG", "events[0].item_id"),
    ("RecordEvents", record(changed(seconds=-1)), "TIME_OUT_OF_RANGE", "events[0].event_time"),
    (
        "RecordEvents",
        record(changed(seconds=TOMORROW)),
        "TIME_OUT_OF_RANGE",
        "events[0].event_time",
    ),
    ("RecordEvents", record(changed(seconds=2**62)), "TIME_OUT_OF_RANGE", "events[0].event_time"),
    ("RecordEvents", record(changed(nanos=10**9)), "TIME_OUT_OF_RANGE", "events[0].event_time"),
    ("RecordEvents", record(changed(nanos=-1)), "TIME_OUT_OF_RANGE", "events[0].event_time"),
    ("RecordEvents", b"\x0a\x03\x0a\x01\xff", "MALFORMED_MESSAGE", ""),
    ("GetHistory", pb.GetHistoryRequest(), "EMPTY_ID", "user_id"),
    ("GetHistory", pb.GetHistoryRequest(user_id="x" * 513), "ID_TOO_LONG", "user_id"),
    (
        "GetHistory",
        pb.GetHistoryRequest(user_id="ann", page_size=-1),
        "NEGATIVE_PAGE_SIZE",
        "",
    ),
    ("GetHistory", page("none of ours"), "INVALID_PAGE_TOKEN", ""),
    ("GetHistory", page("é"), "INVALID_PAGE_TOKEN", ""),
    ("GetHistory", page("AAAA"), "INVALID_PAGE_TOKEN", ""),
    ("GetHistory", page("x" * 100_000), "INVALID_PAGE_TOKEN", ""),
    ("DeleteUser", pb.DeleteUserRequest(), "EMPTY_ID", "user_id"),
    ("DeleteUser", pb.DeleteUserRequest(user_id="x" * 513), "ID_TOO_LONG", "user_id"),
]


async def test_the_callers_mistakes_have_reasons_and_record_nothing(stack: Stack) -> None:
    for method, request, reason, field in BAD:
        with pytest.raises(tandem.InvalidArgument) as caught:
            await raw(stack.channel, method, request)
        assert (caught.value.reason, caught.value.metadata.get("field", "")) == (reason, field)
    with pytest.raises(tandem.NotFound):
        await stack.client.get_history("dee")


async def test_the_largest_and_the_smallest_of_everything(stack: Stack) -> None:
    longest = "é" * 256
    ends = [changed(event_id=longest, user_id=longest, item_id=longest, seconds=0, nanos=0)]
    answer = pb.RecordEventsResponse.FromString(
        await raw(stack.channel, "RecordEvents", record(*ends))
    )
    assert answer.recorded == 1
    request = pb.GetHistoryRequest(user_id=longest, page_size=2**31 - 1)
    shown = pb.GetHistoryResponse.FromString(await raw(stack.channel, "GetHistory", request))
    assert list(shown.events) == ends


async def test_the_bundles_own_histories_cannot_be_changed(tmp_path: Path) -> None:
    async with running(write_tiny_bundle(tmp_path), history="bundle") as stack:
        await stack.servicer.warm_up()
        for call in (stack.client.record_events([event(1)]), stack.client.delete_user("ann")):
            with pytest.raises(tandem.FailedPrecondition) as caught:
                await call
            assert caught.value.reason == "HISTORY_READ_ONLY"
        shown = (await stack.client.get_history("ann", page_size=2)).events
        assert [each.item_id for each in shown] == ["i2", "i1"]


def test_an_event_needs_a_time_zone() -> None:
    with pytest.raises(ValueError, match="time zone"):
        tandem.event("ann", "i1", event_time=datetime(2026, 1, 1))
    assert tandem.event("ann", "i1").event_id != tandem.event("ann", "i1").event_id
