import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offline import bootstrap, metrics

RANKS = np.array([1.0, 2.0, 4.0, 11.0, np.inf])  # five users; the last target was not listed


def test_hit_rate_by_hand() -> None:
    assert metrics.hr(RANKS, 1) == 1 / 5
    assert metrics.hr(RANKS, 5) == 3 / 5
    assert metrics.hr(RANKS, 11) == 4 / 5
    assert metrics.recall(RANKS, 5) == metrics.hr(RANKS, 5)


def test_ndcg_by_hand() -> None:
    assert metrics.ndcg(RANKS, 1) == 1 / 5
    assert metrics.ndcg(RANKS, 5) == pytest.approx((1 + 0.63093 + 0.43068) / 5, abs=1e-5)
    assert metrics.ndcg(RANKS, 20) == pytest.approx((1 + 0.63093 + 0.43068 + 0.27894) / 5, abs=1e-5)


def test_mrr_by_hand() -> None:
    assert metrics.mrr(RANKS) == pytest.approx((1 + 1 / 2 + 1 / 4 + 1 / 11) / 5)


def test_metrics_go_by_name() -> None:
    assert metrics.gains("hr@2", RANKS).tolist() == [1, 1, 0, 0, 0]
    assert metrics.gains("recall@100", RANKS).tolist() == [1, 1, 1, 1, 0]
    assert metrics.gains("mrr", RANKS)[3] == 1 / 11
    assert metrics.gains("ndcg@1", RANKS).tolist() == [1, 0, 0, 0, 0]


@pytest.mark.parametrize("name", ["hr", "hr@0", "hr@", "map@5", "mrr@5", "HR@5", "ndcg@-1", ""])
def test_an_unknown_metric_is_refused(name: str) -> None:
    with pytest.raises(metrics.UnknownMetricError, match="there is no metric"):
        metrics.gains(name, RANKS)
    with pytest.raises(metrics.UnknownMetricError):
        metrics.measure("x", "filtered", RANKS, ["hr@5", name])


def test_a_mean_over_nobody_is_nan_with_a_warning() -> None:
    with pytest.warns(metrics.UndefinedMetricWarning, match="no users"):
        assert math.isnan(metrics.hr([], 5))
    with pytest.warns(metrics.UndefinedMetricWarning):
        row = metrics.measure("x", "filtered", np.zeros(0), ["mrr"])
    assert row.to_json()["mrr"] is None
    assert row.to_json()["ci95"] == {"mrr": [None, None]}


SCORES = np.array([[0.1, 0.9, 0.5, 0.5], [0.3, 0.2, 0.1, 0.0]])


def test_ranks_by_hand() -> None:
    targets = np.array([0, 1])
    assert metrics.ranks_from_scores(SCORES, targets).tolist() == [4, 2]
    seen = [np.array([1, 2]), np.array([], dtype=np.int64)]
    assert metrics.ranks_from_scores(SCORES, targets, seen).tolist() == [2, 2]


def test_ties_count_against_the_target_unless_asked() -> None:
    targets = np.array([2, 3])
    assert metrics.ranks_from_scores(SCORES, targets).tolist() == [3, 4]
    assert metrics.ranks_from_scores(SCORES, targets, ties="best").tolist() == [2, 4]
    constant = np.zeros((1, 100))
    assert metrics.ranks_from_scores(constant, np.array([0])).tolist() == [100]


def test_a_seen_target_takes_part() -> None:
    seen = np.ones((2, 4), dtype=bool)
    assert metrics.ranks_from_scores(SCORES, np.array([0, 3]), seen).tolist() == [1, 1]


def test_scores_that_cannot_be_ranked_are_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        metrics.ranks_from_scores(np.array([[np.nan, 1.0]]), np.array([1]))
    with pytest.raises(ValueError, match="do not fit"):
        metrics.ranks_from_scores(SCORES, np.array([1]))
    infinite = np.array([[-np.inf, -np.inf, 0.0]])
    assert metrics.ranks_from_scores(infinite, np.array([0])).tolist() == [3]


@st.composite
def scored(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    users, items = draw(st.integers(1, 5)), draw(st.integers(1, 6))
    values = st.lists(st.integers(0, 3), min_size=users * items, max_size=users * items)
    scores = np.array(draw(values), dtype=np.float64).reshape(users, items)
    seen = np.array(draw(values)).reshape(users, items) > 1
    targets = st.lists(st.integers(0, items - 1), min_size=users, max_size=users)
    return scores, np.array(draw(targets)), seen


@given(scored())
def test_ranks_agree_with_sorting(made: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    scores, targets, seen = made
    for ties, place in (("worst", 1), ("best", -1)):
        expected = []
        for row, target, hidden in zip(scores, targets, seen, strict=True):
            rivals = [i for i in range(len(row)) if i == target or not hidden[i]]
            order = sorted(rivals, key=lambda i: (-row[i], place if i == target else 0))
            expected.append(order.index(target) + 1)
        lists = [np.flatnonzero(hidden) for hidden in seen]
        for form in (seen, lists):
            ranks = metrics.ranks_from_scores(scores, targets, form, ties=ties)  # type: ignore[arg-type]
            assert ranks.tolist() == expected


def test_ranks_from_lists() -> None:
    lists = np.array([[3, 1, 2], [2, 0, -1], [1, -1, -1]])
    ranks = metrics.ranks_from_lists(lists, np.array([1, 2, 0]))
    assert ranks.tolist() == [2, 1, math.inf]


def test_the_interval_holds_the_mean_and_depends_on_the_seed_alone() -> None:
    values = np.random.default_rng(1).random(400)
    low, high = bootstrap.bootstrap_ci(values)
    assert low < values.mean() < high
    # the normal approximation: 1.96 standard errors either way
    assert (high - low) / 2 == pytest.approx(1.96 * values.std() / 20, rel=0.1)
    assert bootstrap.bootstrap_ci(values).tolist() == [low, high]
    assert bootstrap.bootstrap_ci(values, seed=1).tolist() != [low, high]
    both = bootstrap.bootstrap_ci(np.stack([values, -values], axis=1))
    np.testing.assert_allclose(both[:, 0], [low, high], atol=1e-12)
    np.testing.assert_allclose(both[:, 1], [-high, -low], atol=1e-12)


def test_users_that_are_all_alike_have_no_width() -> None:
    assert bootstrap.bootstrap_ci(np.ones(10)).tolist() == [1, 1]


def test_a_difference_by_hand() -> None:
    # One question of user 8 gained 1, three of user 5 nothing: the pairs of users that are drawn
    # give 1 (both 8), 1/4 (8 and 5, twice as often) or 0.
    one, other = np.array([0.0, 1.0, 0.5, 0.0]), np.array([0.0, 0.0, 0.5, 0.0])
    users = np.array([5, 8, 5, 5])
    assert bootstrap.paired_bootstrap(one, other, users) == bootstrap.Difference(0.25, 0.0, 1.0)
    half = bootstrap.paired_bootstrap(one, other, users, level=0.4)
    assert half == bootstrap.Difference(0.25, 0.25, 0.25)


def test_trainings_are_resampled_too() -> None:
    users = np.arange(3)
    one, other = np.array([[1.0] * 3, [0.0] * 3]), np.zeros((2, 3))
    assert bootstrap.paired_bootstrap(one, other, users) == bootstrap.Difference(0.5, 0.0, 1.0)
    half = bootstrap.paired_bootstrap(one, other, users, level=0.4)
    assert half == bootstrap.Difference(0.5, 0.5, 0.5)


def test_questions_of_one_user_are_no_more_evidence_than_one() -> None:
    one, other = np.random.default_rng(0).normal(size=(2, 60))
    users = np.arange(60)
    single = bootstrap.paired_bootstrap(one, other, users)
    tenfold = bootstrap.paired_bootstrap(one.repeat(10), other.repeat(10), users.repeat(10))
    assert (tenfold.low, tenfold.high) == pytest.approx((single.low, single.high))
    assert (single.low, single.high) == pytest.approx(bootstrap.bootstrap_ci(one - other))
    again = bootstrap.paired_bootstrap(one, other, users, seed=1)
    assert (again.low, again.high) != (single.low, single.high)


@pytest.mark.parametrize("shape", [(3,), (2, 3), (0,)])
def test_gains_that_do_not_fit_are_refused(shape: tuple[int, ...]) -> None:
    users = np.arange(4 if shape[-1] else 0)
    with pytest.raises(ValueError, match="do not fit users"):
        bootstrap.paired_bootstrap(np.zeros(shape), np.zeros(shape), users)


def test_a_row_is_what_evaluate_prints() -> None:
    row = metrics.measure("popularity", "filtered", RANKS, ["hr@5", "ndcg@5", "recall@100"])
    printed = json.loads(json.dumps(row.to_json(), allow_nan=False))
    assert list(printed) == ["name", "ranking", "users", "hr@5", "ndcg@5", "recall@100", "ci95"]
    assert (printed["name"], printed["ranking"], printed["users"]) == ("popularity", "filtered", 5)
    assert printed["hr@5"] == 0.6
    low, high = printed["ci95"]["hr@5"]
    assert 0 <= low <= 0.6 <= high <= 1
    assert list(metrics.measure("x", "filtered", RANKS).metrics) == [
        "hr@5", "ndcg@5", "hr@10", "ndcg@10", "mrr",
    ]  # fmt: skip
