"""What the generator's weights are chosen on: of each user the lists that serving would make.

The candidate's engine searches and the generator's ranks, as in `gateway.recommend.strategies`;
retrieval has the weights that were fitted without the user's fold, so that its lists are no better
than they will be for other users.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from core.catalog import ItemArray
from offline.blend import logit
from offline.blend.sources import Scores, padded, ranks
from offline.blend.validation import CUTOFF, FOLDS, Gains, Worth, gains_of
from offline.evaluate.protocol import Question
from services.candidate.retrieval.engine import CandidateEngine
from services.candidate.retrieval.shortlist import Shortlist
from services.generator.decoding.engine import (
    Generation,
    GeneratorEngine,
    RankingAnswer,
    RankingQuery,
    UserContext,
)

RETRIEVAL: Final = (0,)
EVERY_SOURCE: Final = (0, 1, 2)
"""Retrieval, transitions and generator."""
RETRIEVAL_ALONE: Final = np.array([1.0, 0.0, 0.0])
_NOTHING_TELLS: Final = 1e-6 * RETRIEVAL_ALONE
_BATCH: Final = 8
"""Prompts that the generator reads at once."""

Alone = Literal["embedding", "generate"]
Blended = Literal["rerank", "fuse"]
Weights = NDArray[np.float64]
"""Of retrieval, transitions and generator, float64 [3]."""


@dataclass(frozen=True)
class UserLists:
    """What serving finds for one user."""

    target: int
    shortlist: ItemArray
    """Best first."""
    generated: ItemArray
    """Best first."""
    merged: ItemArray
    """The shortlist, then what else is generated."""
    scores: Scores
    """Of the merged items, float32 [items, 3]: retrieval's, the transitions', the generator's."""


@dataclass(frozen=True)
class Blendable:
    """The items that a strategy blends, of all users.

    Attributes:
        scores: float32 [users, items, 3], as in `offline.blend.sources.Pools`; of a user whose
            target is not among the items all is NaN.
        found: bool [users], whether it is.
    """

    scores: Scores
    found: NDArray[np.bool_]

    def fit(self, users: NDArray[np.bool_], sources: Sequence[int] = EVERY_SOURCE) -> Weights:
        """The weights of some sources, the others' 0, by conditional logit.

        Retrieval's alone where no user could tell.
        """
        told = users & self.found
        if not told.any():
            return RETRIEVAL_ALONE
        weights = np.zeros(len(EVERY_SOURCE))
        weights[list(sources)] = logit.fit(self.scores[told][:, :, list(sources)])
        # Where no source tells anything, the shortlist keeps its own order instead of tying.
        return weights if weights.any() else _NOTHING_TELLS

    def gains(self, weights: Weights) -> Gains:
        """The NDCG@10 of every user."""
        return gains_of(np.where(self.found, ranks(self.scores, weights), np.inf))

    def cross_fit(self, fold: NDArray[np.int64], sources: Sequence[int] = EVERY_SOURCE) -> Worth:
        """What the weights of some sources are worth, each user's fitted without its fold."""
        gains, likelihood = np.empty(len(fold)), np.full(len(fold), np.nan)
        for number in range(FOLDS):
            weights, held_out = self.fit(fold != number, sources), fold == number
            gains[held_out] = self.gains(weights)[held_out]
            told = held_out & self.found
            likelihood[told] = logit.log_likelihood(self.scores[told], weights)
        return Worth(gains, likelihood)


def make_lists(
    engines: Sequence[CandidateEngine],
    generator: GeneratorEngine,
    asked: Sequence[Question],
    fold: NDArray[np.int64],
    shortlist: int,
    progress: Progress,
) -> list[UserLists]:
    """Asks the engines about every user.

    Args:
        engines: for each fold the retrieval that was fitted without it.
        generator: the generator.
        asked: the users.
        fold: the fold of each.
        shortlist: items that are reranked.
        progress: a bar to count users on.
    """
    task = progress.add_task("Generating and reranking", total=len(asked))
    lists: list[UserLists] = []
    for start in range(0, len(asked), _BATCH):
        part = slice(start, start + _BATCH)
        found = [
            engines[number].search(question.history, max(shortlist, CUTOFF))
            for question, number in zip(asked[part], fold[part].tolist(), strict=True)
        ]
        answers = generator.answer(list(map(_query, asked[part], found)))
        lists += map(_user_lists, asked[part], found, answers)
        progress.advance(task, len(found))
    return lists


def _query(question: Question, found: Shortlist) -> RankingQuery:
    context = UserContext(question.user, question.history)
    return RankingQuery(context, Generation(CUTOFF, None, question.history), found.items)


def _user_lists(question: Question, found: Shortlist, answer: RankingAnswer) -> UserLists:
    """Merges as `gateway.recommend.blend` does: what retrieval lacks counts there as its worst."""
    generated, reranked = answer.generated, answer.reranked
    if generated is None or reranked is None:
        raise AssertionError("both were asked for")
    by_generator = dict(zip(generated.items.tolist(), generated.scores.tolist(), strict=True))
    by_generator |= zip(reranked.items.tolist(), reranked.scores.tolist(), strict=True)
    more = generated.items[~np.isin(generated.items, found.items)]
    merged = np.concatenate([found.items, more])
    transitions = found.scores if found.transitions is None else found.transitions
    retrieval = [
        np.concatenate([scores, np.full(len(more), min(scores, default=0.0))])
        for scores in (found.scores, transitions)
    ]
    scores = np.column_stack([*retrieval, [by_generator[item] for item in merged.tolist()]])
    return UserLists(
        question.target, found.items, generated.items, merged, scores.astype(np.float32)
    )


def blendable(lists: Sequence[UserLists], strategy: Blended) -> Blendable:
    """What a strategy blends: `rerank` the shortlist, `fuse` the merged list."""
    rows, found = [], []
    for user in lists:
        count = len(user.shortlist) if strategy == "rerank" else len(user.merged)
        items, scores = user.merged[:count], user.scores[:count]
        target = np.flatnonzero(items == user.target)
        order = np.concatenate([target, np.flatnonzero(items != user.target)])
        rows.append(scores[order] if len(target) else scores[:0])
        found.append(len(target) > 0)
    return Blendable(padded(rows), np.array(found))


def gains_alone(lists: Sequence[UserLists], strategy: Alone) -> Gains:
    """The NDCG@10 of every user by one service's own list."""
    places = np.full(len(lists), np.inf)
    for row, user in enumerate(lists):
        items = user.shortlist if strategy == "embedding" else user.generated
        hit = np.flatnonzero(items == user.target)
        places[row] = hit[0] + 1 if len(hit) else np.inf
    return gains_of(places)
