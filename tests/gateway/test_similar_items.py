"""`SimilarItems`: passed through as it is, and with the real candidate service every bad input."""

import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

import tandem
from core.bundle import Bundle
from gateway.servicer import RecommendationServicer
from gateway.settings import GatewaySettings
from gateway.shared import Shared
from services.candidate.catalog.live import LiveCatalog
from services.candidate.retrieval.similarity import SimilarityOptions
from services.candidate.servicer import CandidateServicer
from serving.testing import listening
from serving.workers import Workers
from tandem import filters
from tandem.v1 import candidate_service_pb2 as candidate_pb
from tandem.v1 import candidate_service_pb2_grpc as candidate_grpc
from tandem.v1 import recommendation_service_pb2 as pb
from tandem.v1 import recommendation_service_pb2_grpc as pb_grpc
from tandem.v1.common_pb2 import (
    VECTOR_SPACE_BEHAVIOR,
    ItemConstraints,
    ItemFilter,
    SimilarityQuery,
    Vector,
)
from tests.candidate.made_up import CONTENT, make_world, positions
from tests.gateway.stack import Stack, raw
from tests.tiny_bundle import write_tiny_bundle

WORLD = make_world()


@pytest.fixture
async def stub(tmp_path: Path) -> AsyncIterator["pb_grpc.RecommendationServiceAsyncStub"]:
    path = write_tiny_bundle(tmp_path)
    candidate = CandidateServicer(LiveCatalog(WORLD.engine), "made-up/1", Workers(1))
    async with listening(
        candidate, candidate_grpc.add_CandidateServiceServicer_to_server
    ) as address:
        settings = GatewaySettings(
            bundle=path,
            history="bundle",
            candidate_target=address,
            generator_target="127.0.0.1:1",
        )
        shared = Shared(settings)
        servicer = RecommendationServicer(Bundle.open(path), shared)
        async with (
            listening(servicer, pb_grpc.add_RecommendationServiceServicer_to_server) as gateway,
            grpc.aio.insecure_channel(gateway) as channel,
        ):
            yield pb_grpc.RecommendationServiceStub(channel)
        await shared.close()
    await candidate.close()


def items(*item_ids: str) -> SimilarityQuery.ItemList:
    return SimilarityQuery.ItemList(item_ids=item_ids)


def vector(*values: float) -> Vector:
    return Vector(values=values)


def asking(**fields: Any) -> pb.SimilarItemsRequest:
    return pb.SimilarItemsRequest(query=SimilarityQuery(**fields))


async def test_it_answers(stub: "pb_grpc.RecommendationServiceAsyncStub") -> None:
    response = await stub.SimilarItems(asking(items=items("i1", "x")))
    assert len(response.items) == 10
    assert list(response.missing_item_ids) == ["x"]
    assert response.bundle_version == "made-up/1"
    response = await stub.SimilarItems(asking(vector=vector(*WORLD.content[4]), max_results=1))
    assert [item.item_id for item in response.items] == ["i4"]


async def test_a_threshold_and_diversity_are_passed_on(
    stub: "pb_grpc.RecommendationServiceAsyncStub",
) -> None:
    request = asking(items=items("i1"), min_score=0.1, diversity=0.6)
    response = await stub.SimilarItems(request)
    expected = WORLD.engine.similar_to_items(positions(1), 10, options=SimilarityOptions(0.1, 0.6))
    assert [item.item_id for item in response.items] == [f"i{i}" for i in expected.items]


BAD = [
    (asking(), "MISSING_QUERY"),
    (asking(items=items()), "NO_ITEMS"),
    (asking(items=items("")), "EMPTY_ID"),
    (asking(items=items(*["i1"] * 1_001)), "TOO_MANY_ITEMS"),
    (asking(items=items(*["i1"] * 1_000_000)), "TOO_MANY_ITEMS"),
    (asking(text=""), "EMPTY_TEXT"),
    (asking(text="é" * 2_049), "TEXT_TOO_LONG"),
    (
        asking(text="x", space=VECTOR_SPACE_BEHAVIOR),
        "TEXT_NEEDS_CONTENT_SPACE",
    ),
    (asking(vector=vector()), "WRONG_DIMENSION"),
    (asking(vector=vector(*[1.0] * (CONTENT + 1))), "WRONG_DIMENSION"),
    (asking(vector=vector(*[math.nan] * CONTENT)), "NOT_FINITE"),
    (asking(vector=vector(*[math.inf] * CONTENT)), "NOT_FINITE"),
    (asking(vector=vector(*[0.0] * CONTENT)), "ZERO_VECTOR"),
    (asking(items=items("i1"), max_results=-1), "NEGATIVE_MAX_RESULTS"),
    (asking(items=items("i1"), min_score=math.nan), "NOT_A_NUMBER"),
    (asking(items=items("i1"), diversity=2.0), "DIVERSITY_OUT_OF_RANGE"),
    (asking(items=items("i1"), space=99), "UNKNOWN_SPACE"),
    (asking(items=items("i1"), constraints=ItemConstraints(filter=ItemFilter())), "EMPTY_FILTER"),
    (
        asking(items=items("i1"), constraints=ItemConstraints(excluded_item_ids=["i1"] * 10_001)),
        "TOO_MANY_ITEMS",
    ),
]


@pytest.mark.parametrize(("request_", "reason"), BAD)
async def test_the_callers_mistake_keeps_its_reason(
    stub: "pb_grpc.RecommendationServiceAsyncStub",
    request_: pb.SimilarItemsRequest,
    reason: str,
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.SimilarItems(request_)
    failure = tandem.errors.from_rpc(caught.value)
    assert isinstance(failure, tandem.InvalidArgument)
    assert failure.reason == reason


async def test_unknown_items_are_not_found(
    stub: "pb_grpc.RecommendationServiceAsyncStub",
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.SimilarItems(asking(items=items("x", "y")))
    failure = tandem.errors.from_rpc(caught.value)
    assert isinstance(failure, tandem.NotFound)
    assert failure.reason == "UNKNOWN_ITEMS"


async def test_it_passes_through(stack: Stack) -> None:
    response = await stack.client.similar_items(
        ["i1", "ghost"],
        space="behavior",
        max_results=3,
        exclude=["i2"],
        filter=filters.equals("genre", "War"),
        only=["i7", "i8"],
        include_seen=True,
    )
    assert [(item.item_id, item.score) for item in response.items] == [("i7", 0.5)]
    assert list(response.missing_item_ids) == ["ghost"]
    (request,) = stack.candidate.requests
    assert request == candidate_pb.SimilarRequest(
        query=SimilarityQuery(
            items=items("i1", "ghost"),
            max_results=3,
            space=VECTOR_SPACE_BEHAVIOR,
            constraints=ItemConstraints(
                excluded_item_ids=["i2"],
                filter=filters.equals("genre", "War").message,
                allowed_item_ids=["i7", "i8"],
                include_seen=True,
            ),
        )
    )


async def test_text_and_vector(stack: Stack) -> None:
    await stack.client.similar_items(text="")
    await stack.client.similar_items(vector=[0.5, -1.0])
    text, vector = (request.query for request in stack.candidate.requests)
    assert text.WhichOneof("target") == "text"
    assert list(vector.vector.values) == [0.5, -1.0]


@pytest.mark.parametrize(
    "arguments", [{}, {"items": ["a"], "text": "b"}, {"text": "b", "vector": [1.0]}]
)
async def test_the_client_wants_exactly_one_query(stack: Stack, arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="exactly one"):
        await stack.client.similar_items(**arguments)


async def test_bytes_that_are_no_message(stack: Stack) -> None:
    with pytest.raises(tandem.InvalidArgument) as caught:
        await raw(stack.channel, "SimilarItems", b"\x0a\x04\x12\x02\xff\xfe")
    assert caught.value.reason == "MALFORMED_MESSAGE"
