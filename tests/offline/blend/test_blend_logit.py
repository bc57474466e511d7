"""Conditional logit against a brute-force grid, and against weights that are known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from offline.blend import logit


def log_likelihoods(
    scores: NDArray[np.float32], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """By the definition, user by user."""
    utilities = [user[~np.isnan(user[:, 0])] @ weights for user in scores.astype(np.float64)]
    return np.array([utility[0] - np.log(np.exp(utility).sum()) for utility in utilities])


def posterior(scores: NDArray[np.float32], weights: NDArray[np.float64]) -> float:
    """All users', with the prior."""
    prior = 0.5 * logit.PRIOR * float(weights @ weights)
    return float(log_likelihoods(scores, weights).sum()) - prior


def drawn(seed: int, users: int, weights: list[float], items: int = 12) -> NDArray[np.float32]:
    """Users who choose by these weights; some have fewer items to choose from."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(users, items, len(weights)))
    for user in scores:
        there = rng.integers(2, items + 1)
        chance = np.exp(user[:there] @ weights)
        chosen = rng.choice(there, p=chance / chance.sum())
        user[[0, chosen]] = user[[chosen, 0]]
        user[there:] = np.nan
    return scores.astype(np.float32)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_no_point_of_a_grid_is_more_likely(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = drawn(seed, users=40, weights=rng.uniform(-1, 2, 2).tolist())
    found = logit.fit(scores)
    assert (found >= 0).all()
    most = max(
        posterior(scores, np.array([first, second]))
        for first in np.linspace(0, 3, 13)
        for second in np.linspace(0, 3, 13)
    )
    assert posterior(scores, found) >= most - 1e-3
    np.testing.assert_allclose(
        logit.log_likelihood(scores, found), log_likelihoods(scores, found), atol=1e-9
    )


def test_known_weights_are_found() -> None:
    found = logit.fit(drawn(0, users=4_000, weights=[1.0, 0.4, 0.0]))
    np.testing.assert_allclose(found, [1.0, 0.4, 0.0], atol=0.06)


def test_a_source_that_speaks_against_what_comes_next_gets_none() -> None:
    found = logit.fit(drawn(1, users=2_000, weights=[1.0, -0.5]))
    assert found[1] == 0.0


def test_constants_of_a_user_change_nothing() -> None:
    scores = drawn(2, users=100, weights=[1.0, 0.5])
    moved = scores + np.random.default_rng(0).normal(size=(100, 1, 2)).astype(np.float32)
    np.testing.assert_allclose(logit.fit(moved), logit.fit(scores), atol=1e-3)


def test_scores_that_tell_everything_get_a_finite_weight() -> None:
    scores = np.zeros((30, 5, 1), np.float32)
    scores[:, 0] = 1.0
    assert 1.0 < logit.fit(scores)[0] < 50.0


def test_there_must_be_users() -> None:
    with pytest.raises(ValueError, match="no user"):
        logit.fit(np.empty((0, 5, 2), np.float32))
