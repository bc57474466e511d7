"""The retrieval's weights: scored as served, fitted and measured as said, useless sources out."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rich.progress import Progress

from offline.blend.retrieval import Tuning, choose_retrieval, cross_fit, fit, measure
from offline.blend.sources import RECENCIES, SOURCES, Pools, gather, ranks
from offline.blend.validation import FOLDS, folds
from offline.evaluate.protocol import Question
from services.candidate.retrieval.shortlist import SourceWeights
from tests.candidate.made_up import make_world

ITEMS = 30
ENGINE = make_world(items=ITEMS).engine
weight = st.floats(0, 2)
weightings = st.builds(SourceWeights, st.floats(0.1, 2), weight, weight, weight)


def ask(seed: int, users: int) -> list[Question]:
    rng = np.random.default_rng(seed)
    asked = []
    for user in range(users):
        *history, target = rng.integers(0, ITEMS, rng.integers(2, 9)).tolist()
        known = [item for item in history if ENGINE.catalog.popularity[item]] or [1]
        asked.append(Question(user, f"u{user}", np.array(known, np.int32), target))
    return asked


@given(st.integers(0, 2**32 - 1), weightings)
@settings(max_examples=30, deadline=None)
def test_ranks_are_those_of_the_serving_engine(seed: int, weights: SourceWeights) -> None:
    asked = ask(seed, 6)
    pools = gather(ENGINE, asked, Progress(disable=True))
    for recency, scores in pools.scores.items():
        engine = Tuning(recency, weights).apply(ENGINE)
        vector = [weights.behavior, weights.transitions, weights.content, weights.popularity]
        for rank, question in zip(ranks(scores, np.array(vector)), asked, strict=True):
            found = engine.search(question.history, ITEMS, include_seen=True)
            score = dict(zip(found.items.tolist(), found.scores.tolist(), strict=True))
            others = set(range(ITEMS)) - set(question.history.tolist()) - {question.target}
            own = score[question.target]
            surely = sum(score[item] > own + 1e-4 for item in others)
            perhaps = sum(score[item] > own - 1e-4 for item in others)
            assert surely + 1 <= rank <= perhaps + 1


def test_the_engine_that_is_retuned_is_another() -> None:
    before = ENGINE.search(np.array([1, 2], np.int32), 5)
    other = ENGINE.retuned(SourceWeights(0.0, 1.0), window=1, decay=0.5)
    assert other.search(np.array([1, 2], np.int32), 5).items.tolist() != before.items.tolist()
    assert ENGINE.search(np.array([1, 2], np.int32), 5).items.tolist() == before.items.tolist()


def made_up_pools(seed: int, users: int, weights: list[float]) -> Pools:
    """Users who choose by these weights of the sources; content is noise."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(users, 40, len(SOURCES)))
    for user in scores:
        chance = np.exp(user @ weights)
        chosen = rng.choice(len(user), p=chance / chance.sum())
        user[[0, chosen]] = user[[chosen, 0]]
    return Pools({RECENCIES[0]: scores.astype(np.float32)})


def test_sources_that_help_get_their_weight_and_others_none() -> None:
    pools = made_up_pools(0, users=2_000, weights=[1.5, 1.5, 0.0, 0.0])
    chosen = choose_retrieval(pools, folds(len(pools)))
    kept = {decision.source: decision.kept for decision in chosen.decisions}
    assert kept == {"transitions": True, "content": False, "popularity": False}
    weights = chosen.tuning.weights
    assert weights == replace(weights, behavior=1.0, content=0.0, popularity=0.0)
    assert weights.transitions == pytest.approx(1.0, abs=0.1)


def test_what_is_measured_was_not_fitted_on() -> None:
    """Each fold is measured by what the others alone would choose."""
    pools = made_up_pools(1, users=60, weights=[1.0, 1.0, 1.0, 0.0])
    fold = folds(len(pools))
    crossed = cross_fit(pools, fold, SOURCES)
    assert len(crossed.tunings) == FOLDS
    for number, tuning in enumerate(crossed.tunings):
        others = Pools({r: scores[fold != number] for r, scores in pools.scores.items()})
        assert fit(others, np.ones(len(others), bool), SOURCES) == tuning
        held_out = fold == number
        worth = measure(pools, held_out, tuning)
        np.testing.assert_array_equal(crossed.worth.gains[held_out], worth.gains)
        np.testing.assert_array_equal(crossed.worth.likelihood[held_out], worth.likelihood)


def test_likelihood_tells_what_short_lists_cannot() -> None:
    """A weak source beside a strong one: few users' ten best change, many targets' chances do."""
    pools = made_up_pools(7, users=1_000, weights=[1.0, 0.2, 0.0, 0.0])
    (decision, *_) = choose_retrieval(pools, folds(len(pools))).decisions
    assert decision.gain.low < 0 < decision.gain.mean
    assert decision.likelier.is_gain
    assert decision.kept


def test_the_recency_is_the_one_with_the_best_lists() -> None:
    good = made_up_pools(2, users=300, weights=[2.0, 0.0, 0.0, 0.0]).scores[RECENCIES[0]]
    noise = np.random.default_rng(0).normal(size=good.shape).astype(np.float32)
    pools = Pools({RECENCIES[0]: noise, RECENCIES[1]: good})
    assert fit(pools, np.ones(300, bool), SOURCES).recency == RECENCIES[1]


def test_folds_are_even_and_the_same_every_time() -> None:
    fold: NDArray[np.int64] = folds(103)
    assert sorted(np.bincount(fold).tolist()) == [20, 20, 21, 21, 21]
    assert (folds(103) == fold).all()
