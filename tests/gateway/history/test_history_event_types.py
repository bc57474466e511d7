"""Events with a type, a value, a position and the answer that they came of; of both stores."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import tandem
from core.errors import SettingsError
from gateway.history import Event, Recorded, Retention
from gateway.history.sqlite import SqliteHistoryStore, partitions
from gateway.history.sqlite.partitions import PARTITIONS, Partitions
from gateway.settings import GatewaySettings
from serving.settings import load_settings
from tandem.v1 import recommendation_service_pb2 as pb
from tests.gateway.redis_server import RedisServer, opened_redis
from tests.gateway.stack import Stack, raw, running
from tests.tiny_bundle import write_tiny_bundle


@pytest.fixture
async def stack(history_flags: dict[str, Any], tmp_path: Path) -> AsyncIterator[Stack]:
    flags = history_flags | {"history_max_other_events": 3, "history_timeout": 5.0}
    flags |= {"history_event_types": "click, purchase,own.type"}
    async with running(write_tiny_bundle(tmp_path), **flags) as stack:
        await stack.servicer.warm_up()
        yield stack


async def history(stack: Stack, user: str = "dee") -> list[str]:
    return [event.item_id for event in (await stack.client.get_history(user)).events][::-1]


async def test_the_models_read_the_types_that_are_named(stack: Stack) -> None:
    types = ["", "interaction", "click", "purchase", "own.type", "impression", "rating", "other"]
    events = [tandem.event("dee", f"i{n}", type=each) for n, each in enumerate(types)]
    assert (await stack.client.record_events(events)).recorded == len(types)
    assert await history(stack) == ["i0", "i1", "i2", "i3", "i4"]
    answer = await stack.client.recommend("dee", strategy="embedding", max_results=20)
    assert list(stack.candidate.requests[-1].history_item_ids) == [f"i{n}" for n in range(5)]
    assert "i5" in {item.item_id for item in answer.recommendations}  # seen, and not clicked


async def test_others_take_no_room_in_a_history(stack: Stack) -> None:
    await stack.client.record_events([tandem.event("dee", "i1", type="click")])
    seen = [tandem.event("dee", f"i{n}", type="impression") for n in range(9)]
    for _ in range(2):
        await stack.client.record_events(seen)
    assert await history(stack) == ["i1"]
    others = await stack.servicer.histories.events("dee", 99, in_history=False)
    assert [event.item_id for event in others] == ["i6", "i7", "i8"]
    assert (await stack.client.delete_user("dee")).deleted_events == 4
    assert await stack.servicer.histories.events("dee", 99, in_history=False) == []


async def test_an_identifier_is_of_all_types(stack: Stack) -> None:
    first = tandem.event("dee", "i1", event_id="e", type="impression")
    again = tandem.event("dee", "i1", event_id="e", type="click")
    assert (await stack.client.record_events([first, again])).known == 1
    with pytest.raises(tandem.NotFound):
        await stack.client.get_history("dee")


async def test_an_event_is_read_back_as_it_was_sent(stack: Stack) -> None:
    shown = await stack.client.recommend("ann", max_results=4)
    item = shown.recommendations[2].item_id
    sent = tandem.event(
        "dee", item, type="purchase", value=9.5, recommendation_id=shown.recommendation_id
    )
    moved = tandem.event("dee", item, type="click", value=0.0, position=7)
    answer = await stack.client.record_events([sent, moved])
    assert (answer.recorded, answer.unattributed) == (2, 0)
    second, first = (await stack.client.get_history("dee")).events
    assert (first.type, first.value, first.position) == ("purchase", 9.5, 3)
    assert first.recommendation_id == shown.recommendation_id[:16]
    assert (second.type, second.position, second.recommendation_id) == ("click", 7, "")
    assert second.HasField("value")
    (kept, _) = await stack.servicer.histories.events("dee", 9)
    assert kept.shown is not None
    assert (kept.shown.strategy, kept.shown.bundle_version) == ("rerank", "tiny/1")
    assert kept.shown.score == pytest.approx(shown.recommendations[2].score)


async def test_an_answer_that_is_not_known_costs_no_event(stack: Stack) -> None:
    shown = await stack.client.recommend("ann", max_results=2)
    own = shown.recommendation_id
    other = own[:-9] + ("A" if own[-9] != "A" else "B") + own[-8:]
    item = shown.recommendations[0].item_id
    events = [
        tandem.event("dee", item, recommendation_id=other),
        tandem.event("dee", "i0", recommendation_id=own),  # not of that list
        tandem.event("dee", item, recommendation_id="é"),
        tandem.event("dee", item, recommendation_id=own),
    ]
    answer = await stack.client.record_events(events)
    assert (answer.recorded, answer.unattributed) == (4, 3)
    kept = await stack.servicer.histories.events("dee", 9)
    assert [event.shown is not None for event in kept] == [False, False, False, True]


def wrong(**fields: Any) -> pb.Event:
    return pb.Event(event_id="e", user_id="dee", item_id="i1", **fields)


@pytest.mark.parametrize(
    ("event", "reason", "field"),
    [
        (wrong(type="x" * 65), "INVALID_EVENT_TYPE", "type"),
        (wrong(type="a b"), "INVALID_EVENT_TYPE", "type"),
        (wrong(type="é"), "INVALID_EVENT_TYPE", "type"),
        (wrong(type="a\n"), "INVALID_EVENT_TYPE", "type"),
        (wrong(value=float("nan")), "NOT_FINITE", "value"),
        (wrong(value=float("inf")), "NOT_FINITE", "value"),
        (wrong(position=-1), "NEGATIVE_POSITION", "position"),
        (wrong(recommendation_id="x" * 2_049), "ID_TOO_LONG", "recommendation_id"),
    ],
)
async def test_what_an_event_may_not_say(
    stack: Stack, event: pb.Event, reason: str, field: str
) -> None:
    fine = tandem.event("dee", "i1")
    with pytest.raises(tandem.InvalidArgument) as caught:
        await raw(stack.channel, "RecordEvents", pb.RecordEventsRequest(events=[fine, event]))
    assert (caught.value.reason, caught.value.metadata["field"]) == (reason, f"events[1].{field}")
    with pytest.raises(tandem.NotFound):
        await stack.client.get_history("dee")


def test_a_type_that_is_none_is_refused_at_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="'a b' is no type"):
        load_settings(GatewaySettings, {}, bundle=tmp_path, history_event_types="click,a b")


VERSION_2 = """
CREATE TABLE events_{n} (
    user_id TEXT NOT NULL,
    time INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    event_id TEXT NOT NULL,
    item_id TEXT NOT NULL,
    PRIMARY KEY (user_id, time, sequence)
) WITHOUT ROWID;
CREATE TABLE ids_{n} (
    user_id TEXT NOT NULL,
    event BLOB NOT NULL,
    time INTEGER NOT NULL,
    PRIMARY KEY (user_id, event)
) WITHOUT ROWID;
"""
FACTS = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO facts VALUES
    ('schema', '2'), ('seed', 'tiny/1'), ('salt', '00112233445566778899aabbccddeeff');
CREATE TABLE deleted_users (user BLOB PRIMARY KEY, time INTEGER NOT NULL) WITHOUT ROWID;
"""


async def test_a_file_of_the_version_before_is_taken_over(tmp_path: Path) -> None:
    path, users = tmp_path / "history.sqlite", [f"user {n}" for n in range(300)]
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(FACTS + "".join(VERSION_2.format(n=n) for n in range(PARTITIONS)))
        of = Partitions.of_file(connection).of
        for user in users:
            for place in range(3):
                row = (user, 5, place, f"e{place}", f"i{place}")
                query = partitions.sql("INSERT INTO events_{n} VALUES (?, ?, ?, ?, ?)", of(user))
                connection.execute(query, row)
    for _ in range(2):
        store = SqliteHistoryStore.open(path, Retention(events=4))
        assert await store.seed() == "tiny/1"
        for user in users:
            kept = [Event(f"e{n}", user, f"i{n}", 5) for n in range(3)]
            assert await store.events(user, 9) == kept
        await store.close()
    store = SqliteHistoryStore.open(path, Retention(events=4))
    click = Event("new", "user 7", "i9", 5, "click", 2.0)
    seen = replace(click, event_id="seen", type="impression", in_history=False)
    assert await store.record([click, seen]) == Recorded(new=2)
    assert await store.history("user 7") == ("i0", "i1", "i2", "i9")
    assert (await store.events("user 7", 1)) == [click]
    assert await store.events("user 7", 9, in_history=False) == [seen]
    assert await store.delete("user 7") == 5
    await store.close()


async def test_a_redis_of_the_version_before_is_read(redis: RedisServer, tmp_path: Path) -> None:
    redis.command("FLUSHALL")
    for number in (1, 2):
        member = f"{number:016}e{number}\udcffi{number}"  # the byte 255, escaped
        redis.command("ZADD", "tandem:history:events:ann", str(number), member)
        redis.command("ZADD", "tandem:history:ids:ann", str(number), f"e{number}")
    redis.command("HSET", "tandem:history:state:ann", "version", "x")
    redis.command("SET", "tandem:history:arrivals", "2")
    async with opened_redis(redis, Retention(), tmp_path, timeout=30) as store:
        assert await store.events("ann", 9) == [Event(f"e{n}", "ann", f"i{n}", n) for n in (1, 2)]
        seen = Event("e3", "ann", "i3", 2, "impression", in_history=False)
        click = Event("e4", "ann", "i4", 2, "click", 0.5)
        again = Event("e1", "ann", "i1", 2)
        assert await store.record([seen, click, again]) == Recorded(new=2, known=1)
        assert await store.history("ann") == ("i1", "i2", "i4")
        assert await store.delete("ann") == 4
        assert redis.command("KEYS", "*ann*") == [""]
