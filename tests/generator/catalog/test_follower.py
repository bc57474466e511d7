"""A generator that follows a catalog: over a real connection, with everything that can break."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pytest
from structlog.testing import capture_logs

from services.generator.catalog import follower as module
from services.generator.catalog.client import CatalogFeed
from services.generator.catalog.coded import CodedCatalog, CodedChange
from services.generator.catalog.follower import Follower, Refusal
from services.generator.decoding.engine import GeneratorEngine
from services.generator.servicer import GeneratorServicer
from serving.background import Backoff
from serving.testing import serving
from tandem.v1 import common_pb2
from tandem.v1 import generator_service_pb2 as pb
from tandem.v1 import generator_service_pb2_grpc as rpc
from tests.generator.calls import item_ids
from tests.generator.catalog.fake_catalog import FakeCatalog
from tests.generator.made_up import MadeUp
from tests.processes import PATIENCE

if TYPE_CHECKING:
    from tandem.v1.generator_service_pb2_grpc import GeneratorServiceAsyncStub as Stub


async def until(condition: Callable[[], bool]) -> None:
    """Polls a condition that no event tells of."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


class Recorder(GeneratorEngine):
    """An engine that remembers the catalogs of all that are made of it, one after another."""

    def __init__(self, engine: GeneratorEngine, versions: list[CodedCatalog]) -> None:
        super().__init__(engine.parts, versions[-1])
        self.versions = versions

    def over(self, snapshot: CodedCatalog) -> GeneratorEngine:
        if snapshot is not self.versions[-1]:
            self.versions.append(snapshot)
        return Recorder(self, self.versions)

    def has(self, item_id: str) -> bool:
        return has(self.versions[-1], item_id)


def has(snapshot: CodedCatalog, item_id: str) -> bool:
    return len(snapshot.catalog.lookup([item_id])[0]) == 1


@pytest.fixture
def engine(made_up: MadeUp) -> Recorder:
    return Recorder(made_up.engine, [made_up.engine.snapshot])


@pytest.fixture
def free(engine: Recorder) -> list[list[int]]:
    """Codes that no item has."""
    codes = engine.snapshot.codes
    levels = [np.unique(column) for column in codes.T]
    taken = set(map(tuple, codes.tolist()))
    every = np.stack(np.meshgrid(*levels, indexing="ij"), axis=-1).reshape(-1, len(levels))
    return [row for row in every.tolist() if tuple(row) not in taken]


@pytest.fixture
async def catalog(made_up: MadeUp) -> AsyncIterator[FakeCatalog]:
    catalog = FakeCatalog(made_up.bundle.version)  # type: ignore[abstract]
    yield catalog
    await catalog.stop()


@pytest.fixture
async def follower(engine: Recorder, catalog: FakeCatalog) -> AsyncIterator[Follower]:
    feed = CatalogFeed(await catalog.start(), "tiny/1", silence=PATIENCE)
    follower = Follower(engine, feed, Backoff(first=0.01, limit=0.05))
    follower.start()
    yield follower
    await follower.close()


async def caught_up(follower: Follower, catalog: FakeCatalog) -> None:
    await until(lambda: follower.progress.sequence == catalog.sequence)


def is_color(value: str) -> common_pb2.ItemFilter:
    equals = common_pb2.ItemFilter.Equals(
        attribute="color", value=common_pb2.AttributeValue(text=value)
    )
    return common_pb2.ItemFilter(equals=equals)


async def generated(stub: "Stub", color: str) -> list[str]:
    answer = await stub.Generate(
        pb.GenerateRequest(constraints=common_pb2.ItemConstraints(filter=is_color(color))),
        timeout=PATIENCE,
    )
    return item_ids(answer.items)


async def test_a_new_item_is_generated_and_a_removed_one_is_not(
    made_up: MadeUp, engine: Recorder, catalog: FakeCatalog, free: list[list[int]]
) -> None:
    follower = Follower(engine, CatalogFeed(await catalog.start(), "tiny/1"))
    servicer = GeneratorServicer(follower, {}, made_up.bundle.version)
    await servicer.warm_up()
    await servicer.activate(None)
    async with serving(servicer, rpc.add_GeneratorServiceServicer_to_server) as channel:
        stub: Stub = rpc.GeneratorServiceStub(channel)
        await catalog.upsert("new", free[0], "<new>", color="red", weight=2.5)
        await catalog.upsert("i5", free[1], "<moved>", color="red")
        await caught_up(follower, catalog)
        assert sorted(await generated(stub, "red")) == ["i5", "new"]
        request = pb.RerankRequest(item_ids=["new", "i7", "ghost"])
        answer = await stub.Rerank(request, timeout=PATIENCE)
        assert sorted(item_ids(answer.items)) == ["i7", "new"]
        assert answer.missing_item_ids == ["ghost"]
        assert answer.catalog_sequence == catalog.sequence == 2
        position = follower.engine.snapshot.catalog.lookup(["new"])[0][0]
        item = follower.engine.snapshot.catalog.items[position]
        assert item.attributes == {"color": ("red",), "weight": (2.5,)}
        assert (item.title, item.text) == ("New", "This is new")
        await catalog.delete("new")
        await caught_up(follower, catalog)
        assert await generated(stub, "red") == ["i5"]
    await servicer.close()
    await catalog.upsert("late", free[2], "<late>", color="red")
    assert not engine.has("late")


async def test_it_serves_the_bundle_until_the_candidate_comes_and_what_it_has_when_that_goes(
    engine: Recorder, follower: Follower, catalog: FakeCatalog, free: list[list[int]]
) -> None:
    await catalog.stop()
    with capture_logs() as logs:
        for number in range(3):
            await catalog.upsert(f"new{number}", free[number], "<new>")
            await catalog.start()
            await caught_up(follower, catalog)
            assert engine.has(f"new{number}")
            await catalog.stop()
            await until(lambda n=number: len(outages(logs)) > n)  # type: ignore[misc]
            assert engine.has(f"new{number}")
    # Each time it asked for what came after the last change that it had made.
    assert [after for after in catalog.asked if after] == sorted(
        after for after in catalog.asked if after
    )
    assert {1, 2} <= set(catalog.asked)
    assert follower.progress.restarts == 0
    # However long they are, outages are logged once each.
    assert len(outages(logs)) <= 2 * 3 + 1


def outages(logs: Iterable[Mapping[str, object]]) -> list[Mapping[str, object]]:
    return [line for line in logs if line["event"] == "catalog not followed"]


async def test_a_catalog_that_was_restored_is_followed_anew_beside_the_one_that_is_served(
    engine: Recorder, follower: Follower, catalog: FakeCatalog, free: list[list[int]]
) -> None:
    for number in range(6):
        await catalog.upsert(f"new{number}", free[number], "<new>")
    await catalog.delete("i3")
    await caught_up(follower, catalog)
    await catalog.stop()
    catalog.restore(4)
    before = len(engine.versions)
    await catalog.start()
    await until(lambda: follower.progress.restarts == 1 and not engine.has("new5"))
    assert [engine.has(f"new{n}") for n in range(6)] == [True] * 4 + [False] * 2
    assert engine.has("i3")
    # What was there before and after was there throughout; and no two versions are one to batches.
    for snapshot in engine.versions[before - 1 :]:
        assert all(has(snapshot, f"new{n}") for n in range(4))
    numbers = [snapshot.version for snapshot in engine.versions]
    assert len(set(numbers)) == len(numbers)


async def test_a_candidate_with_another_bundle_is_not_followed(
    engine: Recorder, follower: Follower, catalog: FakeCatalog, free: list[list[int]]
) -> None:
    await catalog.upsert("new", free[0], "<new>")
    await caught_up(follower, catalog)
    await catalog.stop()
    catalog.bundle_version = "tiny/2"
    await catalog.upsert("newer", free[1], "<newer>")
    asked = len(catalog.asked)
    await catalog.start()
    await until(lambda: len(catalog.asked) > asked + 1)
    assert engine.has("new")  # what it has is all that it can have
    assert not engine.has("newer")
    await catalog.stop()
    catalog.bundle_version = "tiny/1"
    await catalog.delete("new")
    await catalog.start()
    await until(lambda: engine.has("newer"))
    assert not engine.has("new")
    assert catalog.asked[-1] == 0


async def test_what_cannot_be_applied_is_skipped_and_said_once(
    engine: Recorder, follower: Follower, catalog: FakeCatalog, free: list[list[int]]
) -> None:
    taken = engine.snapshot.codes[7].tolist()
    with capture_logs() as logs:
        await catalog.upsert("thief", taken, "<taken>")
        await catalog.upsert("short", free[0][:1], "<short>")
        await catalog.upsert("strange", [*free[0][:-1], 1_000_000], "<strange>")
        await catalog.upsert("new", free[0], "<new>")
        await caught_up(follower, catalog)
        await catalog.upsert("newer", free[1], "<newer>")
        await caught_up(follower, catalog)
        await until(lambda: follower.progress.refused == 3)
    assert [engine.has(i) for i in ("thief", "short", "strange", "new", "newer")] == [
        False, False, False, True, True,
    ]  # fmt: skip
    refused = {
        (line["item_id"], line["reason"])
        for line in logs
        if line["event"] == "catalog change refused"
    }
    assert refused == {
        ("thief", "CODE_TAKEN"),
        ("short", "INVALID_CODE"),
        ("strange", "INVALID_CODE"),
    }
    assert follower.progress.refused == 3
    # A code that becomes free goes to whoever waits for it.
    await catalog.delete("i7")
    await caught_up(follower, catalog)
    assert engine.has("thief")


async def test_codes_that_change_hands_arrive_in_any_order(
    engine: Recorder, catalog: FakeCatalog, free: list[list[int]]
) -> None:
    """Of an item that changed twice only the last change comes, after what it made room for."""
    catalog.chunk = 1
    await catalog.upsert("first", free[0], "<one>")
    follower = Follower(engine, CatalogFeed(await catalog.start(), "tiny/1"))
    follower.start()
    await caught_up(follower, catalog)
    await catalog.stop()
    await catalog.upsert("first", free[1], "<two>")
    await catalog.upsert("second", free[0], "<one>")
    await catalog.upsert("first", free[2], "<three>")
    await catalog.start()
    await caught_up(follower, catalog)
    await follower.close()
    found = follower.engine.snapshot.catalog.lookup(["first", "second"])[0]
    assert follower.engine.snapshot.codes[found].tolist() == [free[2], free[0]]
    assert follower.progress.refused == 0


async def test_a_peer_that_falls_silent_is_left(
    engine: Recorder, catalog: FakeCatalog, free: list[list[int]]
) -> None:
    catalog.heartbeat = None
    feed = CatalogFeed(await catalog.start(), "tiny/1", silence=0.05)
    follower = Follower(engine, feed, Backoff(first=0.0, limit=0.0))
    follower.start()
    await until(lambda: len(catalog.asked) >= 3)
    await catalog.upsert("new", free[0], "<new>")
    await caught_up(follower, catalog)
    await follower.close()


async def test_the_event_loop_is_free_while_a_version_is_made(
    engine: Recorder,
    follower: Follower,
    catalog: FakeCatalog,
    free: list[list[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate, entered, real = threading.Event(), threading.Event(), module.make

    def slow(
        snapshot: CodedCatalog, changes: Iterable[CodedChange]
    ) -> tuple[CodedCatalog, list[Refusal]]:
        entered.set()
        assert gate.wait(PATIENCE)
        return real(snapshot, changes)

    monkeypatch.setattr(module, "make", slow)
    await catalog.upsert("new", free[0], "<new>")
    await until(entered.is_set)
    assert not engine.has("new")
    gate.set()
    await caught_up(follower, catalog)
    assert engine.has("new")
