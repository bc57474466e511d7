"""Each answer of a gateway has an id, which says what it showed."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from core.errors import Unavailable
from gateway.attribution.ids import Recommendation, RecommendationIds
from gateway.history.tombstones import UserHash
from tandem.requests import recommend_request
from tandem.v1 import recommendation_service_pb2 as pb
from tests.gateway.stack import STRATEGIES, Stack, running
from tests.tiny_bundle import write_tiny_bundle


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    path = tmp_path / "history.sqlite"
    async with running(write_tiny_bundle(tmp_path), history=str(path)) as stack:
        await stack.servicer.warm_up()
        yield stack


def read(recommendation_id: str, directory: Path) -> Recommendation:
    """Reads an id as any gateway with the same key does."""
    secret = UserHash.read(directory / "history.sqlite.key")
    found = RecommendationIds(secret.key_for("recommendation ids")).read(recommendation_id)
    assert found is not None
    return found


def check(answer: Any, items: Sequence[Any], strategy: str, directory: Path) -> Recommendation:
    found = read(answer.recommendation_id, directory)
    assert (found.strategy, found.variant) == (strategy, "")
    assert found.bundle_version == answer.bundle_version
    for place, item in enumerate(items, start=found.start + 1):
        shown = found.shown(item.item_id)
        assert shown is not None
        assert shown.position == place
        assert shown.score == pytest.approx(item.score, rel=1e-6)
    return found


async def test_every_answer_has_an_id_of_its_own(stack: Stack, tmp_path: Path) -> None:
    names = set()
    for strategy in (*STRATEGIES, *STRATEGIES):
        answer = await stack.client.recommend("ann", strategy=strategy)
        names.add(check(answer, answer.recommendations, strategy, tmp_path).name)
    assert len(names) == 8


async def test_a_page_says_its_places_in_the_list(stack: Stack, tmp_path: Path) -> None:
    first = await stack.client.recommend("ann", page_size=3)
    second = await stack.client.recommend("ann", page_size=3, page_token=first.next_page_token)
    found = check(second, second.recommendations, "rerank", tmp_path)
    assert found.start == 3
    assert found.shown(first.recommendations[0].item_id) is None


async def test_what_took_a_strategys_place_is_named(stack: Stack, tmp_path: Path) -> None:
    stack.candidate.failure = stack.generator.failure = Unavailable("away", reason="DRAINING")
    answer = await stack.client.recommend("ann")
    assert answer.strategy == pb.STRATEGY_POPULARITY
    check(answer, answer.recommendations, "popularity", tmp_path)


async def test_answers_of_a_stream_have_ids(stack: Stack, tmp_path: Path) -> None:
    requests = [
        pb.BatchRecommendRequest(id=str(n), request=recommend_request("ann")) for n in range(2)
    ]
    stream = stack.client.batch_recommend(requests)
    answers = [each.response async for each in stream]
    assert len({answer.recommendation_id for answer in answers}) == 2
    for answer in answers:
        check(answer, answer.recommendations, "rerank", tmp_path)


async def test_similar_items_have_an_id(stack: Stack, tmp_path: Path) -> None:
    answer = await stack.client.similar_items(["i3"])
    assert answer.items
    check(answer, answer.items, "similar", tmp_path)


async def test_a_gateway_without_a_store_gives_ids_too(tmp_path: Path) -> None:
    async with running(write_tiny_bundle(tmp_path)) as stack:
        answer = await stack.client.recommend("ann")
        assert answer.recommendation_id
        assert not (tmp_path / "history.sqlite.key").exists()
