"""`SimilarItems` through the gateway with the real candidate service: every bad input."""

import math
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

import tandem
from gateway.clients import CandidateClient, GeneratorClient
from gateway.servicer import RecommendationServicer
from gateway.settings import GatewaySettings
from runtime.bundle import Bundle
from runtime.testing import listening
from runtime.workers import Workers
from services.candidate.servicer import CandidateServicer
from tandem.v1 import candidate_service_pb2 as candidate_pb
from tandem.v1 import candidate_service_pb2_grpc as candidate_grpc
from tandem.v1 import recommendation_service_pb2 as pb
from tandem.v1 import recommendation_service_pb2_grpc as pb_grpc
from tandem.v1.common_pb2 import ItemFilter
from tests.candidate.made_up import CONTENT, make_catalog, make_world
from tests.tiny_bundle import write_tiny_bundle

WORLD = make_world()


@pytest.fixture
async def stub(tmp_path: Path) -> AsyncIterator["pb_grpc.RecommendationServiceAsyncStub"]:
    path = write_tiny_bundle(tmp_path)
    candidate = CandidateServicer(WORLD.engine, make_catalog(WORLD), "made-up/1", Workers(1))
    async with listening(
        candidate, candidate_grpc.add_CandidateServiceServicer_to_server
    ) as address:
        servicer = RecommendationServicer(
            Bundle.open(path),
            GatewaySettings(bundle=path),
            CandidateClient(address, "made-up/1"),
            GeneratorClient("127.0.0.1:1", "made-up/1"),
        )
        async with (
            listening(servicer, pb_grpc.add_RecommendationServiceServicer_to_server) as gateway,
            grpc.aio.insecure_channel(gateway) as channel,
        ):
            yield pb_grpc.RecommendationServiceStub(channel)
        await servicer.close()
    await candidate.close()


def items(*item_ids: str) -> candidate_pb.ItemsQuery:
    return candidate_pb.ItemsQuery(item_ids=item_ids)


def vector(*values: float) -> candidate_pb.VectorQuery:
    return candidate_pb.VectorQuery(values=values)


async def test_it_answers(stub: "pb_grpc.RecommendationServiceAsyncStub") -> None:
    response = await stub.SimilarItems(pb.SimilarItemsRequest(items=items("i1", "x")))
    assert len(response.items) == 10
    assert list(response.missing_item_ids) == ["x"]
    assert response.bundle_version == "made-up/1"
    response = await stub.SimilarItems(
        pb.SimilarItemsRequest(vector=vector(*WORLD.content[4]), max_results=1)
    )
    assert [item.item_id for item in response.items] == ["i4"]


BAD = [
    (pb.SimilarItemsRequest(), "MISSING_QUERY"),
    (pb.SimilarItemsRequest(items=items()), "NO_ITEMS"),
    (pb.SimilarItemsRequest(items=items("")), "EMPTY_ID"),
    (pb.SimilarItemsRequest(items=items(*["i1"] * 1_001)), "TOO_MANY_ITEMS"),
    (pb.SimilarItemsRequest(items=items(*["i1"] * 1_000_000)), "TOO_MANY_ITEMS"),
    (pb.SimilarItemsRequest(text=""), "EMPTY_TEXT"),
    (pb.SimilarItemsRequest(text="é" * 2_049), "TEXT_TOO_LONG"),
    (
        pb.SimilarItemsRequest(text="x", space=candidate_pb.VECTOR_SPACE_BEHAVIOR),
        "TEXT_NEEDS_CONTENT_SPACE",
    ),
    (pb.SimilarItemsRequest(vector=vector()), "WRONG_DIMENSION"),
    (pb.SimilarItemsRequest(vector=vector(*[1.0] * (CONTENT + 1))), "WRONG_DIMENSION"),
    (pb.SimilarItemsRequest(vector=vector(*[math.nan] * CONTENT)), "NOT_FINITE"),
    (pb.SimilarItemsRequest(vector=vector(*[math.inf] * CONTENT)), "NOT_FINITE"),
    (pb.SimilarItemsRequest(vector=vector(*[0.0] * CONTENT)), "ZERO_VECTOR"),
    (pb.SimilarItemsRequest(items=items("i1"), max_results=-1), "NEGATIVE_MAX_RESULTS"),
    (pb.SimilarItemsRequest(items=items("i1"), space=99), "UNKNOWN_SPACE"),  # type: ignore[arg-type]
    (pb.SimilarItemsRequest(items=items("i1"), filter=ItemFilter()), "EMPTY_FILTER"),
    (
        pb.SimilarItemsRequest(items=items("i1"), excluded_item_ids=["i1"] * 10_001),
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
        await stub.SimilarItems(pb.SimilarItemsRequest(items=items("x", "y")))
    failure = tandem.errors.from_rpc(caught.value)
    assert isinstance(failure, tandem.NotFound)
    assert failure.reason == "UNKNOWN_ITEMS"
