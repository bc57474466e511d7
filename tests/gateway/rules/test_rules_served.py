"""The rules over real channels: what is asked of whom, and what comes of it."""

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest

import tandem
from core import errors
from tandem import filters
from tandem.requests import StrategyName
from tandem.v1 import catalog_service_pb2 as catalog_pb
from tandem.v1 import recommendation_service_pb2 as pb
from tests.gateway.fakes import generator_score, retrieval_score
from tests.gateway.stack import STRATEGIES, UNSEEN, Stack, best, ids, raw
from tests.tiny_bundle import GENRES, ITEMS, catalog

GENRES_OF = {item.item_id: item.attributes["genre"] for item in catalog().items}


def tally(item_ids: Iterable[str]) -> dict[str, int]:
    counted = [genre for item_id in item_ids for genre in GENRES_OF[item_id]]
    return {genre: counted.count(genre) for genre in GENRES}


def lookups(stack: Stack) -> list[list[str]]:
    return [
        list(request.item_ids)
        for request in stack.candidate.requests
        if isinstance(request, catalog_pb.GetItemsRequest)
    ]


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_pinned_items_take_their_places(stack: Stack, strategy: StrategyName) -> None:
    plain = ids(await stack.client.recommend("ann", strategy=strategy, max_results=5))
    response = await stack.client.recommend(
        "ann", strategy=strategy, max_results=5, pin={"i11": 2, "i10": 0}
    )
    others = [item_id for item_id in plain if item_id not in ("i10", "i11")]
    assert ids(response) == ["i10", "i11", *others][:5]
    assert [item.pinned for item in response.recommendations] == [True, True, False, False, False]
    assert lookups(stack) == [["i11", "i10"]]


async def test_what_may_not_be_shown_is_not_pinned(stack: Stack) -> None:
    async def first(pin: str, **asked: Any) -> pb.RecommendResponse:
        return await stack.client.recommend(
            "ann", strategy="embedding", max_results=3, pin={pin: 1}, **asked
        )

    plain = best(retrieval_score, UNSEEN, 3)
    assert ids(await first("i1")) == plain, "seen"
    assert ids(await first("i1", include_seen=True))[0] == "i1"
    assert ids(await first("i9", exclude=["i9"])) == plain
    assert ids(await first("i9", only=plain)) == plain, "not among those that are allowed"
    assert ids(await first("i9", only=["i9", *plain]))[0] == "i9"
    drama = await first("i9", filter=filters.equals("genre", "Drama"))
    assert "i9" not in ids(drama), "filtered out"
    assert not drama.missing_item_ids
    unknown = await first("nowhere")
    assert ids(unknown) == plain
    assert list(unknown.missing_item_ids) == ["nowhere"]


async def test_a_pin_follows_the_live_catalog_rather_than_the_bundle(stack: Stack) -> None:
    stack.candidate.live["new"] = ["War"]
    del stack.candidate.live["i9"]
    response = await stack.client.recommend(
        "ann",
        strategy="embedding",
        max_results=3,
        pin={"new": 1, "i9": 2},
        filter=filters.equals("genre", "War"),
    )
    assert ids(response)[0] == "new"
    assert "i9" not in ids(response)
    assert list(response.missing_item_ids) == ["i9"]


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_a_capped_list_is_full_and_keeps_to_its_caps(
    stack: Stack, strategy: StrategyName
) -> None:
    response = await stack.client.recommend(
        "ann", strategy=strategy, max_results=3, caps={"genre": 2}
    )
    assert len(ids(response)) == 3
    assert max(tally(ids(response)).values()) <= 2
    # Where nothing else is left, the caps are let go.
    response = await stack.client.recommend(
        "ann", strategy=strategy, max_results=9, caps={"genre": 1}
    )
    assert len(ids(response)) == ITEMS - 3
    assert not lookups(stack), "they come with their attributes"


async def test_a_choosy_list_is_made_of_a_deeper_pool(stack: Stack) -> None:
    for asked in ({"caps": {"genre": 1}}, {"diversity": 0.5}):
        stack.candidate.requests.clear()
        await stack.client.recommend("ann", strategy="embedding", max_results=2, **asked)
        assert stack.candidate.requests[0].max_results == 8


async def test_diversity_takes_neighbors_apart(stack: Stack) -> None:
    response = await stack.client.recommend(
        "ann", strategy="embedding", max_results=3, diversity=0.9
    )
    for one, other in pairwise(ids(response)):
        assert set(GENRES_OF[one]) != set(GENRES_OF[other])
    assert ids(response)[0] == "i3", "the best is first all the same"


async def test_items_of_a_later_catalog_bring_their_attributes(stack: Stack) -> None:
    """The service found an item that the gateway's bundle does not have."""
    scored = stack.candidate.scored

    def with_a_new_one(scores: dict[int, float], count: int) -> Any:
        found = scored(scores, count - 1)
        return [type(found[0])(item_id="i99", score=0.0), *found]

    describe = stack.candidate.describe

    def with_its_attributes(request: Any, messages: Any) -> None:
        first, *others = messages
        first.attributes["genre"].values.add(text="Comedy")
        first.attributes["genre"].values.add(text="Drama")
        describe(request, others)

    stack.candidate.describe = with_its_attributes  # type: ignore[method-assign]
    stack.candidate.scored = with_a_new_one  # type: ignore[method-assign]
    response = await stack.client.recommend(
        "ann", strategy="embedding", max_results=3, caps={"genre": 1}
    )
    assert not response.degraded
    assert ids(response)[:2] == ["i99", "i5"], "i5 is the first without its genres"
    assert not lookups(stack)
    (request,) = stack.candidate.requests
    assert list(request.item_fields.paths) == ["attributes"]


@pytest.mark.parametrize("strategy", ["generate", "fuse"])
async def test_rules_go_by_the_catalog_as_it_is_now(stack: Stack, strategy: StrategyName) -> None:
    """The generator has the bundle's attributes, and the candidate's catalog has changed since."""
    scored = stack.candidate.scored
    stack.candidate.scored = lambda scores, count: scored(  # type: ignore[method-assign]
        scores, min(count, 2)
    )
    stack.candidate.sequence = stack.generator.sequence = 7
    asked: dict[str, Any] = {"max_results": 3, "caps": {"genre": 1}, "item_fields": ["attributes"]}
    plain = await stack.client.recommend("ann", strategy=strategy, **asked)
    assert not lookups(stack), "the generator has all changes"
    stack.generator.sequence = 6
    for item_id in stack.candidate.live:
        stack.candidate.live[item_id] = [f"own of {item_id}"]
    gone = ids(plain)[-1]
    del stack.candidate.live[gone]
    # The service that was asked last tells how far the catalog is.
    await stack.client.recommend("ann", strategy="embedding")
    response = await stack.client.recommend("ann", strategy=strategy, **asked)
    generated = {item_id for asked in lookups(stack) for item_id in asked}
    assert generated
    for item in response.recommendations:
        (genre,) = [value.text for value in item.attributes["genre"].values][:1]
        assert item.item_id not in generated or genre == f"own of {item.item_id}"
    assert gone not in generated or gone not in ids(response)
    if strategy == "generate":
        best_now = [i for i in best(generator_score, UNSEEN, 4) if i != gone][:3]
        assert ids(response) == best_now, "no two are alike any more"


async def test_a_pin_has_the_attributes_that_a_service_knows_of_it(stack: Stack) -> None:
    """The catalog cannot be asked for it, but the generator has found it."""
    stack.candidate.failure = errors.Internal("gone", reason="GONE")
    describe = stack.generator.describe

    def replaced(request: Any, messages: Any) -> None:
        describe(request, messages)
        for message in messages:
            del message.attributes["genre"].values[:]
            message.attributes["genre"].values.add(text=f"own of {message.item_id}")

    stack.generator.describe = replaced  # type: ignore[method-assign]
    response = await stack.client.recommend(
        "ann",
        strategy="generate",
        max_results=3,
        pin={"i9": 1},
        caps={"genre": 1},
        item_fields=["attributes"],
    )
    assert ids(response)[0] == "i9"
    (first, *_) = response.recommendations
    assert [value.text for value in first.attributes["genre"].values] == ["own of i9"]


async def test_without_the_catalog_what_is_popular_is_believed(stack: Stack) -> None:
    stack.candidate.failure = errors.Internal("gone", reason="GONE")
    request = pb.RecommendRequest(user_id="ann", max_results=3, strategy=pb.STRATEGY_GENERATE)
    request.pinned_items.add(item_id="i9", position=1)
    request.pinned_items.add(item_id="nowhere", position=2)
    response = pb.RecommendResponse.FromString(await raw(stack.channel, "Recommend", request))
    assert ids(response)[0] == "i9"
    assert list(response.missing_item_ids) == ["nowhere"]
    assert [(d.stage, d.fallback) for d in response.degradations] == [("items", pb.FALLBACK_NONE)]
    request.forbid_degraded = True
    with pytest.raises(tandem.Internal):
        await raw(stack.channel, "Recommend", request)


def recommend(**fields: Any) -> pb.RecommendRequest:
    return pb.RecommendRequest(user_id="ann", max_results=3, **fields)


def pins(*places: tuple[str, int]) -> list[pb.PinnedItem]:
    return [pb.PinnedItem(item_id=item_id, position=position) for item_id, position in places]


def caps(*limits: tuple[str, int]) -> list[pb.AttributeCap]:
    return [pb.AttributeCap(attribute=name, max_items=most) for name, most in limits]


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (recommend(pinned_items=pins(("i9", 4))), "PIN_OUT_OF_RANGE"),
        (recommend(pinned_items=pins(("i9", -1))), "PIN_OUT_OF_RANGE"),
        (recommend(pinned_items=pins(("i9", 1), ("i9", 2))), "CONFLICTING_PINS"),
        (recommend(pinned_items=pins(("i9", 1), ("i8", 1))), "CONFLICTING_PINS"),
        (recommend(pinned_items=pins(*((f"i{n}", 0) for n in range(4)))), "TOO_MANY_ITEMS"),
        (recommend(pinned_items=pins(("", 1))), "EMPTY_ID"),
        (recommend(pinned_items=pins(("x" * 513, 1))), "ID_TOO_LONG"),
        (recommend(attribute_caps=caps(("genre", 0))), "CAP_OUT_OF_RANGE"),
        (recommend(attribute_caps=caps(("genre", -1))), "CAP_OUT_OF_RANGE"),
        (recommend(attribute_caps=caps(("genres", 1))), "UNKNOWN_ATTRIBUTE"),
        (recommend(attribute_caps=caps(("genre", 1), ("genre", 2))), "CONFLICTING_CAPS"),
        (recommend(attribute_caps=caps(*((f"a{n}", 1) for n in range(9)))), "CONFLICTING_CAPS"),
        (recommend(diversity=1.01), "DIVERSITY_OUT_OF_RANGE"),
        (recommend(diversity=-0.01), "DIVERSITY_OUT_OF_RANGE"),
        (recommend(diversity=float("nan")), "DIVERSITY_OUT_OF_RANGE"),
    ],
)
async def test_rules_that_make_no_sense(
    stack: Stack, request_: pb.RecommendRequest, reason: str
) -> None:
    with pytest.raises(tandem.InvalidArgument) as caught:
        await raw(stack.channel, "Recommend", request_)
    assert caught.value.reason == reason
    assert not stack.candidate.requests
