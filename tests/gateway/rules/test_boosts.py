"""Boosts: against brute force, against what they promise, and over real channels."""

from collections.abc import Sequence
from functools import reduce
from operator import or_

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tandem
from core.attributes import Attributes
from core.filters import OneOf
from gateway.domain import Boost, Cap, Pin, Recommended, Rule, RuleEffect, Rules
from gateway.rules import ListRules, apply_rules, depth, effects
from gateway.rules.boosts import boosted, boosts_of
from tandem import filters
from tandem.requests import StrategyName
from tandem.v1 import recommendation_service_pb2 as pb
from tests.gateway.stack import STRATEGIES, Stack, ids, raw
from tests.tiny_bundle import catalog

GENRES_OF = {item.item_id: item.attributes["genre"] for item in catalog().items}
genres = st.sampled_from(["a", "b", "c"])
pools: st.SearchStrategy[list[Attributes]] = st.lists(
    st.lists(genres, max_size=2, unique=True).map(lambda own: {"genre": tuple(own)}), max_size=12
)
# In steps that floats are exact in, as are their sums.
steps = st.integers(-4, 4).map(lambda quarters: quarters / 4)
some_boosts = st.lists(
    st.builds(Boost, genres.map(lambda genre: OneOf("genre", (genre,))), steps), max_size=4
)
spans = st.sampled_from([4, 8, 40])


def of(genre: str, boost: float) -> Boost:
    return Boost(OneOf("genre", (genre,)), boost)


@given(pools, some_boosts, spans)
def test_each_item_moves_by_its_own_boost(
    pool: list[Attributes], boosts: list[Boost], span: int
) -> None:
    """The oracle takes, again and again, the first of the items that stand highest."""

    def stands(place: int) -> float:
        own = [str(genre) for genre in pool[place]["genre"]]
        total = sum((b.boost for b in boosts if b in [of(g, b.boost) for g in own]), 0.0)
        return place - span * min(1.0, max(-1.0, total))

    left, expected = list(range(len(pool))), list[int]()
    while left:
        highest = min(stands(place) for place in left)
        expected.append(next(place for place in left if stands(place) == highest))
        left.remove(expected[-1])
    assert boosted(pool, boosts, span) == expected


@given(pools, some_boosts, spans)
def test_items_with_the_same_boost_keep_their_order(
    pool: list[Attributes], boosts: list[Boost], span: int
) -> None:
    order = boosted(pool, boosts, span)
    assert sorted(order) == list(range(len(pool)))
    totals = boosts_of(pool, boosts).tolist()
    for total in set(totals):
        alike = [place for place in order if totals[place] == total]
        assert alike == sorted(alike)


@given(pools, genres, st.lists(steps, min_size=2, max_size=2).map(sorted), spans)
def test_a_larger_boost_never_lowers_an_item(
    pool: list[Attributes], genre: str, boosts: Sequence[float], span: int
) -> None:
    less, more = (boosted(pool, [of(genre, boost)], span) for boost in boosts)
    for place, attributes in enumerate(pool):
        if genre in attributes["genre"]:
            assert more.index(place) <= less.index(place)
        else:
            assert more.index(place) >= less.index(place)


@given(pools, genres)
def test_a_whole_boost_reaches_over_all_of_a_pool(pool: list[Attributes], genre: str) -> None:
    span = max(len(pool), 1)
    has = [genre in attributes["genre"] for attributes in pool]
    up = [has[place] for place in boosted(pool, [of(genre, 1.0)], span)]
    assert up == sorted(has, reverse=True)
    down = [has[place] for place in boosted(pool, [of(genre, -1.0)], span)]
    assert down == sorted(has)


@given(st.lists(st.floats(-1e6, 1e6), max_size=9, unique=True), some_boosts)
def test_only_the_order_of_the_scores_counts(scores: list[float], boosts: list[Boost]) -> None:
    known: dict[str, Attributes] = {str(n): {"genre": ("abc"[n % 3],)} for n in range(len(scores))}
    list_rules = ListRules(3, Rules(boosts=tuple(boosts)), attributes=known)
    ranked = sorted(scores, reverse=True)
    pool = [Recommended(str(n), score) for n, score in enumerate(ranked)]
    other = [Recommended(str(n), -float(n)) for n in range(len(scores))]
    assert [i.item_id for i in apply_rules(pool, list_rules)] == [
        i.item_id for i in apply_rules(other, list_rules)
    ]


KNOWN: dict[str, Attributes] = {
    "a": {"genre": ("War",)},
    "b": {"genre": ("Drama",)},
    "c": {"genre": ("Drama",)},
    "d": {"genre": ("War",)},
    "e": {"genre": ("Drama",)},
}
POOL = [Recommended(item_id, -float(place)) for place, item_id in enumerate(KNOWN)]


def listed(count: int, rules: Rules, denied: Sequence[str] = ()) -> list[str]:
    return [i.item_id for i in apply_rules(POOL, ListRules(count, rules, denied, KNOWN))]


def test_by_hand() -> None:
    # A list of 2 is made of 8 places: a boost of a quarter is worth 2 of them.
    assert listed(2, Rules(boosts=(of("War", -0.25),))) == ["b", "a"]
    assert listed(2, Rules(boosts=(of("Drama", 0.25),))) == ["b", "a"]
    assert listed(2, Rules(boosts=(of("Drama", 0.375),))) == ["b", "c"]
    both = (of("Drama", 0.5), of("Drama", -0.5))
    assert listed(5, Rules(boosts=both)) == ["a", "b", "c", "d", "e"]


def test_the_other_rules_hold_whatever_is_boosted() -> None:
    up = (of("Drama", 1.0),)
    assert listed(3, Rules(boosts=up, caps=(Cap("genre", 1),))) == ["b", "a", "c"]
    assert listed(3, Rules(boosts=up, pins=(Pin("d", 1),))) == ["d", "b", "c"]
    assert listed(3, Rules(boosts=up), denied=["b"]) == ["c", "e", "a"]
    assert depth(10, Rules(boosts=up)) == 40, "there is something to choose"


def test_scores_stay_and_effects_say_what_moved() -> None:
    list_rules = ListRules(2, Rules(boosts=(of("Drama", 0.375),)), attributes=KNOWN)
    assert [i.score for i in apply_rules(POOL, list_rules)] == [-1.0, -2.0]
    assert effects(POOL, list_rules) == [
        RuleEffect("b", Rule.BOOST, "boosted by +0.375", 2, 1),
        RuleEffect("c", Rule.BOOST, "boosted by +0.375", 3, 2),
    ]
    lowered = ListRules(2, Rules(boosts=(of("War", -1.0),)), attributes=KNOWN)
    assert RuleEffect("a", Rule.BOOST, "boosted by -1", 1, 0) in effects(POOL, lowered)


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_what_is_boosted_comes_first(stack: Stack, strategy: StrategyName) -> None:
    war = filters.equals("genre", "War")
    response = await stack.client.recommend(
        "ann", strategy=strategy, max_results=3, boosts=[(war, 1.0)], diagnostics=True
    )
    assert all("War" in GENRES_OF[item_id] for item_id in ids(response))
    rules = {effect.rule for item in response.diagnostics.items for effect in item.rules}
    assert pb.RULE_BOOST in rules


@pytest.mark.parametrize(
    ("boosts", "reason"),
    [
        ([(filters.equals("genre", "War"), 1.01)], "BOOST_OUT_OF_RANGE"),
        ([(filters.equals("genre", "War"), float("nan"))], "BOOST_OUT_OF_RANGE"),
        ([(filters.equals("genre", "War"), 0.1)] * 21, "TOO_MANY_BOOSTS"),
        ([(reduce(or_, [filters.equals("genre", "War")] * 129), 0.1)] * 2, "FILTER_TOO_LARGE"),
        ([(~filters.equals("genres", "War"), 0.1)], "UNKNOWN_ATTRIBUTE"),
        ([(filters.between("genre", 2, 1), 0.1)], "EMPTY_RANGE"),
    ],
)
async def test_boosts_that_make_no_sense(
    stack: Stack, boosts: list[tuple[filters.Condition, float]], reason: str
) -> None:
    with pytest.raises(tandem.InvalidArgument) as caught:
        await stack.client.recommend("ann", boosts=boosts)
    assert caught.value.reason == reason
    assert not stack.candidate.requests


async def test_a_boost_needs_a_condition(stack: Stack) -> None:
    request = pb.RecommendRequest(user_id="ann", boosts=[pb.ConditionBoost(boost=0.5)])
    with pytest.raises(tandem.InvalidArgument) as caught:
        await raw(stack.channel, "Recommend", request)
    assert caught.value.reason == "EMPTY_FILTER"
