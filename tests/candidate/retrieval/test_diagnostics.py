"""Diagnosed scores: those that rank, their parts, and what is lost without an item."""

from collections.abc import AsyncIterator
from typing import TypeAlias

import grpc
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.candidate.catalog.live import LiveCatalog
from services.candidate.retrieval.diagnostics import INFLUENCES, diagnose
from services.candidate.retrieval.shortlist import Basis, SourceWeights
from services.candidate.servicer import CandidateServicer
from serving.testing import serving
from serving.workers import Workers
from tandem import errors
from tandem.v1 import candidate_service_pb2 as pb
from tandem.v1 import candidate_service_pb2_grpc as pb_grpc
from tests.candidate.made_up import World, make_world, positions

ITEMS = 30
WORLDS = [
    make_world(items=ITEMS, weights=weights)
    for weights in (
        SourceWeights(behavior=0.9, transitions=0.4),
        SourceWeights(behavior=0.7, transitions=0.3, content=2.0, popularity=0.5),
    )
]
EVERYTHING = np.arange(ITEMS, dtype=np.int32)
Stub: TypeAlias = "pb_grpc.CandidateServiceAsyncStub"
histories = st.lists(st.integers(0, ITEMS - 1), max_size=9).map(lambda items: positions(*items))


@given(st.sampled_from(WORLDS), histories)
@settings(max_examples=60)
def test_the_score_is_that_of_the_search_and_the_sum_of_its_parts(
    world: World, history: np.ndarray[tuple[int], np.dtype[np.int32]]
) -> None:
    shortlist = world.engine.search(history, ITEMS, include_seen=True)
    diagnosed = diagnose(world.engine, history, shortlist.items)
    assert diagnosed.basis is shortlist.basis
    for item, score in zip(diagnosed.of, shortlist.scores, strict=True):
        assert item.score == pytest.approx(score, abs=1e-5)
        assert sum(w * s for _, s, w in item.sources) == pytest.approx(item.score)


@given(st.sampled_from(WORLDS), histories.filter(len))
@settings(max_examples=60)
def test_an_influence_is_what_the_score_loses_beside_the_others(
    world: World, history: np.ndarray[tuple[int], np.dtype[np.int32]]
) -> None:
    """The oracle searches again, without each item; the whole catalog is the sample."""
    engine = world.engine

    def scores(items: np.ndarray[tuple[int], np.dtype[np.int32]]) -> dict[int, float]:
        if not len(items):
            return dict.fromkeys(range(ITEMS), 0.0)
        found = engine.search(items, ITEMS, include_seen=True)
        return dict(zip(found.items.tolist(), found.scores.tolist(), strict=True))

    newest = history[-engine.history_window :]
    whole = scores(newest)
    diagnosed = diagnose(engine, history, EVERYTHING)
    lost = {}
    for other in set(newest.tolist()):
        without = scores(newest[newest != other])
        mean = np.mean([whole[i] - without[i] for i in range(ITEMS)])
        lost[other] = [whole[i] - without[i] - mean for i in range(ITEMS)]
    for item in range(ITEMS):
        found = diagnosed.of[item].influences
        expected = sorted((lost[other][item] for other in lost), reverse=True)
        expected = [value for value in expected[:INFLUENCES] if value > 1e-5]
        values = [value for _, value in found if value > 1e-5]
        assert values == pytest.approx(expected, abs=1e-5)
        for other, value in found:
            assert value == pytest.approx(lost[other][item], abs=1e-5)


@pytest.fixture
async def stub() -> AsyncIterator[Stub]:
    world = WORLDS[0]
    servicer = CandidateServicer(LiveCatalog(world.engine), "made-up/1", Workers(2))
    async with serving(servicer, pb_grpc.add_CandidateServiceServicer_to_server) as channel:
        yield pb_grpc.CandidateServiceStub(channel)
    await servicer.close()


async def test_the_answer_is_the_engines(stub: Stub) -> None:
    engine, history = WORLDS[0].engine, positions(1, 2)
    answer = await stub.DiagnoseSearch(
        pb.DiagnoseSearchRequest(
            history_item_ids=["i1", "x", "i2"], item_ids=["i7", "y", "i3", "i7"]
        )
    )
    expected = diagnose(engine, history, positions(7, 3))
    assert [item.item_id for item in answer.items] == ["i7", "i3"]
    assert list(answer.missing_item_ids) == ["x", "y"]
    assert answer.source == pb.RETRIEVAL_SOURCE_HISTORY
    for item, of in zip(answer.items, expected.of, strict=True):
        assert item.score == of.score
        assert [(s.source, s.score, s.weight) for s in item.sources] == list(of.sources)
        assert [s.source for s in item.sources] == ["query_encoder", "transitions"]
        assert [(f.item_id, f.contribution) for f in item.influences] == [
            (f"i{other}", value) for other, value in of.influences
        ]


async def test_without_a_history_popularity_is_the_source(stub: Stub) -> None:
    answer = await stub.DiagnoseSearch(pb.DiagnoseSearchRequest(item_ids=["i7"]))
    assert answer.source == pb.RETRIEVAL_SOURCE_POPULARITY
    (item,) = answer.items
    assert [source.source for source in item.sources] == ["popularity"]
    assert not item.influences
    assert diagnose(WORLDS[0].engine, positions(), positions(7)).basis is Basis.POPULARITY


async def test_there_must_be_items_to_diagnose(stub: Stub) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.DiagnoseSearch(pb.DiagnoseSearchRequest(history_item_ids=["i1"]))
    assert errors.from_rpc(caught.value).reason == "NO_ITEMS"
