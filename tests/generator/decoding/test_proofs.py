"""What a search claims of its list, beside the score of every item."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.generator.decoding.engine import (
    Generation,
    GeneratorEngine,
    Ranked,
    RankingQuery,
    UserContext,
)
from tests.generator.decoding.test_rows import random_context
from tests.generator.made_up import (
    MadeUp,
    Served,
    level_texts,
    random_levels,
    write_made_up,
)

NONE = np.empty(0, np.int32)
ROUNDING = 1e-4
"""Sums of log-probabilities by two graphs differ by less."""


def all_scores(engine: GeneratorEngine, context: UserContext) -> np.ndarray:
    """The score of every item, by the graph that searches nothing."""
    items = np.arange(len(engine.snapshot.codes), dtype=np.int32)
    (ranked,) = engine.rerank([RankingQuery(context, shortlist=items)])
    scores = np.empty(len(items), np.float32)
    scores[ranked.items] = ranked.scores
    return scores


def assert_claims_hold(ranked: Ranked, scores: np.ndarray, allowed: np.ndarray) -> None:
    """Nothing that is allowed and not listed scores more than what is said to be certain."""
    missing = allowed.copy()
    missing[ranked.items] = False
    best = scores[missing].max(initial=-np.inf)
    assert ranked.missed is not None
    certain = ranked.scores[: ranked.proved]
    assert (certain >= best - ROUNDING).all()
    if ranked.exact:
        expected = np.sort(scores[allowed])[::-1][: len(ranked.items)]
        np.testing.assert_allclose(ranked.scores, expected, atol=ROUNDING)
    else:  # what is missing is within the bound, too
        unlisted = best if len(ranked.items) == 0 else max(best, ranked.scores[-1])
        assert max(ranked.missed, ranked.scores[-1]) >= unlisted - ROUNDING


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_a_list_claims_holds(served: Served, data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    allowed = np.ones(served.items, np.bool_)
    if data.draw(st.booleans()):
        allowed = rng.random(served.items) < data.draw(st.sampled_from([0.01, 0.1, 0.5]))
    denied = rng.integers(0, served.items, data.draw(st.integers(0, 100))).astype(np.int32)
    wish = Generation(data.draw(st.integers(1, 30)), allowed, denied)
    context = random_context(rng, served.items)
    (ranked,) = served.engine.generate([RankingQuery(context, wish)])
    left = allowed.copy()
    left[denied] = False
    assert_claims_hold(ranked, served.exact(context), left)
    if left.sum() <= 20:
        assert ranked.exact  # nothing was given up


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1))
def test_what_rows_claim_holds_beside_rows_before(served: Served, seed: int) -> None:
    rng = np.random.default_rng(seed)
    context, scores = random_context(rng, served.items), None
    rows = tuple(Generation(9, rng.random(served.items) < 0.4, NONE) for _ in range(4))
    (answer,) = served.engine.answer([RankingQuery(context, rows=rows)])
    scores = served.exact(context)
    shown: list[int] = []
    for row, ranked in zip(rows, answer.lists, strict=True):
        assert row.allowed is not None
        left = row.allowed.copy()
        left[shown] = False
        assert_claims_hold(ranked, scores, left)
        shown += ranked.items.tolist()


def test_some_lists_are_proved_and_more_beams_prove_more(served: Served) -> None:
    rng = np.random.default_rng(5)
    contexts = [random_context(rng, served.items) for _ in range(20)]
    proved = {
        beams: sum(
            ranked.exact
            for ranked in served.engine.generate(
                [RankingQuery(c, Generation(5, None, NONE), beams=beams) for c in contexts]
            )
        )
        for beams in (20, 80, 320)
    }
    assert proved[20] <= proved[80] <= proved[320] == 20


@pytest.mark.parametrize("texts", [
    pytest.param(level_texts(random_levels(200, (3,) * 8)), id="eight levels"),
    pytest.param(["".join(f"<a_{d}>" for d in str(n)) for n in range(150)], id="many lengths"),
])  # fmt: skip
def test_claims_hold_for_other_codes(tmp_path: Path, texts: list[str]) -> None:
    made_up = write_made_up(tmp_path, texts, beams=4)
    rng = np.random.default_rng(6)
    for _ in range(15):
        context = random_context(rng, len(texts))
        allowed = rng.random(len(texts)) < 0.6
        (ranked,) = made_up.engine.generate([RankingQuery(context, Generation(4, allowed, NONE))])
        assert_claims_hold(ranked, made_up.exact(context), allowed)


def test_claims_hold_in_int8(tmp_path: Path) -> None:
    texts = level_texts(random_levels(300, (7, 9, 11)))
    made_up: MadeUp = write_made_up(tmp_path, texts, beams=6, precisions=("fp32", "int8"))
    engine = GeneratorEngine.load(made_up.bundle, precision="int8")
    rng = np.random.default_rng(7)
    for _ in range(15):
        context, allowed = random_context(rng, 300), rng.random(300) < 0.5
        (ranked,) = engine.generate([RankingQuery(context, Generation(6, allowed, NONE))])
        assert_claims_hold(ranked, all_scores(engine, context), allowed)
