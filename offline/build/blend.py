"""Choosing the weights of the blends, on validation only.

First the retrieval's: how many items of a history transitions look at, how quickly these lose their
say, and how much transitions count beside the query encoder; then whether content and popularity
add anything to that. Then the final score's: how much the generator counts beside the retrieval, on
the shortlist that the chosen retrieval makes. Weights are few and the grids are coarse, so there is
little to overfit.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from offline.evaluate.protocol import Question, questions
from offline.metrics import ndcg
from offline.query_encoder.scores import (
    behavior_scores,
    content_scores,
    popularity_scores,
    transition_scores,
)
from runtime.bundle import Bundle
from services.candidate.encoders import OnnxQueryEncoder
from services.candidate.transitions import Transitions
from services.generator.engine import Context, GeneratorEngine, Query

WINDOWS: Final = (6, 10)
"""Newest items of a history whose transitions count."""
DECAYS: Final = (0.65, 0.75, 0.85)
"""How much less a history item's transitions weigh, per step that it lies back."""
GRID: Final = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.3, 1.6, 2.0)
CONTENT_GRID: Final = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
POPULARITY_GRID: Final = (0.0, 0.1, 0.2, 0.3, 0.5, 1.0)
LEAST_GAIN: Final = 0.005
"""The share of NDCG@10 that one more source must add: it costs a search, and a grid finds noise."""
_MOST_USERS: Final = 2000
"""Users that weights are chosen on; more would not change them and take long."""

Scores = NDArray[np.float32]
Choice = TypeVar("Choice")


@dataclass(frozen=True)
class Blend:
    """Chosen weights, relative to a weight of 1 for the query encoder and for the retrieval."""

    transition_window: int
    transition_decay: float
    transition_weight: float
    content_weight: float
    popularity_weight: float
    generator_weight: float
    retrieval_ndcg: float
    """Validation NDCG@10, filtered, of the retrieval alone."""
    final_ndcg: float
    """The same of the final score."""


@dataclass(frozen=True)
class _Retrieval:
    """A choice of the retrieval's weights."""

    window: int
    decay: float
    transitions: float
    scores: Scores
    """What it makes of every item, float32 [users, items]."""
    ndcg: float


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
    chosen = _choose_transitions(bundle, asked, progress)
    vectors = np.asarray(bundle.array("content_vectors", np.float32))
    content = content_scores(vectors, [question.history for question in asked], chosen.window)
    retrieval, content_weight, ndcg = _add_source(
        chosen.scores, content, CONTENT_GRID, chosen.ndcg, asked
    )
    popularity = popularity_scores(bundle.catalog.popularity)
    retrieval, popularity_weight, ndcg = _add_source(
        retrieval, popularity, POPULARITY_GRID, ndcg, asked
    )
    items, scores = _shortlists(retrieval, asked, shortlist)
    generated = _generator_scores(engine, asked, items, progress)
    targets = np.array([question.target for question in asked])
    generator_weight, final_ndcg = _best(
        GRID,
        lambda weight: _ndcg_over_lists(items, scores + np.float32(weight) * generated, targets),
    )
    return Blend(
        transition_window=chosen.window,
        transition_decay=chosen.decay,
        transition_weight=chosen.transitions,
        content_weight=content_weight,
        popularity_weight=popularity_weight,
        generator_weight=generator_weight,
        retrieval_ndcg=ndcg,
        final_ndcg=final_ndcg,
    )


def _choose_transitions(
    bundle: Bundle, asked: Sequence[Question], progress: Progress
) -> _Retrieval:
    """The best way to count transitions beside the query encoder, the first of equals."""
    histories = [question.history for question in asked]
    encoder = OnnxQueryEncoder(bundle.file("query_encoder.onnx"), threads=0)
    vectors = np.asarray(bundle.array("behavior_vectors", np.float32))
    longest = bundle.manifest.candidate.max_history
    behavior = behavior_scores(encoder, vectors, histories, longest, progress)
    table = Transitions.read(bundle)

    def tried() -> Iterator[_Retrieval]:
        for window, decay in product(WINDOWS, DECAYS):
            moves = transition_scores(replace(table, window=window, decay=decay), histories)
            scores, weight, ndcg = _weigh(behavior, moves, GRID, asked)
            yield _Retrieval(window, decay, weight, scores, ndcg)

    return max(tried(), key=lambda choice: choice.ndcg)


def _add_source(
    scores: Scores, source: Scores, grid: Sequence[float], ndcg: float, asked: Sequence[Question]
) -> tuple[Scores, float, float]:
    """As `_weigh`, but a source that does not gain enough gets no weight."""
    added, weight, gained = _weigh(scores, source, grid, asked)
    return (added, weight, gained) if gained >= ndcg * (1 + LEAST_GAIN) else (scores, 0.0, ndcg)


def _weigh(
    scores: Scores, source: Scores, grid: Sequence[float], asked: Sequence[Question]
) -> tuple[Scores, float, float]:
    """Adds a source with its best weight: the sums, the weight, and the NDCG@10 of it."""
    weight, ndcg = _best(
        grid, lambda weight: _ndcg_over_all(scores + np.float32(weight) * source, asked)
    )
    return scores + np.float32(weight) * source, weight, ndcg


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
