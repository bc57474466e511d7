"""The lists that strategies make, as the gateway makes them; and which one is the default."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.manifest import BlendWeights
from gateway.domain import Scored
from gateway.recommend.blend import Weights, blend
from offline.blend.choose import _choose
from offline.blend.lists import (
    RETRIEVAL,
    RETRIEVAL_ALONE,
    Blended,
    UserLists,
    _user_lists,
    blendable,
    gains_alone,
)
from offline.blend.retrieval import CrossFit, Retrieval, Tuning
from offline.blend.sources import RECENCIES
from offline.blend.strategies import choose_default
from offline.blend.validation import FOLDS, Decision, Gains, Worth, folds, gains_of
from offline.bootstrap import Difference
from offline.evaluate.protocol import Question
from services.candidate.retrieval import shortlist as shortlists
from services.candidate.retrieval.shortlist import Basis, Shortlist
from services.generator.decoding.engine import Ranked, RankingAnswer

ITEMS = 20


def scored(items: np.ndarray, *scores: np.ndarray) -> list[Scored]:
    return [Scored(str(i), *of) for i, *of in zip(items.tolist(), *scores, strict=True)]


def make_up(seed: int, target: int | None = None) -> tuple[UserLists, Shortlist, RankingAnswer]:
    rng = np.random.default_rng(seed)
    log_probability = np.sort(rng.normal(size=ITEMS).astype(np.float32))[::-1]
    generated = rng.permutation(ITEMS).astype(np.int32)
    own = dict(zip(generated.tolist(), log_probability.tolist(), strict=True))
    items = rng.permutation(ITEMS)[:8].astype(np.int32)
    transitions = rng.normal(size=8) if seed % 4 else None
    shortlist = Shortlist(items, np.sort(rng.normal(size=8))[::-1], Basis.HISTORY, transitions)
    order = sorted(items.tolist(), key=lambda item: -own[item])
    reranked = Ranked(np.array(order, np.int32), np.array([own[i] for i in order], np.float32))
    answer = RankingAnswer(Ranked(generated[:5], log_probability[:5]), reranked)
    asked = rng.integers(ITEMS) if target is None else target
    question = Question(0, "u", np.empty(0, np.int32), int(asked))
    return _user_lists(question, shortlist, answer), shortlist, answer


@given(st.integers(0, 2**32 - 1), st.tuples(*[st.floats(0, 2)] * 3))
@settings(deadline=None)
def test_a_blended_rank_is_the_gateways(seed: int, weights: tuple[float, float, float]) -> None:
    retrieval, transitions, generator = weights
    user, shortlist, answer = make_up(seed)
    assert answer.generated is not None
    assert answer.reranked is not None
    alone = [] if shortlist.transitions is None else [shortlist.transitions]
    found = scored(shortlist.items, shortlist.scores, *alone)
    reranked = scored(answer.reranked.items, answer.reranked.scores)
    generated = scored(answer.generated.items, answer.generated.scores)
    lists: dict[Blended, list[Scored]] = {
        "rerank": reranked,
        "fuse": [*generated, *reranked],
    }
    for strategy, by_generator in lists.items():
        blended = blend(found, by_generator, Weights(retrieval, generator, transitions))
        own = [item.score for item in blended if item.item_id == str(user.target)]
        gains = blendable([user], strategy).gains(np.array(weights))
        if not own:
            assert gains.tolist() == [0.0]
            continue
        surely = sum(item.score > own[0] + 1e-5 for item in blended)
        perhaps = sum(item.score > own[0] - 1e-5 for item in blended) - 1
        low, high = gains_of(np.array([perhaps + 1.0, surely + 1.0]))
        assert low <= gains[0] <= high


def test_one_services_own_list() -> None:
    _, shortlist, answer = make_up(0)
    assert answer.generated is not None
    for place in range(8):
        one = make_up(0, target=int(shortlist.items[place]))[0]
        assert gains_alone([one], "embedding")[0] == pytest.approx(1 / np.log2(place + 2))
    for place in range(5):
        one = make_up(0, target=int(answer.generated.items[place]))[0]
        assert gains_alone([one], "generate")[0] == pytest.approx(1 / np.log2(place + 2))


def test_weights_need_a_user_whose_target_was_found() -> None:
    _, shortlist, _ = make_up(0)
    absent = next(i for i in range(ITEMS) if i not in shortlist.items)
    nobody = blendable([make_up(0, target=absent)[0]], "rerank")
    assert nobody.fit(np.ones(1, bool)) is RETRIEVAL_ALONE
    assert nobody.gains(RETRIEVAL_ALONE).tolist() == [0.0]


def test_the_generators_weight_is_found_out_of_fold() -> None:
    """The generator alone knows: it gets a weight, and users who were not fitted on gain by it."""
    lists = []
    for seed in range(60):
        target = int(make_up(seed)[2].reranked.items[0])  # type: ignore[union-attr]
        lists.append(make_up(seed, target=target)[0])
    rerank, fold = blendable(lists, "rerank"), folds(len(lists))
    weights = rerank.fit(np.ones(len(lists), bool))
    assert weights[2] > weights[:2].max()
    without = rerank.cross_fit(fold, RETRIEVAL)
    np.testing.assert_array_equal(without.gains, gains_alone(lists, "embedding"))
    assert Decision.of("generator", rerank.cross_fit(fold), without).kept


def test_the_transitions_weight_is_found_beside_the_generators() -> None:
    """Retrieval's own score says nothing here, and what comes next is best by the other two."""
    lists = []
    for seed in range(1, 200):
        scores = make_up(seed)[0].scores
        if seed % 4:
            target = int(np.argmax(scores[:8, 1] + scores[:8, 2]))
            lists.append(make_up(seed, target=int(make_up(seed)[1].items[target]))[0])
    retrieval, transitions, generator = blendable(lists, "rerank").fit(np.ones(len(lists), bool))
    assert min(transitions, generator) > 5 * retrieval


def test_a_generator_that_does_not_help_is_not_called_by_default() -> None:
    lists = []
    for seed in range(60):
        first = int(make_up(seed)[1].items[0])
        lists.append(make_up(seed, target=first)[0])
    fold = folds(len(lists))
    tuning = Tuning(RECENCIES[0], shortlists.SourceWeights(1.0, 0.5))
    worth = Worth(gains_alone(lists, "embedding"), np.zeros(len(lists)))
    crossed = CrossFit((tuning,) * FOLDS, worth)
    chosen = _choose(Retrieval(tuning, crossed, ()), lists, fold, 8)
    assert chosen.blend.generator_weight == 0.0
    assert chosen.blend.transition_weight == 0.0
    assert chosen.blend.fuse == BlendWeights(retrieval_weight=1.0, generator_weight=0.0)
    assert chosen.blend.default_strategy == "embedding"
    assert chosen.sentences[-1] == "default strategy embedding: validation NDCG@10 1.0000 (best)"
    assert chosen.to_json()["candidate"]["transition_weight"] == 0.5


USERS = 4_000


def made_up_gains(mean: float, seed: int = 0) -> Gains:
    """Users gain alike, but for a little noise."""
    return mean + np.random.default_rng(seed).normal(0, 0.002, USERS)


def test_the_cheapest_that_surely_loses_little_is_the_default() -> None:
    strategies = {
        "fuse": made_up_gains(0.1300),
        "rerank": made_up_gains(0.1299, 1),
        "embedding": made_up_gains(0.1200, 2),
        "generate": made_up_gains(0.0900, 3),
    }
    chosen = choose_default(strategies)  # type: ignore[arg-type]
    assert chosen.strategy == "rerank"
    assert "beside fuse, .1300" in chosen.reason
    assert "embedding loses 7.7% (7.6% to 7.8%)" in chosen.reason


def test_the_best_is_taken_where_nothing_cheaper_is_shown_to_do() -> None:
    rng = np.random.default_rng(0)
    hits = (rng.random((2, 200)) < 0.3).astype(float)  # as good, but too few users to know
    chosen = choose_default({"embedding": hits[0] * 0.99, "rerank": hits[1] + 0.01})
    assert chosen.strategy == "rerank"
    assert "(best)" in chosen.reason


def test_equal_lists_are_made_at_the_least_cost() -> None:
    gains = made_up_gains(0.1)
    chosen = choose_default({"generate": gains, "fuse": gains, "embedding": gains})
    assert chosen.strategy == "embedding"
    assert choose_default({"embedding": np.zeros(9)}).strategy == "embedding"


SURELY = Difference(0.02, 0.01, 0.03)
PERHAPS = Difference(0.01, -0.01, 0.03)
LITTLE = Difference(0.0009, 0.0001, 0.002)
NEVER = Difference(-0.01, -0.02, 0.01)


@pytest.mark.parametrize(
    ("gain", "likelier", "verdict"),
    [
        (SURELY, SURELY, "kept"),
        (PERHAPS, SURELY, "kept"),
        (SURELY, PERHAPS, "left out because that may be chance"),
        (NEVER, SURELY, "left out because lists gain less than 1%"),
        (LITTLE, SURELY, "left out because lists gain less than 1%"),
        (Difference(0.0, 0.0, 0.0), SURELY, "left out because it changes no list"),
    ],
)
def test_a_decision_is_a_sentence(gain: Difference, likelier: Difference, verdict: str) -> None:
    decision = Decision("content", 0.1, gain, likelier)
    assert str(decision).endswith(f"; {verdict}")
    assert decision.kept == (verdict == "kept")
    assert decision.to_json()["kept"] == decision.kept


def test_a_decision_says_both_figures() -> None:
    assert str(Decision("content", 0.1, SURELY, PERHAPS)).startswith(
        "content: NDCG@10 +.0200 (+.0100 to +.0300), log-likelihood +.0100 (-.0100 to +.0300); "
    )


def test_users_whose_target_was_not_found_do_not_count() -> None:
    one, other = np.array([1.0, np.nan, 3.0]), np.array([0.5, np.nan, 2.5])
    assert Difference.between(one, other) == Difference(0.5, 0.5, 0.5)
    assert Difference.between(one[1:2], other[1:2]) == Difference(0.0, 0.0, 0.0)
