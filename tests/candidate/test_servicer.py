"""The servicer behind a real grpc.aio server: answers, and every bad input of the contract."""

import threading
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeAlias

import grpc
import pytest

from services.candidate.catalog.live import LiveCatalog
from services.candidate.index.flat import FlatIndex, Neighbors
from services.candidate.index.space import SpaceName
from services.candidate.retrieval.similarity import SimilarityOptions
from services.candidate.servicer import CandidateServicer
from serving.testing import serving
from serving.workers import Workers
from tandem import errors
from tandem.v1 import candidate_service_pb2 as pb
from tandem.v1 import candidate_service_pb2_grpc as pb_grpc
from tandem.v1.common_pb2 import (
    VECTOR_SPACE_BEHAVIOR,
    VECTOR_SPACE_CONTENT,
    VECTOR_SPACE_UNSPECIFIED,
    AttributeValue,
    ItemConstraints,
    ItemFilter,
    SimilarityQuery,
    Vector,
)
from tests.candidate.made_up import BEHAVIOR, CONTENT, make_catalog, make_world, positions

WORLD = make_world()
CATALOG = make_catalog(WORLD)
COMEDY = ItemFilter(
    equals=ItemFilter.Equals(attribute="genre", value=AttributeValue(text="Comedy"))
)
VERSION = "made-up/1"

Stub: TypeAlias = "pb_grpc.CandidateServiceAsyncStub"


@pytest.fixture
async def stub() -> AsyncIterator[Stub]:
    servicer = CandidateServicer(LiveCatalog(WORLD.engine), VERSION, Workers(2))
    await servicer.warm_up()
    async with serving(
        servicer, pb_grpc.add_CandidateServiceServicer_to_server, max_message_bytes=16 * 2**20
    ) as channel:
        yield pb_grpc.CandidateServiceStub(channel)
    await servicer.close()


def ids(response: pb.SearchResponse | pb.SimilarResponse) -> list[str]:
    return [item.item_id for item in response.items]


def similarity(**fields: Any) -> pb.SimilarRequest:
    return pb.SimilarRequest(query=SimilarityQuery(**fields))


def names(items: Any) -> list[str]:
    return [f"i{i}" for i in items]


async def test_search(stub: Stub) -> None:
    request = pb.SearchRequest(
        history_item_ids=["i1", "nowhere", "i2", "nowhere", "i1"],
        max_results=5,
        constraints=ItemConstraints(excluded_item_ids=["i7", "unknown"]),
    )
    response = await stub.Search(request)
    expected = WORLD.engine.search(positions(1, 2, 1), 5, excluded=positions(7))
    assert ids(response) == names(expected.items)
    assert [item.score for item in response.items] == expected.scores.tolist()
    (transitions,) = (
        s for name, _, s in WORLD.engine.sources(positions(1, 2, 1)) if name == "transitions"
    )
    assert [item.transition_score for item in response.items] == transitions.scores(
        expected.items
    ).tolist()
    assert list(response.missing_item_ids) == ["nowhere"]
    assert response.source == pb.RETRIEVAL_SOURCE_HISTORY
    assert response.bundle_version == VERSION


async def test_search_with_a_filter_is_full(stub: Stub) -> None:
    request = pb.SearchRequest(
        history_item_ids=["i0"], max_results=9, constraints=ItemConstraints(filter=COMEDY)
    )
    assert sorted(ids(await stub.Search(request))) == sorted(names(range(3, 30, 3)))
    request.constraints.include_seen = True
    request.max_results = 10
    assert sorted(ids(await stub.Search(request))) == sorted(names(range(0, 30, 3)))


@pytest.mark.parametrize("history", [[], ["nowhere"]])
async def test_search_without_known_history(stub: Stub, history: list[str]) -> None:
    response = await stub.Search(
        pb.SearchRequest(history_item_ids=history, constraints=ItemConstraints(filter=COMEDY))
    )
    assert response.source == pb.RETRIEVAL_SOURCE_POPULARITY
    assert sorted(ids(response)) == sorted(names(range(0, 30, 3)))
    popularity = [CATALOG.items[int(i[1:])].popularity for i in ids(response)]
    assert popularity == sorted(popularity, reverse=True)
    assert not any(item.HasField("transition_score") for item in response.items)


async def test_search_with_nothing_allowed_is_empty(stub: Stub) -> None:
    never = ItemFilter(range=ItemFilter.Range(attribute="year", min=3000))
    response = await stub.Search(
        pb.SearchRequest(history_item_ids=["i0"], constraints=ItemConstraints(filter=never))
    )
    assert ids(response) == []


@pytest.mark.parametrize(("requested", "returned"), [(0, 29), (3, 3), (2_000_000_000, 29)])
async def test_search_sizes(stub: Stub, requested: int, returned: int) -> None:
    request = pb.SearchRequest(history_item_ids=["i0"], max_results=requested)
    assert len((await stub.Search(request)).items) == returned


async def test_a_history_of_the_largest_size(stub: Stub) -> None:
    response = await stub.Search(pb.SearchRequest(history_item_ids=["i3"] * 10_000, max_results=2))
    assert len(response.items) == 2


async def test_similar_to_items(stub: Stub) -> None:
    for space, name in [
        (VECTOR_SPACE_UNSPECIFIED, SpaceName.CONTENT),
        (VECTOR_SPACE_CONTENT, SpaceName.CONTENT),
        (VECTOR_SPACE_BEHAVIOR, SpaceName.BEHAVIOR),
    ]:
        query = SimilarityQuery.ItemList(item_ids=["i4", "nowhere", "i5"])
        response = await stub.Similar(
            similarity(
                items=query, space=space, constraints=ItemConstraints(excluded_item_ids=["i9"])
            )
        )
        expected = WORLD.engine.similar_to_items(positions(4, 5), 10, name, excluded=positions(9))
        assert ids(response) == names(expected.items)
        assert list(response.missing_item_ids) == ["nowhere"]
        assert response.bundle_version == VERSION


async def test_only_allowed_items_are_returned(stub: Stub) -> None:
    allowed = ItemConstraints(allowed_item_ids=["i3", "i4", "i9", "nowhere"])
    request = pb.SearchRequest(history_item_ids=["i9"], constraints=allowed)
    assert sorted(ids(await stub.Search(request))) == ["i3", "i4"]
    query = similarity(text="Film 3", constraints=allowed)
    assert sorted(ids(await stub.Similar(query))) == ["i3", "i4", "i9"]
    request.constraints.filter.CopyFrom(COMEDY)
    assert ids(await stub.Search(request)) == ["i3"]
    nothing = ItemConstraints(allowed_item_ids=["nowhere"])
    assert ids(await stub.Search(pb.SearchRequest(constraints=nothing))) == []


async def test_items_of_a_similarity_query_come_back_where_they_may(stub: Stub) -> None:
    query = similarity(
        items=SimilarityQuery.ItemList(item_ids=["i4"]),
        max_results=30,
        constraints=ItemConstraints(include_seen=True),
    )
    response = await stub.Similar(query)
    assert len(response.items) == 30
    assert response.items[0].item_id == "i4"
    assert response.items[0].score == pytest.approx(1.0)


async def test_similar_to_a_text_and_to_a_vector(stub: Stub) -> None:
    response = await stub.Similar(similarity(text="Film 3", max_results=4))
    assert ids(response) == names(WORLD.engine.similar_to_text("Film 3", 4).items)
    vector = Vector(values=WORLD.content[6].tolist())
    response = await stub.Similar(similarity(vector=vector, max_results=1))
    assert ids(response) == ["i6"]
    assert response.items[0].score == pytest.approx(1.0)


async def test_similar_with_a_threshold_and_diversity(stub: Stub) -> None:
    request = similarity(
        items=SimilarityQuery.ItemList(item_ids=["i4"]), min_score=0.2, max_results=20
    )
    scores = [item.score for item in (await stub.Similar(request)).items]
    assert 0 < len(scores) < 20
    assert min(scores) >= 0.2
    request.query.diversity = 0.7
    response = await stub.Similar(request)
    expected = WORLD.engine.similar_to_items(positions(4), 20, options=SimilarityOptions(0.2, 0.7))
    assert ids(response) == names(expected.items)
    assert [item.score for item in response.items] == expected.scores.tolist()


async def test_search_after_items_that_nobody_interacted_with(stub: Stub) -> None:
    unpopular = names(item for item in range(30) if not WORLD.popularity[item])
    response = await stub.Search(pb.SearchRequest(history_item_ids=unpopular))
    assert response.source == pb.RETRIEVAL_SOURCE_CONTENT
    assert len(response.items) == 30 - len(unpopular)


async def test_nothing_long_computes_on_the_event_loop(
    stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = WORLD.items * CONTENT
    monkeypatch.setattr("services.candidate.index.space.QUICK", vectors - 1)
    computed_on: set[threading.Thread] = set()
    index_search = FlatIndex.search

    def spy(*arguments: Any) -> Neighbors:
        computed_on.add(threading.current_thread())
        return index_search(*arguments)

    monkeypatch.setattr(FlatIndex, "search", spy)
    await stub.Search(pb.SearchRequest(history_item_ids=["i1"]))
    await stub.Similar(similarity(items=SimilarityQuery.ItemList(item_ids=["i1"])))
    assert computed_on
    assert threading.current_thread() not in computed_on


def deep(levels: int) -> ItemFilter:
    nested = COMEDY
    for _ in range(levels):
        nested = ItemFilter(all_of=ItemFilter.AllOf(filters=[nested]))
    return nested


def search(**fields: Any) -> Callable[[Stub], Any]:
    return lambda stub: stub.Search(pb.SearchRequest(**fields))


def similar(**fields: Any) -> Callable[[Stub], Any]:
    return lambda stub: stub.Similar(similarity(**fields))


ITEM = SimilarityQuery.ItemList(item_ids=["i1"])
UNKNOWN_ATTRIBUTE = ItemFilter(
    equals=ItemFilter.Equals(attribute="color", value=AttributeValue(text="red"))
)
NAN = float("nan")


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (search(history_item_ids=["i1"] * 1_000_000), "TOO_MANY_ITEMS"),
        (search(history_item_ids=["i1"] * 10_001), "TOO_MANY_ITEMS"),
        (search(history_item_ids=["i1", ""]), "EMPTY_ID"),
        (search(history_item_ids=["x" * 100_000]), "ID_TOO_LONG"),
        (search(constraints=ItemConstraints(excluded_item_ids=["i1"] * 10_001)), "TOO_MANY_ITEMS"),
        (search(constraints=ItemConstraints(excluded_item_ids=[""])), "EMPTY_ID"),
        (search(max_results=-1), "NEGATIVE_MAX_RESULTS"),
        (search(max_results=-(2**31)), "NEGATIVE_MAX_RESULTS"),
        (search(constraints=ItemConstraints(filter=ItemFilter())), "EMPTY_FILTER"),
        (search(constraints=ItemConstraints(filter=UNKNOWN_ATTRIBUTE)), "UNKNOWN_ATTRIBUTE"),
        (search(constraints=ItemConstraints(filter=deep(8))), "FILTER_TOO_LARGE"),
        (similar(), "MISSING_QUERY"),
        (similar(items=SimilarityQuery.ItemList()), "NO_ITEMS"),
        (similar(items=SimilarityQuery.ItemList(item_ids=["i1"] * 1_001)), "TOO_MANY_ITEMS"),
        (similar(items=SimilarityQuery.ItemList(item_ids=[""])), "EMPTY_ID"),
        (similar(items=ITEM, max_results=-5), "NEGATIVE_MAX_RESULTS"),
        (similar(items=ITEM, space=99), "UNKNOWN_SPACE"),
        (similar(items=ITEM, min_score=NAN), "NOT_A_NUMBER"),
        (similar(items=ITEM, diversity=NAN), "DIVERSITY_OUT_OF_RANGE"),
        (similar(items=ITEM, diversity=-0.1), "DIVERSITY_OUT_OF_RANGE"),
        (similar(items=ITEM, diversity=1.1), "DIVERSITY_OUT_OF_RANGE"),
        (
            similar(items=ITEM, constraints=ItemConstraints(filter=UNKNOWN_ATTRIBUTE)),
            "UNKNOWN_ATTRIBUTE",
        ),
        (
            similar(items=ITEM, constraints=ItemConstraints(excluded_item_ids=["i1"] * 10_001)),
            "TOO_MANY_ITEMS",
        ),
        (similar(text=""), "EMPTY_TEXT"),
        (similar(text=" \n\t"), "EMPTY_TEXT"),
        (similar(text="é" * 2_049), "TEXT_TOO_LONG"),
        (similar(text="film", space=VECTOR_SPACE_BEHAVIOR), "TEXT_NEEDS_CONTENT_SPACE"),
        (similar(vector=Vector()), "WRONG_DIMENSION"),
        (similar(vector=Vector(values=[1.0] * (CONTENT + 1))), "WRONG_DIMENSION"),
        (similar(vector=Vector(values=[1.0] * 1_000_000)), "WRONG_DIMENSION"),
        (similar(vector=Vector(values=[NAN] * CONTENT)), "NOT_FINITE"),
        (similar(vector=Vector(values=[float("inf")] * CONTENT)), "NOT_FINITE"),
        (similar(vector=Vector(values=[0.0] * CONTENT)), "ZERO_VECTOR"),
        (
            similar(vector=Vector(values=[NAN] * BEHAVIOR), space=VECTOR_SPACE_BEHAVIOR),
            "NOT_FINITE",
        ),
    ],
)
async def test_a_callers_mistake_is_named(
    stub: Stub, call: Callable[[Stub], Any], reason: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call(stub)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error_reason(error.value) == reason


async def test_similar_to_unknown_items_is_not_found(stub: Stub) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await similar(items=SimilarityQuery.ItemList(item_ids=["nowhere"]))(stub)
    assert error.value.code() is grpc.StatusCode.NOT_FOUND
    assert error_reason(error.value) == "UNKNOWN_ITEMS"


@pytest.mark.parametrize("method", ["Search", "Similar"])
async def test_bytes_that_are_no_message(method: str) -> None:
    servicer = CandidateServicer(LiveCatalog(WORLD.engine), VERSION, Workers(1))
    async with serving(servicer, pb_grpc.add_CandidateServiceServicer_to_server) as channel:
        raw: Any = channel.unary_unary(f"/tandem.v1.CandidateService/{method}")
        # A string of two bytes that are not UTF-8: field 1, or field 2 of the message in field 1.
        text = b"\x0a\x02\xff\xfe" if method == "Search" else b"\x0a\x04\x12\x02\xff\xfe"
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await raw(text)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    await servicer.close()


def error_reason(error: grpc.aio.AioRpcError) -> str | None:
    return errors.from_rpc(error).reason
