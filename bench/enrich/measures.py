"""Where an arm ranks what came next, seen items left out: the rank of each question's target."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench.enrich.arms import Arm, FloatArray
from offline.bootstrap import Difference, paired_bootstrap
from offline.dataset import Holdout
from offline.metrics import gains, ranks_from_scores
from offline.query_encoder.projection import fit_projection
from services.candidate.retrieval.similarity import unit

RECENT: Final = 10
"""Newest items whose mean content vector `embedding` compares with, as `tandem evaluate` does."""
MAX_HISTORY: Final = 100
_AT_ONCE: Final = 256

Ranks = NDArray[np.float64]
Histories = Sequence[NDArray[np.int32]]


@dataclass(frozen=True)
class Compared:
    """A measure of both arms over the same questions.

    Attributes:
        name: Of the ranking.
        metric: Such as `recall@100`.
        questions: How many.
        own: The mean with the items' own texts.
        enriched: The mean with generated text.
        gain: Enriched minus own, in pairs, with its 95% interval over users.
    """

    name: str
    metric: str
    questions: int
    own: float
    enriched: float
    gain: Difference


def compare(
    name: str, metric: str, users: NDArray[np.int32], own: Ranks, enriched: Ranks
) -> Compared:
    """Compares the ranks of equal questions."""
    before, after = gains(metric, own), gains(metric, enriched)
    gain = paired_bootstrap(after, before, users)
    return Compared(name, metric, len(users), float(before.mean()), float(after.mean()), gain)


def embedding_ranks(arm: Arm, asked: Holdout) -> Ranks:
    """By the cosine to the mean content vector of the newest items, `[questions]`."""

    def score(histories: Histories) -> FloatArray:
        mean = [unit(arm.content[history[-RECENT:]].mean(axis=0)) for history in histories]
        return np.stack(mean) @ arm.content.T

    return _ranks(score, asked)


def retrieval_ranks(arm: Arm, asked: Holdout) -> Ranks:
    """By the query encoder, `[questions]`."""
    return _ranks(partial(_scores, arm, arm.behavior), asked)


def cold_ranks(arm: Arm, asked: Holdout, left_out: NDArray[np.int32], folds: int = 10) -> Ranks:
    """By the query encoder, with items placed by their texts alone, `[questions]`.

    Args:
        arm: whose content vectors place them.
        asked: questions whose targets are among those that are left out.
        left_out: items, of which a fold at a time is left out of the fit that places it.
        folds: how many; at most as many as there are items.
    """
    ranks = np.full(len(asked.targets), np.nan)
    popularity = arm.data.popularity()
    for fold in np.array_split(left_out, min(folds, len(left_out))):
        at = np.flatnonzero(np.isin(asked.targets, fold))
        if not len(at):
            continue
        rest = np.setdiff1d(np.arange(len(arm.content)), fold)
        projection = fit_projection(arm.content[rest], arm.behavior[rest], popularity[rest])
        placed = arm.behavior.copy()
        mapped = arm.content[fold] @ projection[:-1] + projection[-1]
        placed[fold] = np.stack([unit(vector) for vector in mapped])
        ranks[at] = _ranks(partial(_scores, arm, placed), some(asked, at))
    return ranks


def some(asked: Holdout, places: NDArray[np.intp]) -> Holdout:
    """Some of the questions."""
    histories = [asked.histories[at] for at in places]
    return Holdout(asked.users[places], histories, asked.targets[places])


def _scores(arm: Arm, vectors: FloatArray, histories: Histories) -> FloatArray:
    queries = arm.encoder.encode_batch([arm.behavior[h[-MAX_HISTORY:]] for h in histories])
    return queries @ vectors.T


def _ranks(score: Callable[[Histories], FloatArray], asked: Holdout) -> Ranks:
    ranks = [np.empty(0)]
    for start in range(0, len(asked.targets), _AT_ONCE):
        histories = asked.histories[start : start + _AT_ONCE]
        targets = asked.targets[start : start + _AT_ONCE]
        ranks.append(ranks_from_scores(score(histories), targets, histories))
    return np.concatenate(ranks)
