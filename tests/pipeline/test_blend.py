"""The arithmetic behind the choice of weights, against brute force."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offline.build.blend import (
    LEAST_GAIN,
    _add_source,
    _best,
    _mask_seen,
    _ndcg_over_all,
    _ndcg_over_lists,
    _shortlists,
)
from offline.evaluate.protocol import Question


def ask(rng: np.random.Generator, users: int, items: int) -> list[Question]:
    asked = []
    for user in range(users):
        *history, target = rng.permutation(items)[: rng.integers(2, items)].tolist()
        asked.append(Question(user, f"u{user}", np.array(history, dtype=np.int32), target))
    return asked


def brute_ndcg(scores: np.ndarray, question: Question, allowed: list[int]) -> float:
    order = sorted(allowed, key=lambda item: -scores[item])
    if question.target not in order[:10]:
        return 0.0
    return float(1 / np.log2(order.index(question.target) + 2))


@given(st.integers(0, 2**32 - 1))
def test_ndcg_of_a_shortlist_and_of_the_catalog(seed: int) -> None:
    rng = np.random.default_rng(seed)
    items = 25
    asked = ask(rng, 8, items)
    scores = rng.random((8, items)).astype(np.float32)
    unseen = [[i for i in range(items) if i not in q.history] for q in asked]
    expected = [brute_ndcg(scores[q.user], q, unseen[q.user]) for q in asked]
    assert _ndcg_over_all(scores, asked) == pytest.approx(np.mean(expected))
    lists, values = _shortlists(scores, asked, 6)
    again = rng.random(lists.shape).astype(np.float32)
    cut = []
    for question, row, extra in zip(asked, lists, again, strict=True):
        kept = [i for i in row.tolist() if i not in question.history]
        best = sorted(unseen[question.user], key=lambda i: -scores[question.user, i])[:6]
        assert kept == best
        blended = dict(zip(row.tolist(), values[question.user] + extra, strict=True))
        full = np.array([blended.get(i, -np.inf) for i in range(items)])
        cut.append(brute_ndcg(full, question, kept))
    targets = np.array([q.target for q in asked])
    assert _ndcg_over_lists(lists, values + again, targets) == pytest.approx(np.mean(cut))


def test_seen_items_are_out_and_the_scores_untouched() -> None:
    scores = np.zeros((1, 4), dtype=np.float32)
    masked = _mask_seen(scores, [Question(0, "u", np.array([1, 3], dtype=np.int32), 2)])
    assert masked.tolist() == [[0, -np.inf, 0, -np.inf]]
    assert not scores.any()


def test_of_equal_choices_the_first_is_taken() -> None:
    assert _best((3.0, 1.0, 2.0), lambda choice: -abs(choice - 1.5)) == (1.0, -0.5)


def test_a_source_that_gains_little_gets_no_weight() -> None:
    rng = np.random.default_rng(0)
    asked = ask(rng, 40, 25)
    scores = rng.random((40, 25)).astype(np.float32)
    before = _ndcg_over_all(scores, asked)
    useless = np.zeros_like(scores)
    assert _add_source(scores, useless, (0.0, 1.0), before, asked) == (scores, 0.0, before)
    oracle = useless.copy()
    oracle[np.arange(40), [question.target for question in asked]] = 1.0
    added, weight, ndcg = _add_source(scores, oracle, (0.0, 0.5, 1.0), before, asked)
    assert weight == 1.0
    assert ndcg == _ndcg_over_all(added, asked) == 1.0 > before * (1 + LEAST_GAIN)
