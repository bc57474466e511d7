"""The retrieval's weights: a source gets one only if users that it was not fitted on gain by it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from offline.blend import logit
from offline.blend.sources import SOURCES, Pools, Recency, ranks
from offline.blend.validation import FOLDS, Decision, Gains, Worth, gains_of
from services.candidate.retrieval.engine import CandidateEngine
from services.candidate.retrieval.shortlist import SourceWeights

_FIRST: Final = SOURCES[:1]
"""The query encoder, which everything else is added to."""

Users = NDArray[np.bool_]


@dataclass(frozen=True)
class Tuning:
    """A choice of the retrieval's weights."""

    recency: Recency
    weights: SourceWeights
    """In proportion to the query encoder's, which is 1 unless it is 0."""
    scale: float = 1.0
    """By which they are multiplied where likelihoods count."""

    @property
    def vector(self) -> NDArray[np.float64]:
        """The weights in the order of `SOURCES`."""
        w = self.weights
        return np.array([w.behavior, w.transitions, w.content, w.popularity])

    def apply(self, engine: CandidateEngine) -> CandidateEngine:
        """The engine that ranks so."""
        return engine.retuned(self.weights, self.recency.window, self.recency.decay)


@dataclass(frozen=True)
class CrossFit:
    """Of every fold the choice that was made on the others, and what that is worth on it."""

    tunings: tuple[Tuning, ...]
    worth: Worth


@dataclass(frozen=True)
class Retrieval:
    """The retrieval that was chosen."""

    tuning: Tuning
    """Fitted on all users: what is served."""
    crossed: CrossFit
    decisions: tuple[Decision, ...]


def choose_retrieval(pools: Pools, fold: NDArray[np.int64]) -> Retrieval:
    """Adds one source after another to the query encoder, as long as each is worth it.

    Args:
        pools: of the users.
        fold: the fold of each user, int64 [users].
    """
    kept: tuple[str, ...] = _FIRST
    crossed = cross_fit(pools, fold, kept)
    decisions = []
    for source in SOURCES[1:]:
        added = cross_fit(pools, fold, (*kept, source))
        decisions.append(Decision.of(source, added.worth, crossed.worth))
        if decisions[-1].kept:
            kept, crossed = (*kept, source), added
    everyone = np.ones(len(pools), np.bool_)
    return Retrieval(fit(pools, everyone, kept), crossed, tuple(decisions))


def cross_fit(pools: Pools, fold: NDArray[np.int64], sources: Iterable[str]) -> CrossFit:
    """Fits some sources' weights without each fold, and measures them on it."""
    sources, tunings = tuple(sources), []
    whole = Worth(*np.empty((2, len(pools))))
    for number in range(FOLDS):
        held_out = fold == number
        tunings.append(fit(pools, ~held_out, sources))
        worth = measure(pools, held_out, tunings[-1])
        whole.gains[held_out], whole.likelihood[held_out] = worth.gains, worth.likelihood
    return CrossFit(tuple(tunings), whole)


def fit(pools: Pools, users: Users, sources: Iterable[str]) -> Tuning:
    """The weights of some sources by conditional logit, at the recency with the best NDCG@10.

    Args:
        pools: of all users.
        users: those to fit on, bool [users].
        sources: those that get a weight.
    """
    columns = [SOURCES.index(source) for source in sources]
    tunings = []
    for recency, scores in pools.scores.items():
        weights = np.zeros(len(SOURCES))
        weights[columns] = fitted = logit.fit(scores[users][:, :, columns])
        scale = float(fitted[0]) or 1.0
        tunings.append(Tuning(recency, SourceWeights(*relative(weights).tolist()), scale))
    return max(tunings, key=lambda tuning: gains(pools, users, tuning).mean())


def gains(pools: Pools, users: Users, tuning: Tuning) -> Gains:
    """The NDCG@10 of some users."""
    return gains_of(ranks(pools.scores[tuning.recency][users], tuning.vector))


def measure(pools: Pools, users: Users, tuning: Tuning) -> Worth:
    """What weights are worth to some users."""
    scores = pools.scores[tuning.recency][users]
    likelihood = logit.log_likelihood(scores, tuning.scale * tuning.vector)
    return Worth(gains(pools, users, tuning), likelihood)


def relative(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights in proportion to the first, which becomes 1 unless it is 0."""
    return weights / weights[0] if weights[0] > 0 else weights
