"""Baselines that cost nothing: what is popular, and what people went on to.

`python -m offline.baselines build/data` prints both for ML-100K. They pin the protocol, so they
are compared with the figures in the project's design (test items, HR@5 / NDCG@5 / HR@10 /
NDCG@10):

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

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.table import Table

from offline.dataset import Dataset, load_movielens
from offline.dataset.windows import windowed_counts
from offline.metrics import Ranking, Row, measure, ranks_from_scores
from services.candidate.retrieval.transitions import Transitions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from offline.dataset import Split

__all__ = ["baseline_rows", "popularity", "transition_scores", "transition_table"]

WINDOW = 10  # places that two items of a training sequence may lie apart
DECAY = 0.85  # weight of a pair, per place further apart
SHRINKAGE = 5.0  # pairs' worth of doubt about an item that has few successors
RECENT = 6  # newest items of a history that count
RECENT_DECAY = 0.65  # weight of a history item, per step that it lies back
BATCH = 256  # users whose scores are held in memory at once


def popularity(dataset: Dataset) -> NDArray[np.int64]:
    """`[items]` training interactions of every item."""
    return np.bincount(np.concatenate(dataset.train()), minlength=len(dataset.items))


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


def baseline_rows(dataset: Dataset, split: Split) -> list[Row]:
    """Evaluate both baselines, unfiltered and filtered.

    Counts tie often. Ties are broken in favor of the target, as in the figures that others
    publish for such baselines: that makes the bar higher for what is compared with them.
    """
    held = dataset.holdout(split)
    table = transition_table(dataset)
    popular = popularity(dataset).astype(np.float64)
    rankings: tuple[Ranking, ...] = ("unfiltered", "filtered")
    ranks: dict[tuple[str, Ranking], list[NDArray[np.float64]]] = {}
    for start in range(0, len(held.users), BATCH):
        histories = held.histories[start : start + BATCH]
        targets = held.targets[start : start + BATCH]
        scored = {
            "popularity": np.broadcast_to(popular, (len(histories), len(popular))),
            "transitions": transition_scores(table, histories),
        }
        for name, scores in scored.items():
            for ranking in rankings:
                seen = histories if ranking == "filtered" else None
                found = ranks_from_scores(scores, targets, seen, ties="best")
                ranks.setdefault((name, ranking), []).append(found)
    return [measure(*key, np.concatenate(parts)) for key, parts in ranks.items()]


def main(directory: str) -> None:
    """Print the baselines of the ML-100K that `tandem data fetch` put into `directory`."""
    dataset = load_movielens("ml-100k", Path(directory))
    table = Table("", "ranking", "HR@5", "NDCG@5", "HR@10", "NDCG@10", "MRR", box=None)
    for row in baseline_rows(dataset, "test"):
        table.add_row(row.name, row.ranking, *(f"{value:.4f}" for value in row.metrics.values()))
    Console().print(table)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m offline.baselines DIRECTORY")
    main(sys.argv[1])
