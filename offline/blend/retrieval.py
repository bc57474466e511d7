"""The retrieval's weights: a source gets one only if users that it was not fitted on gain by it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from offline.blend import logit
from offline.blend.sources import SOURCES, Pools, Recency, ranks
from offline.blend.validation import FOLDS, Decision, Difference, Gains, gains_of
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

    def apply(self, engine: CandidateEngine) -> CandidateEngine:
        """The engine that ranks so."""
        return engine.retuned(self.weights, self.recency.window, self.recency.decay)


@dataclass(frozen=True)
class CrossFit:
    """Of every fold the choice that was made on the others, and what that is worth on it."""

    tunings: tuple[Tuning, ...]
    gains: Gains


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
        gain = Difference.between(added.gains, crossed.gains)
        decisions.append(Decision(source, gain.is_gain, gain))
        if gain.is_gain:
            kept, crossed = (*kept, source), added
    everyone = np.ones(len(pools), np.bool_)
    return Retrieval(fit(pools, everyone, kept), crossed, tuple(decisions))


def cross_fit(pools: Pools, fold: NDArray[np.int64], sources: Iterable[str]) -> CrossFit:
    """Fits some sources' weights without each fold, and measures them on it."""
    sources, gains = tuple(sources), np.empty(len(pools))
    tunings = []
    for number in range(FOLDS):
        held_out = fold == number
        tunings.append(fit(pools, ~held_out, sources))
        gains[held_out] = measure(pools, held_out, tunings[-1])
    return CrossFit(tuple(tunings), gains)


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
        weights[columns] = relative(logit.fit(scores[users][:, :, columns]))
        tunings.append(Tuning(recency, SourceWeights(*weights.tolist())))
    return max(tunings, key=lambda tuning: measure(pools, users, tuning).mean())


def measure(pools: Pools, users: Users, tuning: Tuning) -> Gains:
    """The NDCG@10 of some users."""
    weights = tuning.weights
    vector = np.array([weights.behavior, weights.transitions, weights.content, weights.popularity])
    return gains_of(ranks(pools.scores[tuning.recency][users], vector))


def relative(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """SourceWeights in proportion to the first, which becomes 1 unless it is 0."""
    return weights / weights[0] if weights[0] > 0 else weights
