"""What people went on to, as a baseline that costs nothing beside popularity.

`tandem evaluate` has both as rows. They pin the protocol, so for ML-100K they are compared with
published figures (test items, HR@5 / NDCG@5 / HR@10 / NDCG@10):

                            unfiltered                      filtered
    popularity   published  .0255 / .0150 / .0498 / .0230   .0583 / .0364 / .0870 / .0453
                 here       the same                        the same
    transitions  published  .0838 / .0581 / .1421 / .0768   .1304 / .0882 / .2078 / .1128
                 here       .0848 / .0573 / .1421 / .0757   .1283 / .0876 / .2078 / .1131

Popularity counts training interactions, and its figures come out exactly when ties go to the
target. Of the transitions only the window (10) and the decay (.85) of the table are published.
How rows are scaled and how a history is weighed was chosen here so that the figures come out: of
the ways that were tried none gives all eight, and this one is nearest, two users of 943 apart at
most.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from offline.dataset.windows import windowed_counts
from services.candidate.retrieval.transitions import Transitions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from offline.dataset.schema import Dataset

__all__ = ["transition_scores", "transition_table"]

WINDOW = 10  # places that two items of a training sequence may lie apart
DECAY = 0.85  # weight of a pair, per place further apart
SHRINKAGE = 5.0  # pairs' worth of doubt about an item that has few successors
RECENT = 6  # newest items of a history that count
RECENT_DECAY = 0.65  # weight of a history item, per step that it lies back


def transition_table(dataset: Dataset) -> Transitions:
    """What people went on to in training, up to `WINDOW` places later.

    A row is divided by its sum plus `SHRINKAGE`, which makes it nearly a distribution and lets
    items with few successors say less.
    """
    counts = windowed_counts(dataset.train(), len(dataset.items), WINDOW, DECAY)
    row_sums = np.asarray(counts.sum(axis=1)) + SHRINKAGE
    return Transitions(
        indptr=counts.indptr.astype(np.int64),
        items=counts.indices.astype(np.int32),
        weights=(counts.data / np.repeat(row_sums, np.diff(counts.indptr))).astype(np.float32),
        window=RECENT,
        decay=RECENT_DECAY,
    )


def transition_scores(
    table: Transitions, histories: Sequence[NDArray[np.int32]]
) -> NDArray[np.float64]:
    """`[histories, items]` probabilities of every next item, as the candidate service has them."""
    scores = np.zeros((len(histories), len(table)))
    for row, history in zip(scores, histories, strict=True):
        items, probabilities = table.after(history)
        row[items] = probabilities
    return scores
