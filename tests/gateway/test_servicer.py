"""The gateway over real channels, in front of fake engine services."""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from structlog.testing import capture_logs

import tandem
from gateway.servicer import RecommendationServicer
from gateway.settings import GatewaySettings
from runtime import errors
from runtime.bundle import Bundle
from runtime.testing import listening
from tandem import AsyncClient, filters
from tandem.client import StrategyName
from tandem.v1 import candidate_service_pb2 as candidate_pb
from tandem.v1 import candidate_service_pb2_grpc as candidate_grpc
from tandem.v1 import generator_service_pb2_grpc as generator_grpc
from tandem.v1 import recommendation_service_pb2 as pb
from tandem.v1 import recommendation_service_pb2_grpc as pb_grpc
from tandem.v1.common_pb2 import ItemFilter
from tests.gateway.fakes import (
    WAIT,
    FakeCandidate,
    FakeGenerator,
    generator_score,
    retrieval_score,
)
from tests.tiny_bundle import HISTORIES, ITEMS, item_id, write_tiny_bundle

STRATEGIES: tuple[StrategyName, ...] = ("rerank", "generate", "fuse", "embedding")
METHOD = "/tandem.v1.RecommendationService/"


@dataclass
class Stack:
    """A gateway and what is behind it."""

    client: AsyncClient
    channel: grpc.aio.Channel
    candidate: FakeCandidate
    generator: FakeGenerator
    servicer: RecommendationServicer


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    path = write_tiny_bundle(tmp_path)
    bundle = Bundle.open(path)
    candidate, generator = FakeCandidate(bundle), FakeGenerator(bundle)
    async with AsyncExitStack() as opened:
        settings = GatewaySettings(
            bundle=path,
            candidate_target=await opened.enter_async_context(
                listening(candidate, candidate_grpc.add_CandidateServiceServicer_to_server)
            ),
            generator_target=await opened.enter_async_context(
                listening(generator, generator_grpc.add_GeneratorServiceServicer_to_server)
            ),
        )
        servicer = RecommendationServicer.load(bundle, settings)
        opened.push_async_callback(servicer.close)
        address = await opened.enter_async_context(
            listening(servicer, pb_grpc.add_RecommendationServiceServicer_to_server)
        )
        channel = await opened.enter_async_context(grpc.aio.insecure_channel(address))
        client = await opened.enter_async_context(AsyncClient(address, timeout=10))
        yield Stack(client, channel, candidate, generator, servicer)


def ids(response: pb.RecommendResponse) -> list[str]:
    return [item.item_id for item in response.recommendations]


def best(score: Callable[[int], float], among: set[int], count: int) -> list[str]:
    return [item_id(p) for p in sorted(among, key=lambda p: -score(p))][:count]


UNSEEN = set(range(ITEMS)) - set(HISTORIES["ann"])


def final_score(position: int) -> float:
    """With the tiny bundle's weights, 1 and .5."""
    return retrieval_score(position) + 0.5 * generator_score(position)


class TestStrategies:
    async def test_embedding_is_the_shortlist(self, stack: Stack) -> None:
        response = await stack.client.recommend("ann", strategy="embedding", max_results=4)
        assert ids(response) == best(retrieval_score, UNSEEN, 4)
        assert response.strategy == pb.STRATEGY_EMBEDDING
        assert [t.stage for t in response.timings] == ["history", "search"]
        first = response.recommendations[0]
        assert first.score == first.retrieval_score == retrieval_score(3)
        assert not first.HasField("generator_score")
        assert stack.generator.requests == []

    async def test_rerank_orders_the_shortlist_by_both(self, stack: Stack) -> None:
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

    async def test_a_larger_list_needs_a_larger_shortlist(self, stack: Stack) -> None:
        response = await stack.client.recommend("ann", max_results=8)
        assert ids(response) == best(final_score, set(sorted(UNSEEN)[:8]), 8)

    async def test_generate_is_the_generators_list(self, stack: Stack) -> None:
        response = await stack.client.recommend("ann", strategy="generate", max_results=4)
        assert ids(response) == best(generator_score, UNSEEN, 4)
        assert [t.stage for t in response.timings] == ["history", "generate"]
        assert not response.recommendations[0].HasField("retrieval_score")
        assert stack.candidate.requests == []

    async def test_fuse_ranks_the_union(self, stack: Stack) -> None:
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
        stages = [t.stage for t in response.timings]
        assert stages[0] == "history"
        assert sorted(stages[1:3]) == ["generate", "search"]
        assert stages[3:] == ["rerank", "blend"]
        # What was generated is not scored a second time.
        assert not generated & {int(i[1:]) for i in stack.generator.requests[-1].item_ids}

    async def test_fuse_calls_both_at_once(self, stack: Stack) -> None:
        call = asyncio.create_task(stack.client.recommend(history=[WAIT], strategy="fuse"))
        await asyncio.gather(stack.candidate.waiting.wait(), stack.generator.waiting.wait())
        call.cancel()
        # The caller's leaving reaches both.
        await asyncio.gather(stack.candidate.cancelled.wait(), stack.generator.cancelled.wait())

    async def test_when_one_half_of_fuse_fails_the_other_is_cancelled(self, stack: Stack) -> None:
        stack.candidate.failure = errors.NotFound("gone", reason="GONE")
        with pytest.raises(tandem.NotFound):
            await stack.client.recommend(history=[WAIT], strategy="fuse")
        if stack.generator.requests:
            await stack.generator.cancelled.wait()

    async def test_an_empty_shortlist_needs_no_reranking(self, stack: Stack) -> None:
        everything = [item_id(p) for p in range(ITEMS)]
        for strategy in STRATEGIES:
            response = await stack.client.recommend("ann", strategy=strategy, exclude=everything)
            assert ids(response) == []

    async def test_items_that_the_generator_does_not_know_stay(self, stack: Stack) -> None:
        stack.generator.unknown = {"i3"}
        response = await stack.client.recommend("ann", strategy="rerank", max_results=6)
        by_id = {item.item_id: item for item in response.recommendations}
        assert not by_id["i3"].HasField("generator_score")
        assert len(by_id) == 6

    async def test_the_default_strategy_is_the_servers(self, stack: Stack) -> None:
        assert (await stack.client.recommend("ann")).strategy == pb.STRATEGY_RERANK


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
        assert all(0 < seconds <= 4.95 for seconds in remaining)
        assert remaining[-1] <= 1.95


def genres(position: int) -> tuple[str, ...]:
    names = ("Comedy", "Drama", "War")
    return (names[position % 3], *((names[(position + 1) % 3],) if position % 2 == 0 else ()))


FAILURES = [
    # What a service answers, and what the gateway's caller gets.
    (
        errors.InvalidRequest("bad", reason="WHY", field="f"),
        tandem.InvalidArgument,
        "WHY",
        {"field": "f"},
    ),
    (errors.NotFound("gone", reason="GONE"), tandem.NotFound, "GONE", {}),
    (errors.PreconditionFailed("no", reason="NO_TEXT"), tandem.FailedPrecondition, "NO_TEXT", {}),
    (
        errors.Overloaded("busy", reason="BUSY", retry_after=0.3),
        tandem.ResourceExhausted,
        "BUSY",
        None,
    ),
    (errors.Unavailable("later", reason="WARMING_UP"), tandem.Unavailable, "WARMING_UP", None),
    (
        errors.DeadlineExceeded("late", reason="LATE"),
        tandem.DeadlineExceeded,
        "DEADLINE_EXCEEDED",
        None,
    ),
    (errors.ServiceFailed("secret", reason="X"), tandem.Internal, "SERVICE_FAILED", None),
    (errors.BundleError("secret"), tandem.FailedPrecondition, "BUNDLE_INVALID", {}),
]


class TestFailures:
    @pytest.mark.parametrize(("raised", "received", "reason", "metadata"), FAILURES)
    @pytest.mark.parametrize("name", ["candidate", "generator"])
    async def test_a_services_failure_becomes_the_gateways(
        self,
        stack: Stack,
        name: str,
        raised: errors.TandemError,
        received: type[tandem.Error],
        reason: str,
        metadata: dict[str, str] | None,
    ) -> None:
        getattr(stack, name).failure = raised
        strategies: tuple[StrategyName, ...] = ("rerank", "fuse")
        for strategy in strategies:
            with pytest.raises(tandem.Error) as caught:
                await stack.client.recommend("ann", strategy=strategy)
            assert type(caught.value) is received
            assert caught.value.reason == reason
            expected = {"service": name} if metadata is None else metadata
            assert caught.value.metadata == expected
            assert caught.value.request_id
        if isinstance(raised, errors.Overloaded):
            assert caught.value.retry_after == 0.3

    async def test_unavailable_is_tried_again_and_nothing_else_is(self, stack: Stack) -> None:
        stack.candidate.failure = errors.Unavailable("later", reason="LATER")
        with pytest.raises(tandem.Unavailable):
            await raw(stack.channel, "Recommend", pb.RecommendRequest(user_id="ann"))
        attempts = len(stack.candidate.requests)
        assert attempts == 3
        stack.candidate.failure = errors.ServiceFailed("no", reason="NO")
        with pytest.raises(tandem.Internal):
            await stack.client.recommend("ann")
        assert len(stack.candidate.requests) == attempts + 1

    async def test_a_service_that_is_too_slow(self, stack: Stack) -> None:
        cases: tuple[tuple[StrategyName, str], ...] = (
            ("embedding", "candidate"),
            ("generate", "generator"),
        )
        for strategy, service in cases:
            with pytest.raises(tandem.DeadlineExceeded) as caught:
                await stack.client.recommend(history=[WAIT], strategy=strategy, timeout=0.4)
            assert caught.value.metadata == {"service": service}
            assert caught.value.reason == "DEADLINE_EXCEEDED"

    async def test_a_service_with_another_bundle_is_noticed_once(self, stack: Stack) -> None:
        stack.candidate.version = "tiny/2"
        with capture_logs() as logs:
            for _ in range(3):
                response = await stack.client.recommend("ann", strategy="embedding")
        assert response.bundle_version == "tiny/1"
        noticed = [line for line in logs if line["event"] == "service has another bundle"]
        assert [(n["service"], n["theirs"], n["ours"]) for n in noticed] == [
            ("candidate", "tiny/2", "tiny/1")
        ]


async def raw(channel: grpc.aio.Channel, method: str, request: Any) -> bytes:
    """Sends a message, or bytes that may be none; without the client's retries."""
    body = request if isinstance(request, bytes) else request.SerializeToString()
    call: Any = channel.unary_unary(METHOD + method)
    try:
        response: bytes = await call(body, timeout=10)
    except grpc.aio.AioRpcError as error:
        raise tandem.errors.from_rpc(error) from error
    return response


def recommend(**fields: Any) -> pb.RecommendRequest:
    return pb.RecommendRequest(**{"user_id": "ann", **fields})


BAD_REQUESTS: list[tuple[Any, str]] = [
    (pb.RecommendRequest(), "MISSING_USER"),
    (recommend(user_id="x" * 513), "ID_TOO_LONG"),
    (recommend(history_item_ids=["i1", ""]), "EMPTY_ID"),
    (recommend(history_item_ids=["x" * 513]), "ID_TOO_LONG"),
    (recommend(history_item_ids=["i1"] * 10_001), "TOO_MANY_ITEMS"),
    (recommend(history_item_ids=["i1"] * 1_000_000), "TOO_MANY_ITEMS"),
    (recommend(excluded_item_ids=["i1"] * 10_001), "TOO_MANY_ITEMS"),
    (recommend(excluded_item_ids=[""]), "EMPTY_ID"),
    (recommend(max_results=-1), "NEGATIVE_MAX_RESULTS"),
    (recommend(max_results=-(2**31)), "NEGATIVE_MAX_RESULTS"),
    (recommend(strategy=99), "UNKNOWN_STRATEGY"),
    (recommend(strategy=-1), "UNKNOWN_STRATEGY"),
    (recommend(filter=ItemFilter()), "EMPTY_FILTER"),
    (recommend(filter=filters.equals("genres", "Drama").message), "UNKNOWN_ATTRIBUTE"),
    (recommend(filter=filters.equals("year", math.nan).message), "NOT_A_NUMBER"),
    (recommend(filter=filters.one_of("year", range(9_999)).message), "FILTER_TOO_LARGE"),
    (b"\x0a\x02\xff\xfe", "MALFORMED_MESSAGE"),  # user_id is not UTF-8
    (b"\x12\x02\xff\xfe", "MALFORMED_MESSAGE"),  # an item of the history is not
    (b"\x0a\x7f", "MALFORMED_MESSAGE"),
]


class TestBadInputs:
    @pytest.mark.parametrize(("request_", "reason"), BAD_REQUESTS)
    async def test_the_callers_mistake_has_a_reason(
        self, stack: Stack, request_: Any, reason: str
    ) -> None:
        with pytest.raises(tandem.InvalidArgument) as caught:
            await raw(stack.channel, "Recommend", request_)
        assert caught.value.reason == reason
        assert len(ids(await stack.client.recommend("ann"))) == len(UNSEEN)

    async def test_more_than_a_message_may_hold(self, stack: Stack) -> None:
        huge = recommend(history_item_ids=[f"item-{n:09}" for n in range(1_000_000)])
        with pytest.raises(tandem.ResourceExhausted):
            await raw(stack.channel, "Recommend", huge)

    async def test_sizes_above_the_limit_are_coerced_down(self, stack: Stack) -> None:
        await raw(stack.channel, "Recommend", recommend(max_results=2**31 - 1, strategy=2))
        assert stack.generator.requests[-1].max_results == 100

    async def test_fields_of_the_future_are_ignored(self, stack: Stack) -> None:
        response = await raw(
            stack.channel, "Recommend", recommend().SerializeToString() + b"\xfa\x3f\x01x"
        )
        assert ids(pb.RecommendResponse.FromString(response))

    @pytest.mark.parametrize("seed", range(5))
    async def test_mutated_messages_never_find_a_defect(self, stack: Stack, seed: int) -> None:
        random = np.random.default_rng(seed)
        whole = recommend(
            history_item_ids=["i1", "i2"],
            max_results=5,
            strategy=3,
            excluded_item_ids=["i3"],
            filter=(filters.equals("genre", "War") | ~filters.between("year", 1990)).message,
        ).SerializeToString()
        for _ in range(60):
            message = np.frombuffer(whole, np.uint8).copy()
            places = random.integers(len(message), size=random.integers(1, 5))
            message[places] = random.integers(256, size=len(places))
            # Anything else but these two fails the test.
            with contextlib.suppress(tandem.InvalidArgument, tandem.NotFound):
                await raw(stack.channel, "Recommend", message.tobytes())


class TestSimilarItems:
    async def test_it_passes_through(self, stack: Stack) -> None:
        response = await stack.client.similar_items(
            ["i1", "ghost"],
            space="behavior",
            max_results=3,
            exclude=["i2"],
            filter=filters.equals("genre", "War"),
        )
        assert [(item.item_id, item.score) for item in response.items] == [("i7", 0.5)]
        assert list(response.missing_item_ids) == ["ghost"]
        (request,) = stack.candidate.requests
        assert request == candidate_pb.SimilarRequest(
            items=candidate_pb.ItemsQuery(item_ids=["i1", "ghost"]),
            max_results=3,
            space=candidate_pb.VECTOR_SPACE_BEHAVIOR,
            excluded_item_ids=["i2"],
            filter=filters.equals("genre", "War").message,
        )

    async def test_text_and_vector(self, stack: Stack) -> None:
        await stack.client.similar_items(text="")
        await stack.client.similar_items(vector=[0.5, -1.0])
        text, vector = stack.candidate.requests
        assert text.WhichOneof("query") == "text"
        assert list(vector.vector.values) == [0.5, -1.0]

    @pytest.mark.parametrize(
        "arguments", [{}, {"items": ["a"], "text": "b"}, {"text": "b", "vector": [1.0]}]
    )
    async def test_the_client_wants_exactly_one_query(
        self, stack: Stack, arguments: dict[str, Any]
    ) -> None:
        with pytest.raises(ValueError, match="exactly one"):
            await stack.client.similar_items(**arguments)

    @pytest.mark.parametrize(
        ("request_", "reason"),
        [
            (pb.SimilarItemsRequest(), "MISSING_QUERY"),
            (pb.SimilarItemsRequest(text="x", max_results=-1), "NEGATIVE_MAX_RESULTS"),
            (b"\x12\x02\xff\xfe", "MALFORMED_MESSAGE"),
        ],
    )
    async def test_mistakes_are_told_by_the_candidate_service(
        self, stack: Stack, request_: Any, reason: str
    ) -> None:
        with pytest.raises(tandem.InvalidArgument) as caught:
            await raw(stack.channel, "SimilarItems", request_)
        assert caught.value.reason == reason

    @pytest.mark.parametrize(
        ("outer", "inner"),
        [
            (pb.SimilarItemsRequest, candidate_pb.SimilarRequest),
            (pb.SimilarItemsResponse, candidate_pb.SimilarResponse),
        ],
    )
    def test_the_messages_are_the_same_field_by_field(self, outer: Any, inner: Any) -> None:
        def fields(message: Any) -> list[tuple[object, ...]]:
            return [
                (f.number, f.name, f.type, f.is_repeated, f.message_type, f.enum_type)
                for f in message.DESCRIPTOR.fields
            ]

        assert fields(outer) == fields(inner)


class TestWarmUp:
    async def test_it_uses_every_method(self, stack: Stack) -> None:
        await stack.servicer.warm_up()
        assert len(stack.candidate.requests) == 1
        assert len(stack.generator.requests) == 2

    async def test_services_may_come_later(self, stack: Stack) -> None:
        stack.candidate.failure = errors.NotFound("no", reason="NO")
        with capture_logs() as logs:
            await stack.servicer.warm_up()
        assert "serving without having reached the services" in {line["event"] for line in logs}
