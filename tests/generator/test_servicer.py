"""The generator's RPCs over a real server, bad input first of all."""

import time
from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from core.catalog import Catalog
from services.generator.decoding.engine import Generation, RankingQuery, UserContext
from serving.testing import serving
from serving.validation import attributes_of
from tandem import errors
from tandem.v1 import common_pb2
from tandem.v1 import generator_service_pb2 as pb
from tandem.v1 import generator_service_pb2_grpc as rpc
from tandem.v1.common_pb2 import AttributeValue, ItemConstraints, ItemFilter
from tests.generator.calls import ids, item_ids, make_servicer, parity_is, scores
from tests.generator.made_up import MadeUp

if TYPE_CHECKING:
    from tandem.v1.generator_service_pb2_grpc import GeneratorServiceAsyncStub as Stub


@pytest.fixture
async def stub(made_up: MadeUp) -> AsyncIterator["Stub"]:
    servicer = make_servicer(made_up.bundle, made_up.engine)
    await servicer.warm_up()
    async with serving(servicer, rpc.add_GeneratorServiceServicer_to_server) as channel:
        yield rpc.GeneratorServiceStub(channel)
    await servicer.close()


async def test_generates_what_the_engine_does(made_up: MadeUp, stub: "Stub") -> None:
    answer = await stub.Generate(
        pb.GenerateRequest(context=pb.UserContext(history_item_ids=ids(1, 2)), max_results=5)
    )
    history, engine = np.array([1, 2], dtype=np.int32), made_up.engine
    query = RankingQuery(UserContext(None, history), Generation(5, None, history), None)
    (expected,) = engine.run([engine.prepare(query)])
    assert expected.generated is not None
    assert item_ids(answer.items) == ids(*expected.generated.items)
    assert scores(answer.items) == expected.generated.scores.tolist()
    assert answer.bundle_version == "tiny/1"
    assert not answer.missing_item_ids


async def test_generates_nothing_beside_the_items_that_are_allowed(stub: "Stub") -> None:
    allowed = [*ids(3, 4, 5, 6, 7, 290), "no such item"]
    request = pb.GenerateRequest(
        max_results=50, constraints=ItemConstraints(allowed_item_ids=allowed)
    )
    assert sorted(item_ids((await stub.Generate(request)).items)) == sorted(ids(3, 4, 5, 6, 7, 290))
    request.constraints.filter.CopyFrom(parity_is("even"))
    request.constraints.excluded_item_ids.extend(ids(4))
    assert sorted(item_ids((await stub.Generate(request)).items)) == sorted(ids(6, 290))
    ranked = await stub.Rank(
        pb.RankRequest(
            item_ids=ids(1, 2),
            max_results=50,
            constraints=ItemConstraints(allowed_item_ids=ids(3, 4)),
        )
    )
    assert sorted(item_ids(ranked.generated)) == ids(3, 4)
    assert sorted(item_ids(ranked.reranked)) == ids(1, 2)
    nothing = pb.GenerateRequest(constraints=ItemConstraints(allowed_item_ids=["no such item"]))
    assert not (await stub.Generate(nothing)).items


async def test_generated_items_say_what_they_are(made_up: MadeUp, stub: "Stub") -> None:
    catalog = made_up.engine.snapshot.catalog
    generate = pb.GenerateRequest(item_fields=FieldMask(paths=["title", "attributes"]))
    rank = pb.RankRequest(item_ids=ids(1), item_fields=generate.item_fields)
    for items in ((await stub.Generate(generate)).items, (await stub.Rank(rank)).generated):
        assert len(items) == 10
        for item in items:
            (position,) = catalog.lookup([item.item_id])[0].tolist()
            assert item.title == catalog.items[position].title
            assert attributes_of(item.attributes) == catalog.items[position].attributes
    assert not any(item.title for item in (await stub.Generate(pb.GenerateRequest())).items)
    generate.item_fields.paths.append("code")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Generate(generate)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_a_filter_ends_at_the_deadline(stub: "Stub", monkeypatch: pytest.MonkeyPatch) -> None:
    evaluated = []
    having = Catalog.having

    def slow(self: Catalog, attribute: str, values: Iterable[str | float]) -> np.ndarray:
        evaluated.append(attribute)
        time.sleep(0.02)
        return having(self, attribute, values)

    monkeypatch.setattr(Catalog, "having", slow)
    many = [
        ItemFilter(equals=ItemFilter.Equals(attribute="parity", value=AttributeValue(number=n)))
        for n in range(200)
    ]
    every = ItemConstraints(filter=ItemFilter(any_of=ItemFilter.AnyOf(filters=many)))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Generate(pb.GenerateRequest(constraints=every), timeout=0.3)
    failure = errors.from_rpc(caught.value)
    assert (failure.code, failure.reason) == (
        grpc.StatusCode.DEADLINE_EXCEEDED,
        "DEADLINE_EXCEEDED",
    )
    assert 0 < len(evaluated) <= 0.3 / 0.02


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
            constraints=ItemConstraints(
                excluded_item_ids=[*returned[:50], "no such item"],
                filter=parity_is("even"),
                include_seen=True,
            ),
        )
    )
    again = item_ids(second.items)
    assert len(again) == 100
    assert not set(returned[:50]) & set(again)
    assert all(int(item[1:]) % 2 == 0 for item in again)


async def test_the_list_ends_where_the_allowed_items_do(stub: "Stub") -> None:
    everything_else = [f"i{p}" for p in range(300) if p not in (7, 8)]
    answer = await stub.Generate(
        pb.GenerateRequest(
            max_results=10, constraints=ItemConstraints(excluded_item_ids=everything_else)
        )
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
    constraints = ItemConstraints(excluded_item_ids=ids(10, 11, 12), filter=parity_is("even"))
    shortlist = ids(3, 10, 20, 30, 41)
    both = await stub.Rank(
        pb.RankRequest(
            context=context,
            item_ids=shortlist,
            max_results=7,
            constraints=constraints,
        )
    )
    generated = await stub.Generate(
        pb.GenerateRequest(context=context, max_results=7, constraints=constraints)
    )
    reranked = await stub.Rerank(pb.RerankRequest(context=context, item_ids=shortlist))
    assert item_ids(both.generated) == item_ids(generated.items)
    assert scores(both.generated) == pytest.approx(scores(generated.items), abs=1e-4)
    assert item_ids(both.reranked) == item_ids(reranked.items)
    assert scores(both.reranked) == pytest.approx(scores(reranked.items), abs=1e-4)
    assert sorted(item_ids(both.reranked)) == sorted(shortlist)  # seen and excluded ones too
    assert both.bundle_version == "tiny/1"
    assert (both.batch_size, len(both.timings)) == (1, 3)


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
            pb.GenerateRequest(constraints=ItemConstraints(excluded_item_ids=["i1"] * 10_001)),
            "TOO_MANY_ITEMS",
            id="excluded",
        ),
        pytest.param(
            pb.RankRequest(
                item_ids=["i1"], constraints=ItemConstraints(allowed_item_ids=["i1"] * 10_001)
            ),
            "TOO_MANY_ITEMS",
            id="allowed",
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
            pb.GenerateRequest(constraints=ItemConstraints(filter=common_pb2.ItemFilter())),
            "EMPTY_FILTER",
            id="empty filter",
        ),
        pytest.param(
            pb.GenerateRequest(constraints=ItemConstraints(filter=UNKNOWN_ATTRIBUTE)),
            "UNKNOWN_ATTRIBUTE",
            id="attribute",
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
            pb.RankRequest(
                item_ids=["i1"], constraints=ItemConstraints(excluded_item_ids=["x" * 600])
            ),
            "ID_TOO_LONG",
            id="rank without a long id",
        ),
        pytest.param(
            pb.RankRequest(item_ids=["i1"], constraints=ItemConstraints(filter=UNKNOWN_ATTRIBUTE)),
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
    servicer = make_servicer(made_up.bundle, made_up.engine)
    async with serving(servicer, rpc.add_GeneratorServiceServicer_to_server) as channel:
        raw: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
            "/tandem.v1.GeneratorService/Generate"
        )
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await raw(b"\x0a\x05\x12\x03\xff\xfe\xfd")  # a history item that is not UTF-8
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    await servicer.close()
