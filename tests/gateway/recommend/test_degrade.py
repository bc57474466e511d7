"""Answers without a service: what they are made of, what they say of it, when they are errors."""

import asyncio
from functools import reduce
from operator import or_
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tandem
from core import errors
from core.catalog import Catalog
from core.constraints import Constraints
from core.filters import OneOf, evaluate
from gateway.domain import Query, ResolvedQuery, Strategy
from gateway.recommend.fallback import PopularItems
from tandem import filters
from tandem.v1 import recommendation_service_pb2 as pb
from tandem.v1.common_pb2 import ItemConstraints
from tests.gateway.fakes import GENERATOR_WAITS, WAIT, generator_score, retrieval_score
from tests.gateway.stack import DEFAULT_TIMEOUT, UNSEEN, Stack, best, ids, raw
from tests.tiny_bundle import GENRES, ITEMS, catalog, item_id

POPULAR = [item_id(p) for p in sorted(UNSEEN)]
"""The tiny bundle's popularity falls with the position."""

GONE = errors.Internal("gone", reason="GONE")
"""A failure that is not tried again, so that calls can be counted."""

RETRIEVED = best(retrieval_score, UNSEEN, 5)
GENERATED = best(generator_score, UNSEEN, 5)
WITHOUT: list[tuple[str, tuple[str, ...], list[str], list[tuple[str, str]]]] = [
    ("EMBEDDING", ("candidate",), GENERATED, [("search", "GENERATION")]),
    ("EMBEDDING", ("generator",), RETRIEVED, []),
    (
        "EMBEDDING",
        ("candidate", "generator"),
        POPULAR[:5],
        [("search", "GENERATION"), ("generate", "POPULARITY")],
    ),
    ("RERANK", ("candidate",), GENERATED, [("search", "GENERATION")]),
    ("RERANK", ("generator",), RETRIEVED, [("rerank", "RETRIEVAL")]),
    (
        "RERANK",
        ("candidate", "generator"),
        POPULAR[:5],
        [("search", "GENERATION"), ("generate", "POPULARITY")],
    ),
    ("GENERATE", ("candidate",), GENERATED, []),
    ("GENERATE", ("generator",), RETRIEVED, [("generate", "RETRIEVAL")]),
    (
        "GENERATE",
        ("candidate", "generator"),
        POPULAR[:5],
        [("generate", "RETRIEVAL"), ("search", "POPULARITY")],
    ),
    ("FUSE", ("candidate",), GENERATED, [("search", "GENERATION")]),
    ("FUSE", ("generator",), RETRIEVED, [("rank", "RETRIEVAL")]),
    (
        "FUSE",
        ("candidate", "generator"),
        POPULAR[:5],
        [("search", "GENERATION"), ("generate", "POPULARITY")],
    ),
]


def having(attribute: str, value: str) -> ItemConstraints:
    return ItemConstraints(filter=filters.equals(attribute, value).message)


async def ask(stack: Stack, strategy: str, **fields: Any) -> pb.RecommendResponse:
    """A request by itself, without the client's retries; the gateway's own deadline holds."""
    request = pb.RecommendRequest(
        **{
            "user_id": "ann",
            "max_results": 5,
            "strategy": pb.Strategy.Value(f"STRATEGY_{strategy}"),
            **fields,
        }
    )
    answer = await raw(stack.channel, "Recommend", request, timeout=None)
    return pb.RecommendResponse.FromString(answer)


def steps(response: pb.RecommendResponse) -> list[tuple[str, str]]:
    assert response.degraded == bool(response.degradations)
    return [
        (d.stage, pb.Fallback.Name(d.fallback).removeprefix("FALLBACK_"))
        for d in response.degradations
    ]


@pytest.mark.parametrize(("strategy", "gone", "items", "degradations"), WITHOUT)
async def test_services_that_are_gone(
    stack: Stack,
    strategy: str,
    gone: tuple[str, ...],
    items: list[str],
    degradations: list[tuple[str, str]],
) -> None:
    for name in gone:
        getattr(stack, name).failure = GONE
    response = await ask(stack, strategy)
    assert ids(response) == items
    assert steps(response) == degradations
    assert {d.reason for d in response.degradations} <= {"SERVICE_FAILED"}
    made_by = {
        RETRIEVED[0]: pb.STRATEGY_EMBEDDING,
        GENERATED[0]: pb.STRATEGY_GENERATE,
    }
    if degradations and degradations[-1][1] == "POPULARITY":
        assert response.strategy == pb.STRATEGY_POPULARITY
    else:
        assert response.strategy == made_by[items[0]]


@pytest.mark.parametrize("strategy", ["RERANK", "GENERATE", "FUSE", "EMBEDDING"])
async def test_what_is_forbidden_fails_with_the_original_code(stack: Stack, strategy: str) -> None:
    stack.candidate.failure = stack.generator.failure = GONE
    with pytest.raises(tandem.Internal) as caught:
        await ask(stack, strategy, forbid_degraded=True)
    assert caught.value.reason == "SERVICE_FAILED"
    assert len(stack.candidate.requests) + len(stack.generator.requests) <= 2


async def test_a_busy_service_is_done_without_too(stack: Stack) -> None:
    stack.generator.failure = errors.ResourceExhausted("busy", reason="QUEUE_FULL")
    response = await ask(stack, "RERANK")
    assert ids(response) == RETRIEVED
    assert [d.reason for d in response.degradations] == ["QUEUE_FULL"]


@pytest.mark.parametrize("strategy", ["RERANK", "GENERATE", "FUSE", "EMBEDDING"])
async def test_late_services_are_done_without(stack: Stack, strategy: str) -> None:
    response = await ask(stack, strategy, user_id="", history_item_ids=[WAIT, "i0"])
    assert ids(response) == [item_id(p) for p in range(1, 6)]
    assert {d.reason for d in response.degradations} == {"DEADLINE_EXCEEDED"}
    assert response.degradations[-1].fallback == pb.FALLBACK_POPULARITY
    assert not response.missing_item_ids, "nobody knows what the catalog has"
    await asyncio.wait_for(stack.candidate.cancelled.wait(), 30)
    await asyncio.wait_for(stack.generator.cancelled.wait(), 30)


@pytest.mark.parametrize("strategy", ["RERANK", "GENERATE", "FUSE"])
async def test_a_late_generator_leaves_time_for_retrieval(stack: Stack, strategy: str) -> None:
    response = await ask(stack, strategy, history_item_ids=[GENERATOR_WAITS, "i0", "i1", "i2"])
    assert ids(response) == RETRIEVED
    assert [(d.reason, d.fallback) for d in response.degradations] == [
        ("DEADLINE_EXCEEDED", pb.FALLBACK_RETRIEVAL)
    ]
    await asyncio.wait_for(stack.generator.cancelled.wait(), 30)


MISTAKES = [
    errors.InvalidArgument("bad", reason="WHY"),
    errors.NotFound("no", reason="GONE"),
    errors.FailedPrecondition("no", reason="NOT_POSSIBLE"),
]


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("strategy", ["RERANK", "GENERATE", "FUSE", "EMBEDDING"])
async def test_a_callers_mistake_is_never_degraded_away(
    stack: Stack, strategy: str, mistake: errors.TandemError
) -> None:
    stack.candidate.failure = stack.generator.failure = mistake
    with pytest.raises(tandem.Error) as caught:
        await ask(stack, strategy)
    assert caught.value.code.name == mistake.code.name
    assert caught.value.reason == mistake.reason


@pytest.mark.parametrize("gone", [("candidate",), ("generator",), ("candidate", "generator")])
@pytest.mark.parametrize("strategy", ["RERANK", "GENERATE", "FUSE", "EMBEDDING"])
async def test_mistakes_are_found_by_whatever_is_left(
    stack: Stack, strategy: str, gone: tuple[str, ...]
) -> None:
    for name in gone:
        getattr(stack, name).failure = GONE
    with pytest.raises(tandem.InvalidArgument) as caught:
        await ask(stack, strategy, constraints=having("genres", "Drama"))
    assert caught.value.reason == "UNKNOWN_ATTRIBUTE"
    with pytest.raises(tandem.NotFound) as unknown:
        await ask(stack, strategy, user_id="nobody")
    assert unknown.value.reason == "UNKNOWN_USER"


@pytest.mark.parametrize("strategy", ["RERANK", "GENERATE", "FUSE", "EMBEDDING"])
async def test_each_step_has_its_share_of_the_time(stack: Stack, strategy: str) -> None:
    response = await ask(stack, strategy)
    calls = [t for t in response.timings if t.stage in ("history", "search", "generate", "rerank")]
    budgets = [t.budget.ToTimedelta().total_seconds() for t in calls]
    assert all(t.HasField("budget") for t in calls)
    assert all(0 < budget < DEFAULT_TIMEOUT for budget in budgets)
    # One that another step follows or may take the place of leaves time for that.
    given = dict(zip([t.stage for t in calls], budgets, strict=True))
    first = given["generate" if strategy == "GENERATE" else "search"]
    assert first <= 0.6 * DEFAULT_TIMEOUT
    strict = await ask(stack, strategy, forbid_degraded=True)
    allowed = {t.stage: t.budget.ToTimedelta().total_seconds() for t in strict.timings}
    assert allowed["history"] > given["history"]


class Broken:
    """A history store that is gone, or does not answer."""

    def __init__(self, *, hangs: bool) -> None:
        self._hangs = hangs

    async def history(self, _: str) -> tuple[str, ...] | None:
        if self._hangs:
            await asyncio.Event().wait()
        raise errors.Unavailable("gone", reason="HISTORY_UNAVAILABLE", service="history")


@pytest.mark.parametrize(
    ("hangs", "reason"), [(False, "HISTORY_UNAVAILABLE"), (True, "DEADLINE_EXCEEDED")]
)
async def test_without_histories_everybody_gets_the_same(
    stack: Stack, hangs: bool, reason: str
) -> None:
    object.__setattr__(stack.servicer._recommender, "histories", Broken(hangs=hangs))
    for strategy in ("RERANK", "GENERATE", "FUSE", "EMBEDDING"):
        response = await ask(stack, strategy)
        assert steps(response) == [("history", "NO_HISTORY")]
        assert [d.reason for d in response.degradations] == [reason]
        assert ids(response) == best(retrieval_score, set(range(ITEMS)), 5)
    assert all(not request.history_item_ids for request in stack.candidate.requests)
    assert stack.generator.requests == []
    # Who sends a history does not need the store.
    response = await ask(stack, "RERANK", history_item_ids=["i0"])
    assert not response.degraded
    with pytest.raises(tandem.Error) as caught:
        await ask(stack, "RERANK", forbid_degraded=True)
    assert caught.value.reason == reason
    stack.candidate.failure = stack.generator.failure = GONE
    response = await ask(stack, "RERANK", constraints=having("genre", "War"))
    assert steps(response)[-1] == ("generate", "POPULARITY")
    assert ids(response) == ["i2", "i4", "i5", "i8", "i10"]


async def test_a_fallback_goes_through_its_items_once_a_condition(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the event loop: never items times conditions, and a filter that comes again is known."""
    looked: list[float] = []
    within = Catalog.within

    def counted(self: Catalog, attribute: str, low: float, high: float) -> Any:
        looked.append(low)
        return within(self, attribute, low, high)

    monkeypatch.setattr(Catalog, "within", counted)
    stack.candidate.failure = stack.generator.failure = GONE
    years = reduce(or_, (filters.between("year", low, 3000.0) for low in range(200)))
    for _ in range(3):
        response = await ask(
            stack, "RERANK", constraints=ItemConstraints(filter=years.message), max_results=5
        )
        assert response.strategy == pb.STRATEGY_POPULARITY
    assert sorted(looked) == [float(low) for low in range(200)]


POPULARITY = PopularItems(catalog())
SOME_ITEMS = st.lists(st.sampled_from([item_id(p) for p in range(ITEMS)] + ["ghost"]), max_size=8)


@given(
    SOME_ITEMS,
    SOME_ITEMS,
    SOME_ITEMS,
    st.none() | st.sampled_from(GENRES),
    st.booleans(),
    st.integers(1, ITEMS + 3),
)
def test_popularity_keeps_every_rule_and_leaves_no_hole(
    history: list[str],
    excluded: list[str],
    allowed: list[str],
    genre: str | None,
    include_seen: bool,
    count: int,
) -> None:
    condition = None if genre is None else OneOf("genre", (genre,))
    query = Query(
        user_id="",
        history=tuple(history),
        max_results=count,
        strategy=Strategy.RERANK,
        constraints=Constraints(tuple(excluded), condition, tuple(allowed), include_seen),
    )
    request = ResolvedQuery(query, tuple(history))
    items = catalog()
    matching = np.ones(ITEMS, np.bool_) if condition is None else evaluate(condition, items)
    denied = {*excluded} | (set() if include_seen else {*history})
    if allowed:
        denied |= {item_id(p) for p in range(ITEMS)} - {*allowed}
    expected = [item_id(p) for p in range(ITEMS) if matching[p] and item_id(p) not in denied]
    found = POPULARITY.best(request, count)
    assert [item.item_id for item in found] == expected[:count]
    scores = [item.score for item in found]
    assert scores == sorted(scores, reverse=True)
