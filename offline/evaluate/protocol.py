"""What is asked of every ranking: a history, the item that really came next, and a list.

Leave-one-out: a user's last interaction is the test target, given everything before it; the last
but one is the validation target. All items are ranked.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from offline.metrics import Ranking, Row, measure, ranks_from_lists
from runtime.bundle import Bundle
from runtime.catalog import ItemArray

Split = Literal["validation", "test"]

RANKINGS: Final[tuple[Ranking, ...]] = ("unfiltered", "filtered")
METRICS: Final = ("hr@5", "ndcg@5", "hr@10", "ndcg@10", "mrr")
RECALLS: Final = ("recall@50", "recall@100", "recall@200")
DEPTH: Final = 200
"""Places of a list that are looked at; a target further down counts as not found."""

Lister = Callable[["Question", bool], ItemArray]
"""Answers a question with items, best first; the flag says whether seen items may be in it."""


@dataclass(frozen=True)
class Question:
    """One user's history, and what came next."""

    user: int
    user_id: str
    history: ItemArray
    target: int


def questions(bundle: Bundle, split: Split) -> list[Question]:
    """The questions of all users with at least three interactions, in user order."""
    back = 2 if split == "validation" else 1
    asked = []
    for user_id, user in bundle.histories.user_index.items():
        items = bundle.histories.of(user_id)
        if items is not None and len(items) >= 3:
            history = np.array(items[:-back], dtype=np.int32)
            asked.append(Question(user, user_id, history, int(items[-back])))
    return asked


def rank(asked: Sequence[Question], lister: Lister, *, include_seen: bool) -> list[ItemArray]:
    """Asks every question. A filtered list leaves the user's history out."""
    return [lister(question, include_seen) for question in asked]


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
