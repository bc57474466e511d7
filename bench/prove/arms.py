"""What is compared: blends of sources, whose weights are fitted on validation items alone."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bench.prove.scorers import Histories, Scores
from offline.blend import logit
from offline.blend.retrieval import relative
from offline.blend.sources import DEPTH, RECENCIES, Recency, ranks
from offline.blend.validation import gains_of

RETRIEVAL: Final = ("query_encoder", "transitions")
ARMS: Final[dict[str, tuple[str, ...]]] = {
    "A": RETRIEVAL,
    "B": (*RETRIEVAL, "generator"),
    "C": (*RETRIEVAL, "second_encoder"),
    "D": (*RETRIEVAL, "random_codes"),
    "S": (*RETRIEVAL, "item_softmax"),
}
"""The sources that each arm blends."""
MEANING: Final = {
    "A": "query encoder + transitions",
    "B": "A + generator",
    "C": "A + query encoder of another seed",
    "D": "A + generator with random codes",
    "S": "A + generator without its decoder",
}
SOURCES: Final = (*RETRIEVAL, "second_encoder", "generator", "random_codes", "item_softmax")

COUNTED: Final = {f"transitions {r.window} {r.decay}": r for r in RECENCIES}
"""The transitions in all the ways in which the newest items of a history can count."""

Pool = Mapping[str, Scores]
"""By source, float32 [questions, items]: what came next stands first, as in `Pools`."""


@dataclass(frozen=True)
class Fitted:
    """The weights of all arms."""

    recency: Recency
    """The best for arm A: the arms are to differ in one source alone."""
    weights: Mapping[str, Mapping[str, float]]
    """By arm and source, the query encoder's 1 unless it is 0."""

    def to_json(self) -> dict[str, Any]:
        """As reports keep it."""
        recency = {"window": self.recency.window, "decay": self.recency.decay}
        return {"recency": recency, "weights": self.weights}

    def blend(self, scores: Mapping[str, Scores], arm: str) -> NDArray[np.float64]:
        """The weighted sum of an arm's sources, in the shape of each."""
        parts = [weight * scores[name] for name, weight in self.weights[arm].items() if weight]
        first = scores[RETRIEVAL[0]]
        total: NDArray[np.float64] = np.sum([np.zeros(first.shape), *parts], axis=0)
        return total


def fit(pool: Pool) -> Fitted:
    """Fits every arm by conditional logit, as a bundle's blend is fitted."""
    chosen = max(COUNTED, key=lambda name: _worth(pool, ("query_encoder", name)))
    known = {**pool, "transitions": pool[chosen]}
    weights = {
        arm: dict(zip(sources, _weights(known, sources).tolist(), strict=True))
        for arm, sources in ARMS.items()
    }
    return Fitted(COUNTED[chosen], weights)


def _weights(pool: Pool, sources: Sequence[str]) -> NDArray[np.float64]:
    return relative(logit.fit(_stacked(pool, sources)))


def _worth(pool: Pool, sources: Sequence[str]) -> float:
    """The validation NDCG@10 of some sources."""
    places = ranks(_stacked(pool, sources), _weights(pool, sources))
    return float(gains_of(places).mean())


def _stacked(pool: Pool, sources: Sequence[str]) -> NDArray[np.float32]:
    return np.stack([pool[source] for source in sources], axis=-1)


def candidates(
    scores: Sequence[Scores], histories: Histories, targets: NDArray[np.int32]
) -> Iterator[NDArray[np.float32]]:
    """Of each question the scores that weights are fitted on, float32 [items, sources].

    As in `offline.blend.sources`: the target, then the other unseen items that some source has
    among its best.

    Args:
        scores: of each source, float32 [questions, items].
        histories: of each question.
        targets: int32 [questions]
    """
    for row, (history, target) in enumerate(zip(histories, targets.tolist(), strict=True)):
        own = np.stack([source[row] for source in scores], axis=1)
        others = np.ones(len(own), np.bool_)
        others[history] = False
        others[target] = False
        unseen = np.flatnonzero(others)
        best = unseen
        if len(unseen) > DEPTH:
            best = np.unique(np.argpartition(-own[unseen], DEPTH, axis=0)[:DEPTH])
            best = unseen[best]
        yield own[np.concatenate([[target], best])]
