"""Blending: a weighted sum over the union, by hand and by property."""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from gateway.domain import Recommended, Scored
from gateway.recommend.blend import Weights, blend, generated_only, retrieved_only

scores = st.floats(-20, 0)
ids = st.sampled_from([f"i{n}" for n in range(8)])
ranked = st.dictionaries(ids, scores).map(
    lambda by_id: sorted(
        (Scored(item, score) for item, score in by_id.items()), key=lambda s: -s.score
    )
)
weights = st.builds(Weights, st.floats(0, 4), st.floats(0, 4))


def test_by_hand() -> None:
    retrieved = [Scored("a", -1.0), Scored("b", -2.0), Scored("c", -4.0)]
    generated = [Scored("c", -1.0), Scored("d", -1.25), Scored("a", -3.0)]
    assert blend(retrieved, generated, Weights(retrieval=1.0, generator=2.0)) == [
        Recommended("c", -4.0 + 2 * -1.0, retrieval=-4.0, generator=-1.0),
        # d: outside of the shortlist, so at most as good as its last, c.
        Recommended("d", -4.0 + 2 * -1.25, retrieval=None, generator=-1.25),
        Recommended("a", -1.0 + 2 * -3.0, retrieval=-1.0, generator=-3.0),
        # b: unknown to the generator, so taken to be as unlikely as its last, a.
        Recommended("b", -2.0 + 2 * -3.0, retrieval=-2.0, generator=None),
    ]


def test_transitions_by_hand() -> None:
    retrieved = [Scored("a", -1.0, -5.0), Scored("b", -2.0, -4.0)]
    generated = [Scored("b", -1.0), Scored("c", -1.5), Scored("a", -3.0)]
    assert blend(retrieved, generated, Weights(1.0, 2.0, transitions=0.5)) == [
        Recommended("b", -2.0 + 0.5 * -4.0 + 2 * -1.0, retrieval=-2.0, generator=-1.0),
        # c: outside of the shortlist, so at most as good as the worst there, by either score.
        Recommended("c", -2.0 + 0.5 * -5.0 + 2 * -1.5, retrieval=None, generator=-1.5),
        Recommended("a", -1.0 + 0.5 * -5.0 + 2 * -3.0, retrieval=-1.0, generator=-3.0),
    ]


def test_a_shortlist_without_transitions_counts_in_their_place() -> None:
    retrieved = [Scored("a", -1.0), Scored("b", -2.0)]
    generated = [Scored("b", -1.0), Scored("a", -3.0)]
    without = blend(retrieved, generated, Weights(0.25, 0.5, transitions=0.75))
    assert without == blend(retrieved, generated, Weights(1.0, 0.5))


def test_equal_scores_keep_the_order_of_retrieval() -> None:
    retrieved = [Scored("b", -1.0), Scored("a", -1.0)]
    generated = [Scored("a", -2.0), Scored("b", -2.0)]
    assert [item.item_id for item in blend(retrieved, generated, Weights(1, 1))] == ["b", "a"]


@given(ranked, ranked, weights)
def test_every_item_appears_once_with_its_own_scores_best_first(
    retrieved: list[Scored], generated: list[Scored], weights: Weights
) -> None:
    result = blend(retrieved, generated, weights)
    retrieval = {item.item_id: item.score for item in retrieved}
    generator = {item.item_id: item.score for item in generated}
    assert sorted(item.item_id for item in result) == sorted(retrieval.keys() | generator.keys())
    assert [item.score for item in result] == sorted((i.score for i in result), reverse=True)
    for item in result:
        assert item.retrieval == retrieval.get(item.item_id)
        assert item.generator == generator.get(item.item_id)


@given(ranked, ranked, weights)
def test_what_is_better_in_both_never_ranks_lower(
    retrieved: list[Scored], generated: list[Scored], weights: Weights
) -> None:
    known = [
        (item.retrieval, item.generator, item.score)
        for item in blend(retrieved, generated, weights)
        if item.retrieval is not None and item.generator is not None
    ]
    for above, below in combinations(known, 2):
        if below[0] > above[0] and below[1] > above[1]:
            assert below[2] == above[2]  # weights of zero, or a difference too small to add up


@given(ranked, st.lists(st.tuples(ids, scores), unique_by=lambda pair: pair[0]), st.integers(1, 5))
def test_the_stand_in_is_never_below_the_truth(
    everything: list[Scored], pairs: list[tuple[str, float]], size: int
) -> None:
    """Cutting the shortlist can only raise what an item outside of it gets: an upper bound."""
    generated = [Scored(*pair) for pair in pairs]
    shortlist = everything[:size]
    weights = Weights(1, 1)
    whole = {item.item_id: item.score for item in blend(everything, generated, weights)}
    retrieval = {item.item_id for item in everything}
    for item in blend(shortlist, generated, weights):
        if shortlist and item.item_id in retrieval and item.generator is not None:
            assert item.score >= whole[item.item_id]


@given(ranked)
def test_one_list_alone_keeps_its_order(items: list[Scored]) -> None:
    order = [item.item_id for item in items]
    by_score = sorted(items, key=lambda item: -item.score)
    assert [item.item_id for item in retrieved_only(items)] == order
    assert [item.item_id for item in generated_only(items)] == order
    for result in (blend(items, [], Weights(1, 1)), blend([], items, Weights(1, 1))):
        assert [item.item_id for item in result] == [item.item_id for item in by_score]
