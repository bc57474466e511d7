"""Choosing the weights of the blends, on validation only.

First the retrieval's: how much item transitions count beside the query encoder, and how quickly
the items of a history lose their say in them. Then the final
score's: how much the generator counts beside the retrieval, on the shortlist that the chosen
retrieval makes. Weights are few and the grid is coarse, so there is little to overfit.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from offline.evaluate.protocol import Question, questions
from offline.metrics import ndcg
from offline.query_encoder.scores import SourceScores, source_scores
from runtime.bundle import Bundle
from services.candidate.encoders import OnnxQueryEncoder
from services.candidate.transitions import Transitions
from services.generator.engine import Context, GeneratorEngine, Query

DECAYS: Final = (0.65, 0.75, 0.85)
"""How much less a history item's transitions weigh, per step that it lies back."""
GRID: Final = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.3, 1.6, 2.0)
_MOST_USERS: Final = 2000
"""Users that weights are chosen on; more would not change them and take long."""

Scores = NDArray[np.float32]
Choice = TypeVar("Choice")


@dataclass(frozen=True)
class Blend:
    """Chosen weights, relative to a weight of 1 for the query encoder and for the retrieval."""

    transition_decay: float
    transition_weight: float
    generator_weight: float
    retrieval_ndcg: float
    """Validation NDCG@10, filtered, of the retrieval alone."""
    final_ndcg: float
    """The same of the final score."""


def choose(bundle: Bundle, engine: GeneratorEngine, shortlist: int, progress: Progress) -> Blend:
    """Chooses the weights for a bundle, whose own are not looked at.

    Args:
        bundle: with everything but the weights.
        engine: its generator.
        shortlist: items that are reranked.
        progress: a bar to show users on.
    """
    asked = questions(bundle, "validation")
    if len(asked) > _MOST_USERS:
        picked = np.random.default_rng(0).choice(len(asked), _MOST_USERS, replace=False)
        asked = [asked[i] for i in np.sort(picked)]
    table = Transitions.read(bundle)
    by_decay = {
        decay: _sources(bundle, replace(table, decay=decay), asked, progress) for decay in DECAYS
    }
    (decay, transition_weight), retrieval_ndcg = _best(
        product(DECAYS, GRID),
        lambda choice: _ndcg_over_all(by_decay[choice[0]].blend(1.0, choice[1]), asked),
    )
    retrieval = by_decay[decay].blend(1.0, transition_weight)
    items, scores = _shortlists(retrieval, asked, shortlist)
    generated = _generator_scores(engine, asked, items, progress)
    targets = np.array([question.target for question in asked])
    generator_weight, final_ndcg = _best(
        GRID,
        lambda weight: _ndcg_over_lists(items, scores + np.float32(weight) * generated, targets),
    )
    return Blend(decay, transition_weight, generator_weight, retrieval_ndcg, final_ndcg)


def _sources(
    bundle: Bundle, table: Transitions, asked: Sequence[Question], progress: Progress
) -> SourceScores:
    return source_scores(
        OnnxQueryEncoder(bundle.file("query_encoder.onnx"), threads=0),
        np.asarray(bundle.array("behavior_vectors", np.float32)),
        table,
        [question.history for question in asked],
        bundle.manifest.candidate.max_history,
        progress,
    )


def _shortlists(
    retrieval: Scores, asked: Sequence[Question], length: int
) -> tuple[NDArray[np.int32], Scores]:
    """The best unseen items of each user and their scores, both [users, length]."""
    unseen = _mask_seen(retrieval, asked)
    length = min(length, unseen.shape[1])
    items = np.argsort(-unseen, axis=1, kind="stable")[:, :length].astype(np.int32)
    return items, np.take_along_axis(unseen, items, axis=1)


def _generator_scores(
    engine: GeneratorEngine,
    asked: Sequence[Question],
    items: NDArray[np.int32],
    progress: Progress,
) -> Scores:
    """The generator's log-probabilities of the shortlists. Shape of `items`."""
    scores = np.empty(items.shape, dtype=np.float32)
    task = progress.add_task("Reranking shortlists", total=len(asked))
    for row, question in enumerate(asked):
        context = Context(question.user, question.history)
        (ranked,) = engine.rerank([Query(context, shortlist=items[row])])
        by_item = dict(zip(ranked.items.tolist(), ranked.scores.tolist(), strict=True))
        scores[row] = [by_item[item] for item in items[row].tolist()]
        progress.advance(task)
    return scores


def _best(choices: Iterable[Choice], evaluate: Callable[[Choice], float]) -> tuple[Choice, float]:
    """The choice with the highest value, the first of equals; and the value."""
    valued = [(choice, evaluate(choice)) for choice in choices]
    return max(valued, key=lambda pair: pair[1])


def _ndcg_over_all(scores: Scores, asked: Sequence[Question]) -> float:
    unseen = _mask_seen(scores, asked)
    targets = np.array([question.target for question in asked])
    # The target counts even where the user has seen it before, as everywhere else.
    own = np.take_along_axis(scores, targets[:, None], axis=1)
    return ndcg((unseen > own).sum(axis=1) + 1.0, 10)


def _ndcg_over_lists(items: NDArray[np.int32], scores: Scores, targets: NDArray[np.int64]) -> float:
    hit = items == targets[:, None]
    own = np.where(hit, scores, -np.inf).max(axis=1)
    ranks = np.where(hit.any(axis=1), (scores > own[:, None]).sum(axis=1) + 1.0, np.inf)
    return ndcg(ranks, 10)


def _mask_seen(scores: Scores, asked: Sequence[Question]) -> Scores:
    masked = scores.copy()
    for row, question in enumerate(asked):
        masked[row, question.history] = -np.inf
    return masked
