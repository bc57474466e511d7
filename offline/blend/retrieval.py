"""The retrieval's weights: a source gets one only if users that it was not fitted on gain by it."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from offline.blend import logit
from offline.blend.sources import GENERATOR, SOURCES, Pools, Recency, ranks
from offline.blend.validation import FOLDS, Decision, Difference, Gains, gains_of
from services.candidate.engine import CandidateEngine
from services.candidate.shortlist import Weights

_FIRST: Final = SOURCES[:1]
"""The query encoder, which everything else is added to."""

Users = NDArray[np.bool_]


@dataclass(frozen=True)
class Tuning:
    """A choice of the retrieval's weights."""

    recency: Recency
    weights: Weights

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
    sources: tuple[str, ...]
    """Those that have a weight."""


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
    return Retrieval(fit(pools, everyone, kept), crossed, tuple(decisions), kept)


def beside_generator(pools: Pools, fold: NDArray[np.int64], retrieval: Retrieval) -> Retrieval:
    """The same sources with the weights that they have where the generator's scores are added.

    What it says as well as one of them counts less there, and what it does not say counts more.
    """
    everyone = np.ones(len(pools), np.bool_)
    crossed = cross_fit(pools, fold, retrieval.sources, beside=True)
    tuning = fit(pools, everyone, retrieval.sources, beside=True)
    return replace(retrieval, tuning=tuning, crossed=crossed)


def cross_fit(
    pools: Pools, fold: NDArray[np.int64], sources: Iterable[str], *, beside: bool = False
) -> CrossFit:
    """Fits some sources' weights without each fold, and measures them on it; see `fit`."""
    sources, gains = tuple(sources), np.empty(len(pools))
    tunings = []
    for number in range(FOLDS):
        held_out = fold == number
        tunings.append(fit(pools, ~held_out, sources, beside=beside))
        gains[held_out] = measure(pools, held_out, tunings[-1])
    return CrossFit(tuple(tunings), gains)


def fit(pools: Pools, users: Users, sources: Iterable[str], *, beside: bool = False) -> Tuning:
    """The weights of some sources by conditional logit, at the recency with the best NDCG@10.

    Args:
        pools: of all users.
        users: those to fit on, bool [users].
        sources: those that get a weight.
        beside: whether the generator's scores are added, with a weight of their own.
    """
    columns = [SOURCES.index(source) for source in sources] + [GENERATOR] * beside
    fitted: list[tuple[float, Tuning]] = []
    for recency, scores in pools.scores.items():
        weights = np.zeros(GENERATOR + 1)
        weights[columns] = logit.fit(scores[users][:, :, columns])
        own = relative(weights[:GENERATOR])
        if not own.any():  # the generator says it all: retrieval by itself still must find items
            own = relative(np.eye(GENERATOR)[0])
        value = float(gains_of(ranks(scores[users], weights)).mean())
        fitted.append((value, Tuning(recency, Weights(*own.tolist()))))
    return max(fitted, key=lambda pair: pair[0])[1]


def measure(pools: Pools, users: Users, tuning: Tuning) -> Gains:
    """The NDCG@10 of some users."""
    weights = tuning.weights
    vector = np.array([weights.behavior, weights.transitions, weights.content, weights.popularity])
    return gains_of(ranks(pools.scores[tuning.recency][users][:, :, :GENERATOR], vector))


def relative(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights in proportion to the first, which becomes 1 unless it is 0."""
    return weights / weights[0] if weights[0] > 0 else weights
