"""Each strategy, over real channels: what it asks for and how it ranks."""

import asyncio
from pathlib import Path

import pytest
from structlog.testing import capture_logs

import tandem
from tandem import filters
from tandem.requests import StrategyName
from tandem.v1 import recommendation_service_pb2 as pb
from tandem.v1 import recommendation_service_pb2_grpc as pb_grpc
from tests.gateway.fakes import WAIT, generator_score, retrieval_score
from tests.gateway.stack import (
    DEFAULT_TIMEOUT,
    STRATEGIES,
    UNSEEN,
    Stack,
    best,
    final_score,
    ids,
    raw,
    running,
)
from tests.tiny_bundle import ITEMS, item_id, write_tiny_bundle

BLEND = {"retrieval_weight": 1.0, "generator_weight": 0.5, "shortlist": 6}


async def test_embedding_is_the_shortlist(stack: Stack) -> None:
    response = await stack.client.recommend("ann", strategy="embedding", max_results=4)
    assert ids(response) == best(retrieval_score, UNSEEN, 4)
    assert response.strategy == pb.STRATEGY_EMBEDDING
    assert [t.stage for t in response.timings] == ["history", "search"]
    first = response.recommendations[0]
    assert first.score == first.retrieval_score == retrieval_score(3)
    assert not first.HasField("generator_score")
    assert stack.generator.requests == []


async def test_rerank_orders_the_shortlist_by_both(stack: Stack) -> None:
    response = await stack.client.recommend("ann", strategy="rerank", max_results=4)
    shortlist = set(sorted(UNSEEN)[:6])  # as many as the bundle says
    assert ids(response) == best(final_score, shortlist, 4)
    assert response.strategy == pb.STRATEGY_RERANK
    assert [t.stage for t in response.timings] == ["history", "search", "rerank", "blend"]
    for item in response.recommendations:
        position = int(item.item_id[1:])
        assert item.retrieval_score == retrieval_score(position)
        assert item.generator_score == generator_score(position)
        assert item.score == pytest.approx(final_score(position))


async def test_a_larger_list_needs_a_larger_shortlist(stack: Stack) -> None:
    response = await stack.client.recommend("ann", max_results=8)
    assert ids(response) == best(final_score, set(sorted(UNSEEN)[:8]), 8)


async def test_generate_is_the_generators_list(stack: Stack) -> None:
    response = await stack.client.recommend("ann", strategy="generate", max_results=4)
    assert ids(response) == best(generator_score, UNSEEN, 4)
    assert [t.stage for t in response.timings] == ["history", "generate"]
    assert not response.recommendations[0].HasField("retrieval_score")
    assert stack.candidate.requests == []


async def test_fuse_ranks_the_union(stack: Stack) -> None:
    response = await stack.client.recommend("ann", strategy="fuse", max_results=12)
    shortlist = set(sorted(UNSEEN)[:12])
    assert ids(response) == best(final_score, shortlist, 12)

    response = await stack.client.recommend("ann", strategy="fuse", max_results=3)
    shortlist = set(sorted(UNSEEN)[:6])
    generated = {int(i[1:]) for i in best(generator_score, UNSEEN, 3)}
    floor = min(map(retrieval_score, shortlist))

    def score(position: int) -> float:
        retrieval = retrieval_score(position) if position in shortlist else floor
        return retrieval + 0.5 * generator_score(position)

    assert ids(response) == best(score, shortlist | generated, 3)
    assert response.strategy == pb.STRATEGY_FUSE
    assert [t.stage for t in response.timings] == ["history", "search", "rank", "blend"]
    assert len(stack.generator.requests) == 2, "one call each: the model reads the user one time"


@pytest.mark.parametrize(
    ("strategy", "service"), [("fuse", "candidate"), ("generate", "generator")]
)
async def test_a_callers_leaving_reaches_the_service_that_works(
    stack: Stack, strategy: StrategyName, service: str
) -> None:
    working = getattr(stack, service)
    call = asyncio.create_task(stack.client.recommend(history=[WAIT], strategy=strategy))
    await working.waiting.wait()
    call.cancel()
    await working.cancelled.wait()


async def test_an_empty_shortlist_needs_no_reranking(stack: Stack) -> None:
    everything = [item_id(p) for p in range(ITEMS)]
    for strategy in STRATEGIES:
        response = await stack.client.recommend("ann", strategy=strategy, exclude=everything)
        assert ids(response) == []


async def test_items_that_the_generator_does_not_know_stay(stack: Stack) -> None:
    stack.generator.unknown = {"i3"}
    response = await stack.client.recommend("ann", strategy="rerank", max_results=6)
    by_id = {item.item_id: item for item in response.recommendations}
    assert not by_id["i3"].HasField("generator_score")
    assert len(by_id) == 6


async def test_the_default_strategy_is_the_bundles_unless_the_server_has_one(
    tmp_path: Path,
) -> None:
    path = write_tiny_bundle(tmp_path, blend={**BLEND, "default_strategy": "generate"})
    async with running(path) as stack:
        assert (await stack.client.recommend("ann")).strategy == pb.STRATEGY_GENERATE
    async with running(path, strategy="embedding") as stack:
        assert (await stack.client.recommend("ann")).strategy == pb.STRATEGY_EMBEDDING


async def test_an_older_bundle_reranks_by_default(stack: Stack) -> None:
    assert (await stack.client.recommend("ann")).strategy == pb.STRATEGY_RERANK


async def test_fuse_has_weights_of_its_own(tmp_path: Path) -> None:
    weights = {"retrieval_weight": 0.0, "generator_weight": 1.0}
    async with running(write_tiny_bundle(tmp_path, blend={**BLEND, "fuse": weights})) as stack:
        fused = await stack.client.recommend("ann", strategy="fuse", max_results=4)
        reranked = await stack.client.recommend("ann", strategy="rerank", max_results=4)
    assert ids(fused) == best(generator_score, UNSEEN, 4)
    assert ids(reranked) == best(final_score, set(sorted(UNSEEN)[:6]), 4)


async def test_transitions_have_a_weight_of_their_own_beside_the_generator(tmp_path: Path) -> None:
    weights = {**BLEND, "retrieval_weight": 0.1, "transition_weight": 2.0}
    async with running(write_tiny_bundle(tmp_path, blend=weights)) as stack:
        reranked = await stack.client.recommend("ann", strategy="rerank", max_results=4)

    def score(position: int) -> float:
        return 0.1 * retrieval_score(position) + 2.0 * position + 0.5 * generator_score(position)

    shortlist = sorted(UNSEEN, key=lambda position: -retrieval_score(position))[:6]
    assert ids(reranked) == best(score, set(shortlist), 4)
    for item in reranked.recommendations:
        assert item.score == pytest.approx(score(int(item.item_id[1:])))
        assert item.retrieval_score == retrieval_score(int(item.item_id[1:]))


async def test_a_generator_without_a_weight_is_not_called(tmp_path: Path) -> None:
    async with running(
        write_tiny_bundle(tmp_path, blend={**BLEND, "generator_weight": 0})
    ) as stack:
        for strategy in (pb.STRATEGY_RERANK, pb.STRATEGY_FUSE):
            request = pb.RecommendRequest(user_id="ann", strategy=strategy, max_results=4)
            response = pb.RecommendResponse.FromString(
                await raw(stack.channel, "Recommend", request)
            )
            assert ids(response) == best(retrieval_score, UNSEEN, 4)
            assert response.strategy == pb.STRATEGY_EMBEDDING, "what really ran"
            assert not response.degraded
            assert not response.recommendations[0].HasField("generator_score")
            assert [t.stage for t in response.timings] == ["history", "search"]
        assert stack.generator.requests == []


@pytest.mark.parametrize("strategy", STRATEGIES)
class TestEveryStrategy:
    async def test_rules_are_passed_down(self, stack: Stack, strategy: StrategyName) -> None:
        response = await stack.client.recommend(
            "ann",
            strategy=strategy,
            exclude=["i3", "unknown"],
            filter=filters.equals("genre", "Drama") & ~filters.between("year", 2000),
        )
        allowed = {p for p in UNSEEN - {3} if "Drama" in genres(p) and p < 10}
        assert set(ids(response)) == {item_id(p) for p in allowed}

    async def test_nothing_comes_back_beside_what_is_allowed(
        self, stack: Stack, strategy: StrategyName
    ) -> None:
        only = ["i1", "i4", "i8", "i9", "unknown"]
        response = await stack.client.recommend("ann", strategy=strategy, only=only)
        assert set(ids(response)) == {"i4", "i8", "i9"}, "i1 is seen"

    async def test_seen_items_come_back_only_when_asked(
        self, stack: Stack, strategy: StrategyName
    ) -> None:
        response = await stack.client.recommend(
            "ann", strategy=strategy, max_results=100, include_seen=True
        )
        assert set(ids(response)) == {item_id(p) for p in range(ITEMS)}

    async def test_a_given_history_wins(self, stack: Stack, strategy: StrategyName) -> None:
        history = ["i9", "ghost", "i8", "ghost", "spook"]
        response = await stack.client.recommend(
            "ann", history=history, strategy=strategy, max_results=100
        )
        assert set(ids(response)) == {item_id(p) for p in range(ITEMS) if p not in (8, 9)}
        assert list(response.missing_item_ids) == ["ghost", "spook"]
        assert response.bundle_version == "tiny/1"

    async def test_a_user_without_interactions_is_served(
        self, stack: Stack, strategy: StrategyName
    ) -> None:
        response = await stack.client.recommend("cid", strategy=strategy)
        assert len(response.recommendations) == 10

    async def test_an_unknown_user_with_a_history_is_served(
        self, stack: Stack, strategy: StrategyName
    ) -> None:
        response = await stack.client.recommend("new", history=["i1"], strategy=strategy)
        assert len(response.recommendations) == 10
        if strategy != "embedding":
            assert stack.generator.requests[0].context.user_id == "new"

    async def test_an_unknown_user_alone_is_not_found(
        self, stack: Stack, strategy: StrategyName
    ) -> None:
        with pytest.raises(tandem.NotFound) as caught:
            await stack.client.recommend("new", strategy=strategy)
        assert caught.value.reason == "UNKNOWN_USER"
        assert caught.value.metadata == {"user_id": "new"}

    async def test_the_request_id_crosses_all_three(
        self, stack: Stack, strategy: StrategyName
    ) -> None:
        with capture_logs() as logs:
            await stack.client.recommend("ann", strategy=strategy, request_id="r1")
        seen = stack.candidate.request_ids + stack.generator.request_ids
        assert seen
        assert set(seen) == {"r1"}
        assert {line["code"] for line in logs if line["event"] == "call"} == {"OK"}

    async def test_services_get_what_is_left_of_the_callers_time(
        self, stack: Stack, strategy: StrategyName
    ) -> None:
        await stack.client.recommend("ann", strategy=strategy, timeout=5.0)
        channel_call = pb_grpc.RecommendationServiceStub(stack.channel).Recommend
        await channel_call(pb.RecommendRequest(user_id="ann"))  # no deadline at all
        remaining = stack.candidate.remaining + stack.generator.remaining
        assert all(0 < seconds < 5.0 for seconds in remaining)
        assert remaining[-1] < DEFAULT_TIMEOUT


def genres(position: int) -> tuple[str, ...]:
    names = ("Comedy", "Drama", "War")
    return (names[position % 3], *((names[(position + 1) % 3],) if position % 2 == 0 else ()))
