"""The generator's RPCs over a real server, bad input first of all."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest

from runtime.catalog import Delete
from runtime.testing import serving
from services.generator.batching import Batcher, Limits
from services.generator.coded_catalog import CodedUpsert
from services.generator.engine import Answer, Context, Generation, Job, Query
from services.generator.servicer import GeneratorServicer
from tandem import errors
from tandem.v1 import common_pb2
from tandem.v1 import generator_service_pb2 as pb
from tandem.v1 import generator_service_pb2_grpc as rpc
from tests.generator.made_up import MadeUp

if TYPE_CHECKING:
    from tandem.v1.generator_service_pb2_grpc import GeneratorServiceAsyncStub as Stub

PATIENCE = 30.0


def make_servicer(made_up: MadeUp, batcher: Batcher[Job, Answer]) -> GeneratorServicer:
    users = made_up.bundle.histories.user_index
    return GeneratorServicer(made_up.engine, users, made_up.bundle.version, batcher)


@pytest.fixture
async def stub(made_up: MadeUp) -> AsyncIterator["Stub"]:
    servicer = make_servicer(made_up, Batcher(made_up.engine.run, Limits()))
    await servicer.warm_up()
    async with serving(servicer, rpc.add_GeneratorServiceServicer_to_server) as channel:
        yield rpc.GeneratorServiceStub(channel)
    await servicer.close()


@dataclass
class HeldModel:
    """The engine of a bundle, whose runs go on when they are let to."""

    made_up: MadeUp
    runs: list[int] = field(default_factory=list)
    """How many jobs each had."""
    started: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    let: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def run(self, jobs: Sequence[Job]) -> list[Answer]:
        self.runs.append(len(jobs))
        self.started.release()
        assert self.let.acquire(timeout=PATIENCE)
        return self.made_up.engine.run(jobs)


@dataclass
class Busy:
    """A server that is busy with a first call, and what it takes to go on."""

    stub: "Stub"
    model: HeldModel
    batcher: Batcher[Job, Answer]
    first: "asyncio.Future[pb.GenerateResponse]"

    async def until_waiting(self, calls: int) -> None:
        """Lets the event loop turn until so many calls wait."""
        async with asyncio.timeout(PATIENCE):
            while self.batcher.waiting != calls:  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0)


@asynccontextmanager
async def busy(made_up: MadeUp, limits: Limits) -> AsyncIterator[Busy]:
    model = HeldModel(made_up)
    batcher = Batcher(model.run, limits)
    servicer = make_servicer(made_up, batcher)
    async with serving(servicer, rpc.add_GeneratorServiceServicer_to_server) as channel:
        stub: Stub = rpc.GeneratorServiceStub(channel)
        first = asyncio.ensure_future(stub.Generate(pb.GenerateRequest()))
        assert await asyncio.to_thread(model.started.acquire, timeout=PATIENCE)
        try:
            yield Busy(stub, model, batcher, first)
        finally:
            model.let.release(1_000)
            await first
            await servicer.close()


def ids(*positions: int) -> list[str]:
    return [f"i{p}" for p in positions]


def item_ids(items: Sequence[common_pb2.ScoredItem]) -> list[str]:
    return [item.item_id for item in items]


def scores(items: Sequence[common_pb2.ScoredItem]) -> list[float]:
    return [item.score for item in items]


def parity_is(value: str) -> common_pb2.ItemFilter:
    equals = common_pb2.ItemFilter.Equals(
        attribute="parity", value=common_pb2.AttributeValue(text=value)
    )
    return common_pb2.ItemFilter(equals=equals)


async def test_generates_what_the_engine_does(made_up: MadeUp, stub: "Stub") -> None:
    answer = await stub.Generate(
        pb.GenerateRequest(context=pb.UserContext(history_item_ids=ids(1, 2)), max_results=5)
    )
    history, engine = np.array([1, 2], dtype=np.int32), made_up.engine
    query = Query(Context(None, history), Generation(5, None, history), None)
    (expected,) = engine.run([engine.prepare(query, engine.snapshot)])
    assert expected.generated is not None
    assert item_ids(answer.items) == ids(*expected.generated.items)
    assert scores(answer.items) == expected.generated.scores.tolist()
    assert answer.bundle_version == "tiny/1"
    assert not answer.missing_item_ids


async def test_leaves_out_what_it_is_told_to(stub: "Stub") -> None:
    first = await stub.Generate(
        pb.GenerateRequest(context=pb.UserContext(history_item_ids=ids(0, 1)), max_results=100)
    )
    returned = item_ids(first.items)
    assert len(returned) == 100
    assert not set(ids(0, 1)) & set(returned)
    second = await stub.Generate(
        pb.GenerateRequest(
            context=pb.UserContext(history_item_ids=ids(0, 1)),
            max_results=100,
            excluded_item_ids=[*returned[:50], "no such item"],
            filter=parity_is("even"),
            include_seen=True,
        )
    )
    again = item_ids(second.items)
    assert len(again) == 100
    assert not set(returned[:50]) & set(again)
    assert all(int(item[1:]) % 2 == 0 for item in again)


async def test_the_list_ends_where_the_allowed_items_do(stub: "Stub") -> None:
    everything_else = [f"i{p}" for p in range(300) if p not in (7, 8)]
    answer = await stub.Generate(
        pb.GenerateRequest(max_results=10, excluded_item_ids=everything_else)
    )
    assert sorted(item_ids(answer.items)) == ids(7, 8)


async def test_zero_and_too_many_results(stub: "Stub") -> None:
    assert len((await stub.Generate(pb.GenerateRequest())).items) == 10
    assert len((await stub.Generate(pb.GenerateRequest(max_results=2**31 - 1))).items) == 100
    ranked = await stub.Rank(pb.RankRequest(item_ids=ids(1)))
    assert len(ranked.generated) == 10
    ranked = await stub.Rank(pb.RankRequest(item_ids=ids(1), max_results=101))
    assert len(ranked.generated) == 100


async def test_unknown_items_are_named_and_do_not_fail_the_call(stub: "Stub") -> None:
    context = pb.UserContext(user_id="nobody", history_item_ids=["x", "i1", "y", "x"])
    generated = await stub.Generate(pb.GenerateRequest(context=context))
    assert list(generated.missing_item_ids) == ["x", "y"]
    reranked = await stub.Rerank(pb.RerankRequest(context=context, item_ids=["i3", "z", "i3"]))
    assert list(reranked.missing_item_ids) == ["x", "y", "z"]
    assert item_ids(reranked.items) == ["i3"]
    ranked = await stub.Rank(pb.RankRequest(context=context, item_ids=["i3", "z", "x", "i3"]))
    assert list(ranked.missing_item_ids) == ["x", "y", "z"]
    assert item_ids(ranked.reranked) == ["i3"]


async def test_where_no_item_is_known_there_is_nothing_to_order(stub: "Stub") -> None:
    nothing = await stub.Rerank(pb.RerankRequest(item_ids=["z"]))
    assert not nothing.items
    assert not nothing.timings
    ranked = await stub.Rank(pb.RankRequest(item_ids=["z"]))
    assert not ranked.reranked
    assert len(ranked.generated) == 10


async def test_reranks_best_first(stub: "Stub") -> None:
    answer = await stub.Rerank(pb.RerankRequest(item_ids=ids(*range(299, -1, -1))))
    found = scores(answer.items)
    assert len(found) == 300
    assert found == sorted(found, reverse=True)


async def test_one_call_ranks_both_ways_as_two_calls_do(stub: "Stub") -> None:
    context = pb.UserContext(history_item_ids=ids(3, 4, 5))
    excluded, even = ids(10, 11, 12), parity_is("even")
    shortlist = ids(3, 10, 20, 30, 41)
    both = await stub.Rank(
        pb.RankRequest(
            context=context,
            item_ids=shortlist,
            max_results=7,
            excluded_item_ids=excluded,
            filter=even,
        )
    )
    generated = await stub.Generate(
        pb.GenerateRequest(context=context, max_results=7, excluded_item_ids=excluded, filter=even)
    )
    reranked = await stub.Rerank(pb.RerankRequest(context=context, item_ids=shortlist))
    assert item_ids(both.generated) == item_ids(generated.items)
    assert scores(both.generated) == pytest.approx(scores(generated.items), abs=1e-4)
    assert item_ids(both.reranked) == item_ids(reranked.items)
    assert scores(both.reranked) == pytest.approx(scores(reranked.items), abs=1e-4)
    assert sorted(item_ids(both.reranked)) == sorted(shortlist)  # seen and excluded ones too
    assert both.bundle_version == "tiny/1"
    assert (both.batch_size, len(both.timings)) == (1, 3)


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


async def test_a_call_sees_one_version_of_the_catalog(made_up: MadeUp) -> None:
    old = made_up.engine.snapshot
    renamed = CodedUpsert(
        replace(old.catalog.items[1], item_id="renamed"), old.code_texts[1], old.codes[1].tolist()
    )
    new = old.apply([Delete("i1"), renamed])
    request = pb.RankRequest(item_ids=["i1", "renamed"], excluded_item_ids=ids(*range(10, 300)))
    async with busy(made_up, Limits()) as server:
        call = server.stub.Rank(request)
        await server.until_waiting(1)
        try:
            made_up.engine.swap(new)
            later = server.stub.Rank(request)
            await server.until_waiting(2)
        finally:
            made_up.engine.swap(old)
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


UNKNOWN_ATTRIBUTE = common_pb2.ItemFilter(
    equals=common_pb2.ItemFilter.Equals(
        attribute="color", value=common_pb2.AttributeValue(text="red")
    )
)
MILLION = ["i1"] * 1_000_000

AnyRequest = pb.GenerateRequest | pb.RerankRequest | pb.RankRequest


async def send(stub: "Stub", request: AnyRequest) -> object:
    match request:
        case pb.GenerateRequest():
            return await stub.Generate(request)
        case pb.RerankRequest():
            return await stub.Rerank(request)
        case pb.RankRequest():
            return await stub.Rank(request)


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        pytest.param(pb.GenerateRequest(max_results=-1), "NEGATIVE_MAX_RESULTS", id="negative"),
        pytest.param(
            pb.GenerateRequest(context=pb.UserContext(history_item_ids=MILLION)),
            "TOO_MANY_ITEMS",
            id="a history of a million",
        ),
        pytest.param(
            pb.GenerateRequest(excluded_item_ids=["i1"] * 10_001), "TOO_MANY_ITEMS", id="excluded"
        ),
        pytest.param(
            pb.GenerateRequest(context=pb.UserContext(history_item_ids=[""])),
            "EMPTY_ID",
            id="empty id",
        ),
        pytest.param(
            pb.GenerateRequest(context=pb.UserContext(user_id="u" * 600)), "ID_TOO_LONG", id="user"
        ),
        pytest.param(
            pb.GenerateRequest(filter=common_pb2.ItemFilter()), "EMPTY_FILTER", id="empty filter"
        ),
        pytest.param(
            pb.GenerateRequest(filter=UNKNOWN_ATTRIBUTE), "UNKNOWN_ATTRIBUTE", id="attribute"
        ),
        pytest.param(pb.RerankRequest(), "NO_ITEMS", id="nothing to rerank"),
        pytest.param(
            pb.RerankRequest(item_ids=["i1"] * 1_001), "TOO_MANY_ITEMS", id="too many to rerank"
        ),
        pytest.param(pb.RankRequest(), "NO_ITEMS", id="rank nothing"),
        pytest.param(pb.RankRequest(item_ids=["i1"] * 1_001), "TOO_MANY_ITEMS", id="rank too many"),
        pytest.param(pb.RankRequest(item_ids=["i1", ""]), "EMPTY_ID", id="rank an empty id"),
        pytest.param(
            pb.RankRequest(item_ids=["i1"], max_results=-1),
            "NEGATIVE_MAX_RESULTS",
            id="rank a negative number",
        ),
        pytest.param(
            pb.RankRequest(item_ids=["i1"], excluded_item_ids=["x" * 600]),
            "ID_TOO_LONG",
            id="rank without a long id",
        ),
        pytest.param(
            pb.RankRequest(item_ids=["i1"], filter=UNKNOWN_ATTRIBUTE),
            "UNKNOWN_ATTRIBUTE",
            id="rank by an unknown attribute",
        ),
        pytest.param(
            pb.RankRequest(item_ids=["i1"], context=pb.UserContext(history_item_ids=MILLION)),
            "TOO_MANY_ITEMS",
            id="rank after a history of a million",
        ),
    ],
)
async def test_bad_requests_are_the_callers_mistake(
    stub: "Stub", request_: AnyRequest, reason: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await send(stub, request_)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert errors.from_rpc(caught.value).reason == reason


async def test_bytes_that_are_no_message_are_the_callers_mistake(made_up: MadeUp) -> None:
    servicer = make_servicer(made_up, Batcher(made_up.engine.run, Limits()))
    async with serving(servicer, rpc.add_GeneratorServiceServicer_to_server) as channel:
        raw: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
            "/tandem.v1.GeneratorService/Generate"
        )
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await raw(b"\x0a\x05\x12\x03\xff\xfe\xfd")  # a history item that is not UTF-8
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    await servicer.close()
