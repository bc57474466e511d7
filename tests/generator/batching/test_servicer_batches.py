"""Calls that come while the model is busy share runs, leave, are shed, and see one catalog."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from unittest.mock import Mock

import grpc
import pytest

from core.catalog import Delete
from core.errors import ResourceExhausted
from services.generator.batching import Limits
from services.generator.catalog.coded import CodedUpsert
from services.generator.decoding.engine import (
    DecodingJob,
    GeneratorEngine,
    RankingAnswer,
    RankingQuery,
)
from services.generator.servicer import GeneratorServicer
from serving.testing import serving
from tandem import errors
from tandem.v1 import generator_service_pb2 as pb
from tandem.v1 import generator_service_pb2_grpc as rpc
from tandem.v1.common_pb2 import ItemConstraints
from tests.generator.calls import ids, item_ids, make_servicer, parity_is, scores
from tests.generator.made_up import MadeUp

if TYPE_CHECKING:
    from tandem.v1.generator_service_pb2_grpc import GeneratorServiceAsyncStub as Stub

PATIENCE = 30.0
"""Seconds after which a test gives up; nothing is expected to take that long."""


class HeldEngine(GeneratorEngine):
    """An engine whose runs go on when they are let to, and so does what prepares them."""

    def __init__(self, engine: GeneratorEngine) -> None:
        super().__init__(engine.parts, engine.snapshot)
        self.runs: list[int] = []
        """How many jobs each had."""
        self.started, self.let = threading.Semaphore(0), threading.Semaphore(0)
        self.prepared = 0
        self.preparing, self.prepare_on = threading.Event(), threading.Event()
        self.prepare_on.set()

    def prepare(self, query: RankingQuery) -> DecodingJob:
        self.prepared += 1
        self.preparing.set()
        assert self.prepare_on.wait(PATIENCE)
        return super().prepare(query)

    def run(self, jobs: Sequence[DecodingJob]) -> list[RankingAnswer]:
        self.runs.append(len(jobs))
        self.started.release()
        assert self.let.acquire(timeout=PATIENCE)
        return super().run(jobs)


@dataclass
class Busy:
    """A server that is busy with a first call, and what it takes to go on."""

    stub: "Stub"
    model: HeldEngine
    servicer: GeneratorServicer
    first: "asyncio.Future[pb.GenerateResponse]"

    async def until_waiting(self, calls: int) -> None:
        """Lets the event loop turn until so many calls wait."""
        async with asyncio.timeout(PATIENCE):
            while self.servicer.queue.ready != calls:  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0)


@asynccontextmanager
async def busy(made_up: MadeUp, limits: Limits) -> AsyncIterator[Busy]:
    model = HeldEngine(made_up.engine)
    servicer = make_servicer(made_up.bundle, model, limits)
    async with serving(servicer, rpc.add_GeneratorServiceServicer_to_server) as channel:
        stub: Stub = rpc.GeneratorServiceStub(channel)
        first = asyncio.ensure_future(stub.Generate(pb.GenerateRequest()))
        assert await asyncio.to_thread(model.started.acquire, timeout=PATIENCE)
        try:
            yield Busy(stub, model, servicer, first)
        finally:
            model.let.release(1_000)
            await first
            await servicer.close()


async def test_calls_that_come_meanwhile_share_a_run_and_are_told(made_up: MadeUp) -> None:
    requests = [
        pb.GenerateRequest(context=pb.UserContext(history_item_ids=ids(i, i + 1))) for i in range(5)
    ]
    async with busy(made_up, Limits(batch=8)) as server:
        calls = [server.stub.Generate(request) for request in requests]
        await server.until_waiting(5)
        server.model.let.release(1_000)
        together = [await call for call in calls]
        alone = [await server.stub.Generate(request) for request in requests]
    assert server.model.runs == [1, 5, 1, 1, 1, 1, 1]
    assert [answer.batch_size for answer in together] == [5] * 5
    for one, other in zip(together, alone, strict=True):
        assert item_ids(one.items) == item_ids(other.items)
        assert scores(one.items) == pytest.approx(scores(other.items), abs=1e-4)
        assert [timing.stage for timing in one.timings] == ["prepare", "queue", "model"]
        assert all(timing.duration.ToNanoseconds() > 0 for timing in one.timings)


async def test_whoever_leaves_costs_nothing(made_up: MadeUp) -> None:
    """A call that is cancelled, and one whose deadline passes, while the model is busy."""
    async with busy(made_up, Limits()) as server:
        gone = server.stub.Generate(pb.GenerateRequest())
        await server.until_waiting(1)
        gone.cancel()
        await server.until_waiting(0)
        late = server.stub.Rank(pb.RankRequest(item_ids=ids(1)), timeout=1.0)
        await server.until_waiting(1)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await late
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        await server.until_waiting(0)
        kept = server.stub.Generate(pb.GenerateRequest())
        await server.until_waiting(1)
        server.model.let.release(2)
        await kept
    assert server.model.runs == [1, 1]


async def test_a_full_queue_sheds_with_a_delay(made_up: MadeUp) -> None:
    async with busy(made_up, Limits(queue=2)) as server:
        server.model.let.release()  # one run, to learn how long one takes
        await server.first
        calls = [server.stub.Generate(pb.GenerateRequest())]
        assert await asyncio.to_thread(server.model.started.acquire, timeout=PATIENCE)
        calls += [server.stub.Generate(pb.GenerateRequest()) for _ in range(2)]
        await server.until_waiting(2)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await server.stub.Generate(pb.GenerateRequest())
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        shed = errors.from_rpc(caught.value)
        assert shed.reason == "QUEUE_FULL"
        assert shed.retry_after is not None
        assert shed.retry_after > 0
        server.model.let.release(2)
        assert [len((await call).items) for call in calls] == [10, 10, 10]


async def test_a_call_has_its_place_before_it_is_prepared(made_up: MadeUp) -> None:
    engine = HeldEngine(made_up.engine)
    engine.prepare_on.clear()
    engine.let.release()
    servicer = make_servicer(made_up.bundle, engine, Limits(queue=1))
    gone = asyncio.create_task(servicer.Generate(pb.GenerateRequest(), Mock()))
    assert await asyncio.to_thread(engine.preparing.wait, PATIENCE)
    with pytest.raises(ResourceExhausted):
        await servicer.Generate(pb.GenerateRequest(), Mock())
    assert engine.prepared == 1
    gone.cancel()
    await asyncio.wait({gone})
    kept = asyncio.create_task(servicer.Generate(pb.GenerateRequest(), Mock()))
    engine.prepare_on.set()
    assert len((await kept).items) == 10
    assert engine.runs == [1]
    await servicer.close()


async def test_what_cannot_be_prepared_frees_its_place(made_up: MadeUp) -> None:
    unknown = parity_is("even")
    unknown.equals.attribute = "none"
    request = pb.GenerateRequest(constraints=ItemConstraints(filter=unknown))
    async with busy(made_up, Limits(queue=1)) as server:
        for _ in range(3):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await server.stub.Generate(request)
            assert errors.from_rpc(caught.value).reason == "UNKNOWN_ATTRIBUTE"
        kept = server.stub.Generate(pb.GenerateRequest())
        await server.until_waiting(1)
        server.model.let.release(2)
        assert len((await kept).items) == 10


async def test_a_call_sees_one_version_of_the_catalog(made_up: MadeUp) -> None:
    old = made_up.engine.snapshot
    renamed = CodedUpsert(
        replace(old.catalog.items[1], item_id="renamed"), old.code_texts[1], old.codes[1].tolist()
    )
    new = old.apply([Delete("i1"), renamed])
    request = pb.RankRequest(
        item_ids=["i1", "renamed"],
        constraints=ItemConstraints(excluded_item_ids=ids(*range(10, 300))),
    )
    async with busy(made_up, Limits()) as server:
        call = server.stub.Rank(request)
        await server.until_waiting(1)
        server.servicer.follower.engine = made_up.engine.over(new)
        later = server.stub.Rank(request)
        await server.until_waiting(2)
        server.model.let.release(3)
        before, after = await call, await later
    assert item_ids(before.reranked) == ["i1"]
    assert list(before.missing_item_ids) == ["renamed"]
    assert item_ids(after.reranked) == ["renamed"]
    assert list(after.missing_item_ids) == ["i1"]
    assert "i1" in item_ids(before.generated)
    assert item_ids(after.generated) == [
        "renamed" if item == "i1" else item for item in item_ids(before.generated)
    ]
    assert server.model.runs == [1, 1, 1]
