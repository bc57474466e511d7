"""The engine against a brute force that scores every item, and against transformers."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from core.catalog import Delete
from offline.generator.export.parity import compare
from services.generator.decoding.engine import (
    Generation,
    GeneratorEngine,
    RankingQuery,
    UserContext,
)
from tests.generator.made_up import (
    Backbone,
    MadeUp,
    Served,
    level_texts,
    random_levels,
    write_made_up,
)

NONE = np.empty(0, dtype=np.int32)


def random_context(rng: np.random.Generator, items: int, longest: int = 12) -> UserContext:
    history = rng.integers(0, items, rng.integers(0, longest + 1)).astype(np.int32)
    return UserContext(user=None, history=history)


def wish(
    context: UserContext,
    count: int,
    allowed: NDArray[np.bool_] | None = None,
    denied: NDArray[np.int32] = NONE,
) -> RankingQuery:
    return RankingQuery(context, Generation(count, allowed, denied))


def test_reranking_gives_the_exact_score_of_every_item(served: Served) -> None:
    rng = np.random.default_rng(1)
    contexts = [random_context(rng, served.items) for _ in range(4)]  # padded: lengths differ
    everything = np.arange(served.items, dtype=np.int32)
    for context, ranked in zip(
        contexts,
        served.engine.rerank([RankingQuery(c, shortlist=everything) for c in contexts]),
        strict=True,
    ):
        expected = served.exact(context)
        np.testing.assert_allclose(ranked.scores, expected[ranked.items], atol=1e-4)
        assert (np.diff(ranked.scores) <= 0).all()
        assert sorted(ranked.items.tolist()) == everything.tolist()


def test_a_beam_for_every_item_is_exhaustive_search(served: Served) -> None:
    context = random_context(np.random.default_rng(2), served.items)
    (ranked,) = served.engine.generate([wish(context, served.items)])
    expected = served.exact(context)
    assert sorted(ranked.items.tolist()) == list(range(served.items))
    np.testing.assert_allclose(ranked.scores, expected[ranked.items], atol=1e-4)
    np.testing.assert_allclose(ranked.scores, np.sort(expected)[::-1], atol=1e-4)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_whatever_is_allowed_the_list_is_full_legal_and_correctly_scored(
    served: Served, data: st.DataObject
) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    share = data.draw(st.sampled_from([0.0, 0.01, 0.1, 0.5, 1.0]))
    allowed = rng.random(served.items) < share if data.draw(st.booleans()) else None
    denied = rng.integers(0, served.items, data.draw(st.integers(0, 600))).astype(np.int32)
    count = data.draw(st.integers(1, 40))
    context = random_context(rng, served.items)
    left = np.ones(served.items, dtype=np.bool_) if allowed is None else allowed.copy()
    left[denied] = False
    (ranked,) = served.engine.generate([wish(context, count, allowed, denied)])
    assert len(ranked.items) == min(count, left.sum())
    assert left[ranked.items].all()
    assert len(set(ranked.items.tolist())) == len(ranked.items)
    assert (np.diff(ranked.scores) <= 0).all()
    expected = served.exact(context)
    np.testing.assert_allclose(ranked.scores, expected[ranked.items], atol=1e-4)
    if left.sum() <= 20:  # nothing is pruned, so the order is that of the brute force
        best = np.sort(expected[left])[::-1][:count]
        np.testing.assert_allclose(ranked.scores, best, atol=1e-4)


def test_an_answer_does_not_depend_on_its_neighbors_in_the_batch(served: Served) -> None:
    rng = np.random.default_rng(3)
    queries = [
        wish(random_context(rng, served.items), 20, rng.random(served.items) < 0.5, NONE)
        for _ in range(8)
    ]
    for query, together in zip(queries, served.engine.generate(queries), strict=True):
        (alone,) = served.engine.generate([query])
        np.testing.assert_array_equal(alone.items, together.items)
        np.testing.assert_allclose(alone.scores, together.scores, atol=1e-4)


def test_200_users_get_the_lists_that_transformers_generates(by_token: MadeUp) -> None:
    rng = np.random.default_rng(4)
    queries = [wish(random_context(rng, by_token.items), 20) for _ in range(200)]
    parity = compare(by_token.engine, by_token.model, queries)
    assert parity.identical_lists == 200
    assert parity.largest_difference < 1e-4
    assert parity.largest_rerank_difference < 1e-4
    parity.require()


GATED = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
BIASED = {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}
LONG = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0}
LONG |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 16}


@pytest.mark.parametrize(
    ("texts", "kind", "changes"),
    [
        pytest.param(level_texts(random_levels(80, (100,))), "t5", {}, id="one level"),
        pytest.param(level_texts(random_levels(200, (3,) * 8)), "t5", {}, id="eight levels"),
        pytest.param(level_texts(random_levels(90, (5, 5, 5))), "t5", GATED, id="T5 1.1"),
        pytest.param(level_texts(random_levels(2, (1, 1, 2))), "t5", {}, id="two items"),
        pytest.param(level_texts(random_levels(80, (100,))), "llama", {}, id="one level, llama"),
        pytest.param(level_texts(random_levels(200, (3,) * 8)), "llama", BIASED, id="with biases"),
        pytest.param(level_texts(random_levels(2, (1, 1, 2))), "qwen2", {}, id="two items, qwen2"),
        pytest.param(level_texts(random_levels(90, (5, 5, 5))), "qwen3", {}, id="qwen3"),
        pytest.param(
            level_texts(random_levels(90, (5, 5, 5))),
            "llama",
            {"num_key_value_heads": 4, "head_dim": 12},
            id="keys for each head",
        ),
        pytest.param(
            level_texts(random_levels(90, (5, 5, 5))),
            "llama",
            {"num_key_value_heads": 1, "rope_parameters": LONG},
            id="keys for all heads, scaled positions",
        ),
    ],
)
def test_other_codes_and_models(
    tmp_path: Path, texts: list[str], kind: Backbone, changes: dict[str, object]
) -> None:
    made_up = write_made_up(tmp_path, texts, backbone=kind, changes=changes)
    rng = np.random.default_rng(5)
    for _ in range(3):
        context = random_context(rng, made_up.items)
        expected = made_up.exact(context)
        (ranked,) = made_up.engine.generate([wish(context, 500)])
        assert len(ranked.items) == made_up.items
        np.testing.assert_allclose(ranked.scores, expected[ranked.items], atol=1e-4)


def test_a_long_shortlist_is_scored_in_bounded_parts(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pass compares each prefix with all others, so memory would grow with their square."""
    monkeypatch.setattr("services.generator.decoding.engine.MOST_PREFIXES", 30)
    rng = np.random.default_rng(6)
    shortlists = [rng.permutation(served.items).astype(np.int32) for _ in range(3)]
    queries = [
        RankingQuery(random_context(rng, served.items), shortlist=items) for items in shortlists
    ]
    jobs = [served.engine.prepare(query) for query in queries]
    assert max(job.prefixes for job in jobs) <= 30
    for query, ranked in zip(queries, served.engine.rerank(queries), strict=True):
        assert sorted(ranked.items.tolist()) == list(range(served.items))
        expected = served.exact(query.context)
        np.testing.assert_allclose(ranked.scores, expected[ranked.items], atol=1e-4)


def test_codes_that_begin_other_codes(tmp_path: Path, backbone: Backbone) -> None:
    """`item_1`, `item_10` and `item_108`: each ends with the end-of-sequence token."""
    levels = [(1,), (1, 0), (1, 0, 8), (2,), (2, 0), (3, 1, 4)]
    texts = ["".join(f"<a_{v}>" for v in code) for code in levels]
    made_up = write_made_up(tmp_path, texts, backbone=backbone)
    assert made_up.engine.snapshot.codes.shape == (6, 4)
    context = UserContext(None, np.array([0, 2], dtype=np.int32))
    expected = made_up.exact(context)
    (ranked,) = made_up.engine.generate([wish(context, 6)])
    assert sorted(ranked.items.tolist()) == list(range(6))
    np.testing.assert_allclose(ranked.scores, expected[ranked.items], atol=1e-4)
    (reranked,) = made_up.engine.rerank(
        [RankingQuery(context, shortlist=np.array([2, 0], dtype=np.int32))]
    )
    np.testing.assert_allclose(reranked.scores, expected[reranked.items], atol=1e-4)


def test_a_history_longer_than_the_prompt_counts_its_newest_items(by_token: MadeUp) -> None:
    long = np.arange(200, dtype=np.int32)
    newest = long[-by_token.engine.parts.section.max_history :]
    lists = [
        by_token.engine.generate([wish(UserContext(None, h), 10)])[0].items for h in (long, newest)
    ]
    np.testing.assert_array_equal(lists[0], lists[1])


def test_without_a_history_the_user_alone_is_named(by_token: MadeUp) -> None:
    engine, nobody = by_token.engine, UserContext(None, NONE)
    text = "recommend an item to user_unknown"
    assert engine.render(nobody) == engine.parts.tokenizer.encode(text).ids
    (ranked,) = engine.generate([wish(nobody, 5)])
    expected = by_token.exact(nobody)
    np.testing.assert_allclose(ranked.scores, expected[ranked.items], atol=1e-4)


def test_another_template_asks_the_same_model(by_token: MadeUp) -> None:
    template = by_token.engine.parts.template
    again: GeneratorEngine = by_token.engine.with_template(template)
    query = wish(UserContext(None, np.array([1], dtype=np.int32)), 5)
    np.testing.assert_array_equal(
        again.generate([query])[0].items, by_token.engine.generate([query])[0].items
    )


def test_codes_of_different_lengths_are_searched_at_least_as_far_as_by_transformers(
    tmp_path: Path, backbone: Backbone
) -> None:
    texts = ["".join(f"<a_{digit}>" for digit in str(number)) for number in range(150)]
    made_up = write_made_up(tmp_path, texts, backbone=backbone)
    rng = np.random.default_rng(6)
    contexts = [random_context(rng, 150) for _ in range(40)]
    parity = compare(made_up.engine, made_up.model, [wish(c, 20) for c in contexts])
    parity.require()
    for context in contexts[:5]:  # and a beam for every item finds them all, in order
        (ranked,) = made_up.engine.generate([wish(context, 150)])
        best = np.sort(made_up.exact(context))[::-1]
        np.testing.assert_allclose(ranked.scores, best, atol=1e-4)


def test_codes_of_different_lengths_fill_the_list_whatever_is_denied(
    tmp_path: Path, backbone: Backbone
) -> None:
    texts = ["".join(f"<a_{digit}>" for digit in str(number)) for number in range(150)]
    made_up = write_made_up(tmp_path, texts, beams=4, backbone=backbone)
    rng = np.random.default_rng(7)
    for count in (1, 3, 10, 40):
        denied = rng.permutation(150)[: rng.integers(0, 150)].astype(np.int32)
        context = random_context(rng, 150)
        (ranked,) = made_up.engine.generate([wish(context, count, None, denied)])
        assert len(ranked.items) == min(count, 150 - len(denied))
        assert not set(ranked.items.tolist()) & set(denied.tolist())
        expected = made_up.exact(context)
        np.testing.assert_allclose(ranked.scores, expected[ranked.items], atol=1e-4)


def test_both_ways_of_ranking_in_one_call_give_what_each_gives_alone(served: Served) -> None:
    rng = np.random.default_rng(8)
    for _ in range(5):
        context = random_context(rng, served.items)
        wanted = Generation(10, rng.random(served.items) < 0.5, NONE)
        shortlist = rng.permutation(served.items)[:50].astype(np.int32)
        generated, reranked, both = served.engine.answer(
            [
                RankingQuery(context, wanted),
                RankingQuery(context, shortlist=shortlist),
                RankingQuery(context, wanted, shortlist),
            ]
        )
        assert generated.generated is not None
        assert reranked.reranked is not None
        assert both.generated is not None
        assert both.reranked is not None
        assert generated.reranked is None
        assert reranked.generated is None
        np.testing.assert_array_equal(both.generated.items, generated.generated.items)
        np.testing.assert_allclose(both.generated.scores, generated.generated.scores, atol=1e-5)
        np.testing.assert_array_equal(both.reranked.items, reranked.reranked.items)
        np.testing.assert_allclose(both.reranked.scores, reranked.reranked.scores, atol=1e-5)


def test_a_neighbor_that_wants_more_does_not_widen_the_search_of_others(served: Served) -> None:
    context = random_context(np.random.default_rng(9), served.items)
    alone = served.engine.generate([wish(context, 5)])[0]
    together = served.engine.generate([wish(context, 5), wish(context, 100)])[0]
    np.testing.assert_array_equal(alone.items, together.items)
    jobs = [served.engine.prepare(wish(context, n)) for n in (5, 20, 100)]
    assert jobs[0].group == jobs[1].group != jobs[2].group


def test_a_job_keeps_the_catalog_that_it_was_prepared_with(by_token: MadeUp) -> None:
    engine, before = by_token.engine, by_token.engine.snapshot
    query = wish(UserContext(None, NONE), 10)
    old = engine.prepare(query)
    best = engine.run([old])[0].generated
    assert best is not None
    gone = before.catalog.ids(best.items[:3])
    later = engine.over(before.apply([Delete(item_id) for item_id in gone]))
    again, new = later.run([old])[0].generated, later.generate([query])[0]
    assert again is not None
    np.testing.assert_array_equal(again.items, best.items)
    np.testing.assert_array_equal(new.items[:7], best.items[3:])
    assert later.prepare(query).group != old.group


def test_short_and_long_shortlists_do_not_share_a_batch(served: Served) -> None:
    """A short one would be padded to the long one, at full cost."""
    context = UserContext(None, NONE)
    short, alike, long = (
        served.engine.prepare(RankingQuery(context, shortlist=np.arange(n, dtype=np.int32)))
        for n in (4, 5, 200)
    )
    assert short.group == alike.group != long.group
