"""`ExportUser` and `MergeUsers` of a gateway, on SQLite and on a real Redis."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import tandem
from tandem.v1 import recommendation_service_pb2 as pb
from tests.gateway.redis_server import RedisServer, opened_redis, redis_flags
from tests.gateway.stack import Stack, raw, running
from tests.tiny_bundle import write_tiny_bundle

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
async def stack(history_flags: dict[str, Any], tmp_path: Path) -> AsyncIterator[Stack]:
    flags = history_flags | {"history_max_events": 1_500, "history_timeout": 5.0}
    async with running(write_tiny_bundle(tmp_path), **flags) as stack:
        await stack.servicer.warm_up()
        yield stack


def event(number: int, user: str, **more: Any) -> pb.Event:
    when = NOW + timedelta(minutes=number)
    return tandem.event(user, f"i{number}", event_id=f"e{number}", event_time=when, **more)


async def exported(stack: Stack, user: str) -> list[pb.StoredEvent]:
    return [each async for each in stack.client.export_user(user)]


async def test_all_that_is_stored_is_exported(stack: Stack) -> None:
    answer = await stack.client.recommend("ann", max_results=3)
    item = answer.recommendations[1].item_id
    seen = tandem.event("dee", item, type="impression", recommendation_id=answer.recommendation_id)
    sent = [event(n, "dee") for n in range(1_100)]
    for part in ([seen], sent[:600], sent[600:]):
        await stack.client.record_events(part)
    *history, other = await exported(stack, "dee")
    assert [each.event for each in history] == sent
    assert all(each.in_history and not each.HasField("attribution") for each in history)
    assert (other.in_history, other.event.type) == (False, "impression")
    shown = other.attribution
    assert shown.recommendation_id == answer.recommendation_id[:16]
    assert (shown.strategy, shown.position, shown.bundle_version) == ("rerank", 2, "tiny/1")
    assert shown.score == pytest.approx(answer.recommendations[1].score)
    await stack.client.delete_user("dee")
    with pytest.raises(tandem.NotFound) as caught:
        await exported(stack, "dee")
    assert caught.value.reason == "UNKNOWN_USER"


async def test_an_anonymous_users_events_become_the_users(stack: Stack) -> None:
    shown = await stack.client.recommend("ann", max_results=1)
    item = shown.recommendations[0].item_id
    name = shown.recommendation_id
    await stack.client.record_events([event(1, "dee"), event(4, "dee")])
    anonymous = [
        event(2, "anon"),
        event(4, "anon"),
        event(3, "anon", type="click"),
        tandem.event("anon", item, type="impression", event_id="seen", recommendation_id=name),
    ]
    await stack.client.record_events(anonymous)
    await stack.client.recommend("dee", strategy="embedding")  # so that it is in memory
    for expected in ((3, 1, 0), (0, 0, 0)):
        merged = await stack.client.merge_users("anon", "dee")
        counts = merged.merged_events, merged.known_events, merged.outdated_events
        assert counts == expected
        with pytest.raises(tandem.NotFound):
            await exported(stack, "anon")
        *history, other = await exported(stack, "dee")
        assert [each.event.item_id for each in history] == ["i1", "i2", "i3", "i4"]
        assert {each.event.user_id for each in history} == {"dee"}
        assert other.attribution.recommendation_id == name[:16]
    await stack.client.recommend("dee", strategy="embedding")
    assert list(stack.candidate.requests[-1].history_item_ids) == ["i1", "i2", "i3", "i4"]
    # What was known of the first is known of the other.
    again = await stack.client.record_events([event(n, "dee") for n in (1, 2, 3, 4)])
    assert (again.recorded, again.known) == (0, 4)


async def test_what_comes_after_a_merge_is_merged_again(stack: Stack) -> None:
    await stack.client.record_events([event(1, "anon")])
    await stack.client.merge_users("anon", "dee")
    await stack.client.record_events([event(1, "anon"), event(2, "anon")])
    merged = await stack.client.merge_users("anon", "dee")
    assert (merged.merged_events, merged.known_events) == (1, 1)
    assert len(await exported(stack, "dee")) == 2


async def test_a_deleted_user_may_get_events(stack: Stack) -> None:
    await stack.client.delete_user("ann")
    await stack.client.record_events([event(1, "anon")])
    assert (await stack.client.merge_users("anon", "ann")).merged_events == 1
    assert [each.event.item_id for each in await exported(stack, "ann")] == ["i1"]


async def test_merges_beside_records_lose_nothing(stack: Stack) -> None:
    calls: list[Any] = []
    for number in range(40):
        calls += [stack.client.record_events([event(number, "anon")])]
        if number % 4 == 0:
            calls += [stack.client.merge_users("anon", "dee")]
    await asyncio.gather(*calls)
    await stack.client.merge_users("anon", "dee")
    assert [each.event.item_id for each in await exported(stack, "dee")] == [
        f"i{n}" for n in range(40)
    ]


async def test_nothing_is_left_of_who_was_merged(stack: Stack, tmp_path: Path) -> None:
    events = [event(n, "anonymous-7f3a", type="impression" if n % 2 else "") for n in range(400)]
    await stack.client.record_events(events)
    await stack.client.merge_users("anonymous-7f3a", "dee")
    for name in ("history.sqlite", "history.sqlite-wal"):
        file = tmp_path / name  # neither is there with Redis
        assert not file.exists() or b"anonymous-7f3a" not in file.read_bytes()


async def test_redis_has_no_key_of_who_was_merged(redis: RedisServer, tmp_path: Path) -> None:
    redis.command("FLUSHALL")
    flags = redis_flags(redis, tmp_path) | {"history_timeout": 5.0, "history_days": 9_000.0}
    async with running(write_tiny_bundle(tmp_path), **flags) as stack:
        await stack.client.record_events([event(1, "anon"), event(2, "anon", type="impression")])
        await stack.client.merge_users("anon", "dee")
    assert redis.command("KEYS", "*anon*") == [""]
    keys = redis.command("KEYS", "*dee*")
    assert len(keys) == 4
    assert all(int(redis.command("PTTL", key)[0]) > 0 for key in keys)
    # It is deleted for the other gateways, too.
    async with opened_redis(redis, None, tmp_path / "other", timeout=30) as other:
        assert await other.history("anon") is None
        assert await other.history("dee") == ("i1",)


@pytest.mark.parametrize(
    ("source", "user", "reason"),
    [("", "dee", "EMPTY_ID"), ("dee", "", "EMPTY_ID"), ("dee", "dee", "SAME_USER"),
     ("x" * 513, "dee", "ID_TOO_LONG"), ("dee", "x" * 513, "ID_TOO_LONG")],
)  # fmt: skip
async def test_who_cannot_be_merged(stack: Stack, source: str, user: str, reason: str) -> None:
    await stack.client.record_events([event(1, "dee")])
    request = pb.MergeUsersRequest(source_user_id=source, user_id=user)
    with pytest.raises(tandem.InvalidArgument) as caught:
        await raw(stack.channel, "MergeUsers", request)
    assert caught.value.reason == reason
    assert len(await exported(stack, "dee")) == 1


async def test_a_bundles_histories_are_exported_and_not_merged(tmp_path: Path) -> None:
    async with running(write_tiny_bundle(tmp_path)) as stack:
        assert [each.event.item_id for each in await exported(stack, "ann")] == ["i0", "i1", "i2"]
        with pytest.raises(tandem.FailedPrecondition) as caught:
            await stack.client.merge_users("ann", "bob")
        assert caught.value.reason == "HISTORY_READ_ONLY"
