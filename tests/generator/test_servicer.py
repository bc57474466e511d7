"""The generator's RPCs over a real server, bad input first of all."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest

from runtime.testing import serving
from runtime.workers import Workers
from services.generator.engine import Context, GenerateQuery
from services.generator.servicer import GeneratorServicer
from tandem import errors
from tandem.v1 import common_pb2
from tandem.v1 import generator_service_pb2 as pb
from tandem.v1 import generator_service_pb2_grpc as rpc
from tests.generator.made_up import MadeUp

if TYPE_CHECKING:
    from tandem.v1.generator_service_pb2_grpc import GeneratorServiceAsyncStub as Stub


@pytest.fixture
async def stub(made_up: MadeUp) -> AsyncIterator["Stub"]:
    servicer = GeneratorServicer(made_up.bundle, made_up.engine, Workers(1))
    await servicer.warm_up()
    async with serving(servicer, rpc.add_GeneratorServiceServicer_to_server) as channel:
        yield rpc.GeneratorServiceStub(channel)
    await servicer.close()


def ids(*positions: int) -> list[str]:
    return [f"i{p}" for p in positions]


def parity_is(value: str) -> common_pb2.ItemFilter:
    equals = common_pb2.ItemFilter.Equals(
        attribute="parity", value=common_pb2.AttributeValue(text=value)
    )
    return common_pb2.ItemFilter(equals=equals)


async def test_generates_what_the_engine_does(made_up: MadeUp, stub: "Stub") -> None:
    answer = await stub.Generate(
        pb.GenerateRequest(context=pb.UserContext(history_item_ids=ids(1, 2)), max_results=5)
    )
    history = np.array([1, 2], dtype=np.int32)
    (expected,) = made_up.engine.generate([GenerateQuery(Context(None, history), 5, None, history)])
    assert [item.item_id for item in answer.items] == ids(*expected.items)
    assert [item.score for item in answer.items] == expected.scores.tolist()
    assert answer.bundle_version == "tiny/1"
    assert not answer.missing_item_ids


async def test_leaves_out_what_it_is_told_to(stub: "Stub") -> None:
    first = await stub.Generate(
        pb.GenerateRequest(context=pb.UserContext(history_item_ids=ids(0, 1)), max_results=100)
    )
    returned = [item.item_id for item in first.items]
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
    again = [item.item_id for item in second.items]
    assert len(again) == 100
    assert not set(returned[:50]) & set(again)
    assert all(int(item[1:]) % 2 == 0 for item in again)


async def test_the_list_ends_where_the_allowed_items_do(stub: "Stub") -> None:
    everything_else = [f"i{p}" for p in range(300) if p not in (7, 8)]
    answer = await stub.Generate(
        pb.GenerateRequest(max_results=10, excluded_item_ids=everything_else)
    )
    assert sorted(item.item_id for item in answer.items) == ids(7, 8)


async def test_zero_and_too_many_results(stub: "Stub") -> None:
    assert len((await stub.Generate(pb.GenerateRequest())).items) == 10
    assert len((await stub.Generate(pb.GenerateRequest(max_results=2**31 - 1))).items) == 100


async def test_unknown_items_are_named_and_do_not_fail_the_call(stub: "Stub") -> None:
    context = pb.UserContext(user_id="nobody", history_item_ids=["x", "i1", "y", "x"])
    generated = await stub.Generate(pb.GenerateRequest(context=context))
    assert list(generated.missing_item_ids) == ["x", "y"]
    reranked = await stub.Rerank(pb.RerankRequest(context=context, item_ids=["i3", "z", "i3"]))
    assert list(reranked.missing_item_ids) == ["x", "y", "z"]
    assert [item.item_id for item in reranked.items] == ["i3"]
    nothing = await stub.Rerank(pb.RerankRequest(item_ids=["z"]))
    assert not nothing.items


async def test_reranks_best_first(stub: "Stub") -> None:
    answer = await stub.Rerank(pb.RerankRequest(item_ids=ids(*range(299, -1, -1))))
    scores = [item.score for item in answer.items]
    assert len(scores) == 300
    assert scores == sorted(scores, reverse=True)


UNKNOWN_ATTRIBUTE = common_pb2.ItemFilter(
    equals=common_pb2.ItemFilter.Equals(
        attribute="color", value=common_pb2.AttributeValue(text="red")
    )
)
MILLION = ["i1"] * 1_000_000


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
    ],
)
async def test_bad_requests_are_the_callers_mistake(
    stub: "Stub", request_: pb.GenerateRequest | pb.RerankRequest, reason: str
) -> None:
    call = stub.Generate if isinstance(request_, pb.GenerateRequest) else stub.Rerank
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(request_)  # type: ignore[arg-type]  # each gets its own kind
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert errors.from_rpc(caught.value).reason == reason


async def test_bytes_that_are_no_message_are_the_callers_mistake(made_up: MadeUp) -> None:
    servicer = GeneratorServicer(made_up.bundle, made_up.engine, Workers(1))
    async with serving(servicer, rpc.add_GeneratorServiceServicer_to_server) as channel:
        raw: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
            "/tandem.v1.GeneratorService/Generate"
        )
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await raw(b"\x0a\x05\x12\x03\xff\xfe\xfd")  # a history item that is not UTF-8
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    await servicer.close()
