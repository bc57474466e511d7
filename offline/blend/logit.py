"""Conditional logit: how much each score counts, by maximum likelihood of what came next.

D. McFadden, "Conditional logit analysis of qualitative choice behavior", in Frontiers in
Econometrics, 1974: the probability that an item comes next is the softmax, over the items that it
might have been, of a weighted sum of their scores. Constants of a user cancel, so that scores need
be log-probabilities only up to one.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp

PRIOR: Final = 1.0
"""Precision of a normal prior on each weight, worth about one user: without it weights of scores
that tell all targets apart would grow without end."""

Scores = NDArray[np.float32]


def fit(scores: Scores) -> NDArray[np.float64]:
    """Fits the weights, each at least 0, float64 [sources].

    Args:
        scores: float32 [users, items, sources]; of each user the first item is what came next. An
            item that is not there is NaN in every source.

    Raises:
        ValueError: there are no users to fit to.
    """
    users, _, sources = scores.shape
    if not users:
        raise ValueError("there is no user whose next item could be told from others")
    contrasts, there = _contrasts(scores)
    penalty = PRIOR / users

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        utility = np.where(there, contrasts @ weights, -np.inf)
        surprise = logsumexp(utility, axis=1, keepdims=True)
        value = float(surprise.mean() + 0.5 * penalty * weights @ weights)
        slope = np.einsum("ui,uis->s", np.exp(utility - surprise), contrasts) / users
        return value, slope + penalty * weights

    found = minimize(
        loss, np.ones(sources), jac=True, method="L-BFGS-B", bounds=[(0.0, None)] * sources
    )
    weights: NDArray[np.float64] = found.x
    return weights


def log_likelihood(scores: Scores, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """How likely weights made what came next, float64 [users], in nats.

    Args:
        scores: as in `fit`.
        weights: float64 [sources].
    """
    contrasts, there = _contrasts(scores)
    surprise: NDArray[np.float64] = logsumexp(np.where(there, contrasts @ weights, -np.inf), axis=1)
    return -surprise


def _contrasts(scores: Scores) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Scores relative to what came next, whose own utility is then 0; and which items there are."""
    contrasts = scores.astype(np.float64) - scores[:, :1]
    there = ~np.isnan(contrasts[:, :, 0])
    contrasts[~there] = 0.0
    return contrasts, there
