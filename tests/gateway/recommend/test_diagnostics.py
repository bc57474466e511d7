"""Diagnostics over real channels: each step, source and rule, of an answer that stays the same."""

import pytest

import tandem
from core import errors
from gateway.domain import Cap, Pin, Recommended, Rule, RuleEffect, Rules
from gateway.rules import ListRules, effects
from tandem.requests import StrategyName
from tandem.v1 import recommendation_service_pb2 as pb
from tests.gateway.fakes import generator_score, retrieval_score
from tests.gateway.stack import STRATEGIES, UNSEEN, Stack, best, final_score, ids, raw
from tests.tiny_bundle import item_id


def pool(*item_ids: str) -> list[Recommended]:
    return [Recommended(item, -float(rank)) for rank, item in enumerate(item_ids)]


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_a_diagnosed_answer_is_the_same_answer(stack: Stack, strategy: StrategyName) -> None:
    plain = await stack.client.recommend("ann", strategy=strategy, max_results=4)
    assert not plain.HasField("diagnostics")
    diagnosed = await stack.client.recommend(
        "ann", strategy=strategy, max_results=4, diagnostics=True
    )
    assert list(diagnosed.recommendations) == list(plain.recommendations)
    assert [item.item_id for item in diagnosed.diagnostics.items] == ids(plain)
    assert list(diagnosed.diagnostics.history_item_ids) == ["i0", "i1", "i2"]


async def test_each_step_has_its_rank_and_score(stack: Stack) -> None:
    response = await stack.client.recommend("ann", strategy="fuse", max_results=3, diagnostics=True)
    shortlist = sorted(UNSEEN)[:6]
    generated = best(generator_score, UNSEEN, 3)
    reranked = best(generator_score, set(shortlist), 6)
    for item in response.diagnostics.items:
        position = int(item.item_id[1:])
        places = {place.stage: place for place in item.stages}
        assert list(places) == [
            stage
            for stage, found in (
                ("search", list(map(item_id, shortlist))),
                ("generate", generated),
                ("rerank", reranked),
                ("blend", [item.item_id]),
            )
            if item.item_id in found
        ]
        if search := places.get("search"):
            assert search.rank == shortlist.index(position) + 1
            assert search.score == retrieval_score(position)
            assert places["rerank"].rank == reranked.index(item.item_id) + 1
            assert places["blend"].score == pytest.approx(final_score(position))
        if generate := places.get("generate"):
            assert generate.rank == generated.index(item.item_id) + 1
            assert generate.score == generator_score(position)
    assert [i.stages[-1].rank for i in response.diagnostics.items] == [1, 2, 3]


async def test_the_services_say_what_they_make_of_the_items(stack: Stack) -> None:
    response = await stack.client.recommend(
        "ann", strategy="generate", max_results=3, diagnostics=True
    )
    for item in response.diagnostics.items:
        position = int(item.item_id[1:])
        (source,) = item.sources
        assert (source.source, source.weight) == ("query_encoder", 1.0)
        assert source.score == retrieval_score(position), "though retrieval was not asked for it"
        (influence,) = item.influences
        assert (influence.item_id, influence.contribution) == ("i2", 0.5)
        assert item.code.text == f"<a_{position}>"
        (token,) = item.code.tokens
        assert token.log_probability == generator_score(position)


async def test_the_rules_say_what_they_moved_and_removed(stack: Stack) -> None:
    response = await stack.client.recommend(
        "ann",
        strategy="embedding",
        max_results=3,
        pin={"i11": 1},
        caps={"genre": 1},
        diagnostics=True,
    )
    # i3 Comedy; i4 Drama, War; i5 War; i6 Comedy, Drama; i11 War
    assert ids(response) == ["i11", "i3", "i7"]
    told = {
        item.item_id: [
            (pb.Rule.Name(e.rule).removeprefix("RULE_"), e.rank_before, e.rank_after)
            for e in item.rules
        ]
        for item in response.diagnostics.items
    }
    assert told == {
        "i11": [("PINNED", 9, 1)],
        "i3": [],
        "i7": [],
        "i5": [("PINNED", 3, 0)],
        "i4": [("CAP", 3, 0)],
    }
    assert [item.item_id for item in response.diagnostics.items][:3] == ids(response)
    (effect,) = response.diagnostics.items[-1].rules
    assert "genre=War at most 1 times" in effect.detail
    assert response.diagnostics.items[-1].code.text == "<a_4>", "what is left out is diagnosed too"


def test_effects_by_hand() -> None:
    of = {item: {"genre": (genre,)} for item, genre in zip("abcdp", "xxyyx", strict=True)}
    rules = Rules(pins=(Pin("p", 2), Pin("e")), caps=(Cap("genre", 1),), diversity=0.0)
    told = effects(pool("a", "e", "b", "a", "c", "d"), ListRules(3, rules, frozenset("e"), of))
    assert told == [
        RuleEffect("a", Rule.DUPLICATE, "found more than once", 1, 1),
        RuleEffect("e", Rule.EXCLUDED, "excluded, seen or filtered out", 2, 0),
        RuleEffect("p", Rule.PINNED, "pinned to place 2", 0, 2),
        RuleEffect("c", Rule.PINNED, "gave way to a pinned item", 3, 0),
        # Beside c and p every item has a genre too many: the best of them is there all the same.
        RuleEffect("a", Rule.CAP, "genre=x at most 1 times", 1, 3),
        RuleEffect("b", Rule.CAP, "genre=x at most 1 times", 3, 0),
    ]


def test_diversity_names_what_it_moved() -> None:
    of = {"a": {"genre": ("x",)}, "b": {"genre": ("x",)}, "c": {"genre": ("y",)}}
    told = effects(pool("a", "b", "c"), ListRules(2, Rules(diversity=0.9), (), of))
    assert told == [
        RuleEffect("c", Rule.DIVERSITY, "less like the rest", 3, 2),
        RuleEffect("b", Rule.DIVERSITY, "too like the rest", 2, 0),
    ]


@pytest.mark.parametrize("service", ["candidate", "generator"])
async def test_diagnostics_can_lack_a_service(stack: Stack, service: str) -> None:
    working = {"candidate": "generate", "generator": "embedding"}[service]
    getattr(stack, service).failure = errors.Internal("gone", reason="GONE")
    request = pb.RecommendRequest(
        user_id="ann",
        max_results=2,
        strategy=pb.Strategy.Value(f"STRATEGY_{working.upper()}"),
        diagnostics=True,
    )
    response = pb.RecommendResponse.FromString(await raw(stack.channel, "Recommend", request))
    (degradation,) = response.degradations
    stage = {"candidate": "diagnose_search", "generator": "diagnose_items"}[service]
    assert (degradation.stage, degradation.fallback) == (stage, pb.FALLBACK_NONE)
    for item in response.diagnostics.items:
        assert bool(item.sources) == (service != "candidate")
        assert item.HasField("code") == (service != "generator")
    request.forbid_degraded = True
    with pytest.raises(tandem.Internal):
        await raw(stack.channel, "Recommend", request)
