"""What is asked of every ranking: a history, the item that really came next, and a list.

Leave-one-out: a user's last interaction is the test target, given everything before it; the last
but one is the validation target. Where histories are long, several of the last can be tested, each
given everything before it. All items are ranked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from core.bundle import Bundle
from core.catalog import Catalog, ItemArray
from offline.dataset.split import Split as Split
from offline.dataset.split import held_out
from offline.metrics import Ranking, Row, measure, ranks_from_lists

RANKINGS: Final[tuple[Ranking, ...]] = ("unfiltered", "filtered")
METRICS: Final = ("hr@5", "ndcg@5", "hr@10", "ndcg@10")
WHOLE: Final = (*METRICS, "mrr")
"""Those of a ranking of all items; a list that is cut has no mean reciprocal rank."""
RECALLS: Final = ("recall@50", "recall@100", "recall@200")
DEPTH: Final = 200
"""Places of a list that are looked at; a target further down counts as not found."""

LISTED: Final = 50
"""Items that the gateway is asked for."""


@dataclass(frozen=True)
class Question:
    """One user's history, and what came next."""

    user: int
    user_id: str
    history: ItemArray
    target: int


@dataclass(frozen=True)
class RankedList:
    """An answer: items, best first, and their scores."""

    items: ItemArray
    scores: NDArray[np.float64]

    @classmethod
    def of(cls, catalog: Catalog, scored: Sequence[tuple[str, float]]) -> "RankedList":
        """The items of a catalog by their identifiers."""
        items, _ = catalog.lookup(item_id for item_id, _ in scored)
        return cls(items, np.array([score for _, score in scored]))

    def by_item(self) -> dict[int, float]:
        """The score of each item."""
        return dict(zip(self.items.tolist(), self.scores.tolist(), strict=True))


def questions(bundle: Bundle, split: Split, tested: int = 1) -> list[Question]:
    """The questions of all users with enough interactions, in user order, a user's oldest first.

    Args:
        bundle: whose histories are asked about.
        split: the test items, or the validation items.
        tested: last interactions of a user that are test targets, as in `Dataset.held_back`; the
            bundle must have been trained without them. With several of a user, compare by
            `offline.bootstrap.paired_bootstrap`: questions of one user are not independent.
    """
    histories = bundle.histories
    users = list(histories.user_index)
    items = np.asarray(histories.items, dtype=np.int32)
    asked = []
    for user, place in held_out(np.diff(histories.indptr).tolist(), split, tested):
        start, end = histories.indptr[user], histories.indptr[user] + place
        asked.append(Question(user, users[user], items[start:end], int(items[end])))
    return asked


def sample(asked: Sequence[object], count: int | None, seed: int = 0) -> list[int]:
    """The places of `count` questions, or of all, ascending; equal seeds pick the same."""
    if count is None or count >= len(asked):
        return list(range(len(asked)))
    picked = np.random.default_rng(seed).choice(len(asked), count, replace=False)
    return sorted(picked.tolist())


def row(
    name: str,
    ranking: Ranking,
    asked: Sequence[Question],
    lists: Sequence[ItemArray],
    metrics: Sequence[str] = METRICS,
) -> Row:
    """Measures lists, which may have different lengths."""
    padded = np.full((len(asked), max((len(items) for items in lists), default=0)), -1, np.int32)
    for i, items in enumerate(lists):
        padded[i, : len(items)] = items
    targets = np.array([question.target for question in asked], dtype=np.int32)
    return measure(name, ranking, ranks_from_lists(padded, targets), metrics)
