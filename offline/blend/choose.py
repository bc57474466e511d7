"""Chooses everything that is blended, on validation only, and says why."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from core.bundle import Bundle
from core.manifest import BlendSection, BlendWeights, StrategyName
from offline.blend.lists import (
    RETRIEVAL,
    RETRIEVAL_ALONE,
    Blendable,
    Blended,
    UserLists,
    Weights,
    blendable,
    gains_alone,
    make_lists,
)
from offline.blend.retrieval import Retrieval, Tuning, choose_retrieval, relative
from offline.blend.sources import gather
from offline.blend.strategies import DefaultStrategy, choose_default
from offline.blend.validation import MOST_USERS, Decision, Gains, folds
from offline.evaluate.protocol import Question, questions, sample
from services.candidate.retrieval.engine import CandidateEngine
from services.generator.decoding.engine import GeneratorEngine


@dataclass(frozen=True)
class Blend:
    """What was chosen, and what it is worth to users that it was not chosen on."""

    tuning: Tuning
    """The retrieval's weights."""
    blend: BlendSection
    decisions: tuple[Decision, ...]
    """Of each source of scores, in the order in which they were weighed."""
    ndcg: dict[StrategyName, float]
    """Validation NDCG@10, filtered and out of fold, of every strategy."""
    reason: str
    """Why the default strategy is the default."""

    @property
    def sentences(self) -> list[str]:
        """The decisions, for people."""
        return [*map(str, self.decisions), f"default strategy {self.reason}"]

    def to_json(self) -> dict[str, Any]:
        """As the stage and the manifest keep it."""
        recency, weights = self.tuning.recency, self.tuning.weights
        return {
            "candidate": {
                "transition_window": recency.window,
                "transition_decay": recency.decay,
                "behavior_weight": weights.behavior,
                "transition_weight": weights.transitions,
                "content_weight": weights.content,
                "popularity_weight": weights.popularity,
            },
            "blend": self.blend.model_dump(mode="json"),
            "validation": {
                "ndcg@10": self.ndcg,
                "sources": [decision.to_json() for decision in self.decisions],
                "default_strategy": self.reason,
            },
        }


def choose(bundle: Bundle, engine: GeneratorEngine, shortlist: int, progress: Progress) -> Blend:
    """Chooses for a bundle, whose own weights are not looked at.

    Args:
        bundle: with everything but the weights.
        engine: its generator.
        shortlist: items that are reranked.
        progress: a bar to show users on.

    Raises:
        ValueError: no user has three interactions.
    """
    asked = _asked(bundle)
    fold = folds(len(asked))
    candidate = CandidateEngine.load(bundle, threads=0)
    retrieval = choose_retrieval(gather(candidate, asked, progress), fold)
    engines = [tuning.apply(candidate) for tuning in retrieval.crossed.tunings]
    lists = make_lists(engines, engine, asked, fold, shortlist, progress)
    return _choose(retrieval, lists, fold, shortlist)


def _asked(bundle: Bundle) -> Sequence[Question]:
    """The validation questions of all users, or of some by chance."""
    asked = questions(bundle, "validation")
    if not asked:
        raise ValueError("no user has three interactions: there is nothing to choose weights by")
    return [asked[place] for place in sample(asked, MOST_USERS)]


def _choose(
    retrieval: Retrieval, lists: Sequence[UserLists], fold: NDArray[np.int64], shortlist: int
) -> Blend:
    embedding, generate = gains_alone(lists, "embedding"), gains_alone(lists, "generate")
    gains: dict[StrategyName, Gains] = {"embedding": embedding, "generate": generate}
    decisions, weights = list(retrieval.decisions), {}
    strategies: tuple[Blended, ...] = ("rerank", "fuse")
    for strategy in strategies:
        blended = blendable(lists, strategy)
        added, without = blended.cross_fit(fold), blended.cross_fit(fold, RETRIEVAL)
        decision = Decision.of(f"generator, to {strategy}", added, without)
        decisions.append(decision)
        weights[strategy] = _weights(blended, kept=decision.kept)
        # Without a weight the generator changes nothing, and it never is the default to call it.
        gains |= {strategy: added.gains} if decision.kept else {}
    default = choose_default(gains)
    ndcg = {name: float(values.mean()) for name, values in gains.items()}
    return Blend(
        retrieval.tuning,
        _section(weights["rerank"], weights["fuse"], shortlist, default),
        tuple(decisions),
        ndcg,
        default.reason,
    )


def _weights(blended: Blendable, *, kept: bool) -> Weights:
    everyone = np.ones(len(blended.found), np.bool_)
    return relative(blended.fit(everyone)) if kept else RETRIEVAL_ALONE


def _section(
    rerank: Weights, fuse: Weights, shortlist: int, default: DefaultStrategy
) -> BlendSection:
    return BlendSection(
        **_named(rerank),
        shortlist=shortlist,
        fuse=BlendWeights(**_named(fuse)),
        default_strategy=default.strategy,
    )


def _named(weights: Weights) -> dict[str, float]:
    retrieval, transitions, generator = weights.tolist()
    return {
        "retrieval_weight": retrieval,
        "transition_weight": transitions,
        "generator_weight": generator,
    }
