"""Ranking metrics, leave-one-out: one function per metric, each a mean over users.

Every user has one target, whose *rank* is 1 for the best place and infinite when a list ends
without it. A ranking is **unfiltered** over all items, or **filtered** over those the user has
not seen; a `Row` says which. With a single target recall@k equals HR@k; it keeps its own name
because it is what a shortlist is judged by.

No users, no figure: a mean over nobody is NaN with a warning, never 0.
"""

from __future__ import annotations

import math
import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from offline.bootstrap import bootstrap_ci

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Ranking",
    "Row",
    "Ties",
    "UndefinedMetricWarning",
    "UnknownMetricError",
    "gains",
    "hr",
    "measure",
    "mrr",
    "ndcg",
    "ranks_from_lists",
    "ranks_from_scores",
    "recall",
]

Ranking = Literal["filtered", "unfiltered"]
Ties = Literal["best", "worst"]
STANDARD = ("hr@5", "ndcg@5", "hr@10", "ndcg@10", "mrr")
NAME = re.compile(r"(?P<metric>[a-z]+)(?:@(?P<k>[1-9]\d*))?")


class UnknownMetricError(ValueError):
    """A metric by a name that does not exist."""


class UndefinedMetricWarning(UserWarning):
    """A figure that has no value, such as a mean over no users."""


# -- metrics --------------------------------------------------------------------------------------


def hr(ranks: ArrayLike, k: int) -> float:
    """HR@k, the hit rate: the share of users whose target is among the first `k`."""
    return _mean(hits(ranks, k))


def recall(ranks: ArrayLike, k: int) -> float:
    """Recall@k: how many of the user's relevant items, of which there is one, are retrieved."""
    return _mean(hits(ranks, k))


def ndcg(ranks: ArrayLike, k: int) -> float:
    """NDCG@k with one relevant item: `1 / log2(1 + rank)` within the first `k`, else 0."""
    return _mean(discounted_gains(ranks, k))


def mrr(ranks: ArrayLike) -> float:
    """MRR, the mean reciprocal rank."""
    return _mean(reciprocal_ranks(ranks))


def hits(ranks: ArrayLike, k: int) -> NDArray[np.float64]:
    """Per user 1 where the rank is at most `k`, else 0."""
    return (np.asarray(ranks, dtype=np.float64) <= k).astype(np.float64)


def discounted_gains(ranks: ArrayLike, k: int) -> NDArray[np.float64]:
    """Per user the share of the ideal discounted gain that the first `k` places earn."""
    places = np.asarray(ranks, dtype=np.float64)
    return np.where(places <= k, 1.0 / np.log2(1.0 + places), 0.0)


def reciprocal_ranks(ranks: ArrayLike) -> NDArray[np.float64]:
    """Per user `1 / rank`, which is 0 for a target that was not listed."""
    return 1.0 / np.asarray(ranks, dtype=np.float64)


AT_K: Mapping[str, Callable[[ArrayLike, int], NDArray[np.float64]]] = {
    "hr": hits,
    "recall": hits,
    "ndcg": discounted_gains,
}


def gains(metric: str, ranks: ArrayLike) -> NDArray[np.float64]:
    """Per-user values of a metric by name: `hr@k`, `recall@k`, `ndcg@k` or `mrr`.

    Raises:
        UnknownMetricError: There is no such metric.
    """
    name = NAME.fullmatch(metric)
    if name and name["metric"] in AT_K and name["k"]:
        return AT_K[name["metric"]](ranks, int(name["k"]))
    if metric == "mrr":
        return reciprocal_ranks(ranks)
    raise UnknownMetricError(
        f"there is no metric {metric!r}: use hr@k, ndcg@k or recall@k with a positive k, or mrr"
    )


# -- ranks ----------------------------------------------------------------------------------------


def ranks_from_scores(
    scores: NDArray[np.floating],
    targets: NDArray[np.integer],
    seen: NDArray[np.bool_] | Sequence[NDArray[np.integer]] | None = None,
    *,
    ties: Ties = "worst",
) -> NDArray[np.float64]:
    """Rank each user's target by score, higher first.

    Ties count against the target by default: it stands behind all items of equal score, so that
    a scorer which cannot tell items apart earns nothing by it. `ties="best"` puts it before them.
    That is the rule behind the published figures of the counting baselines, whose scores tie
    often; it flatters what is to be beaten.

    Args:
        scores: `[users, items]`; `-inf` is a legal score, NaN is not.
        targets: `[users]` item indices.
        seen: For the filtered ranking, what to leave out: a `[users, items]` mask or one array of
            item indices per user. The target itself always takes part, seen before or not.
        ties: Where the target stands among items of equal score.

    Returns:
        `[users]` ranks from 1.

    Raises:
        ValueError: A score is NaN, or the shapes disagree.
    """
    if scores.ndim != 2 or targets.shape != scores.shape[:1]:
        raise ValueError(f"targets {targets.shape} do not fit scores {scores.shape}")
    if np.isnan(scores).any():
        raise ValueError("a score is NaN: its rank would be arbitrary")
    users = np.arange(len(targets))
    target_scores = scores[users, targets][:, None]
    ahead: NDArray[np.bool_] = scores > target_scores if ties == "best" else scores >= target_scores
    if isinstance(seen, np.ndarray):
        ahead &= ~seen
    elif seen is not None:
        for user, items in enumerate(seen):
            ahead[user, items] = False
    ahead[users, targets] = True  # itself, so that ranks start from 1
    ranks: NDArray[np.float64] = ahead.sum(axis=1, dtype=np.float64)
    return ranks


def ranks_from_lists(
    lists: NDArray[np.integer], targets: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Rank each user's target by its place in a list.

    Args:
        lists: `[users, places]` item indices, best first, no item twice; -1 where a list ends.
        targets: `[users]` item indices.

    Returns:
        `[users]` ranks from 1, infinite where the list does not hold the target.
    """
    found = lists == targets[:, None]
    return np.where(found.any(axis=1), found.argmax(axis=1) + 1.0, np.inf)


# -- figures --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One line of an evaluation.

    Attributes:
        name: What was evaluated, e.g. `"popularity"`.
        ranking: Whether seen items were left out.
        users: How many were evaluated.
        metrics: Means by metric name.
        ci95: Lower and upper end of each metric's 95% bootstrap interval.
    """

    name: str
    ranking: Ranking
    users: int
    metrics: Mapping[str, float]
    ci95: Mapping[str, tuple[float, float]]

    def to_json(self) -> dict[str, object]:
        """The row as `tandem evaluate --json` prints it; a figure without a value is null."""

        def finite(value: float) -> float | None:
            return value if math.isfinite(value) else None

        return {
            "name": self.name,
            "ranking": self.ranking,
            "users": self.users,
            **{metric: finite(value) for metric, value in self.metrics.items()},
            "ci95": {metric: [finite(end) for end in ends] for metric, ends in self.ci95.items()},
        }


def measure(
    name: str,
    ranking: Ranking,
    ranks: NDArray[np.float64],
    metrics: Sequence[str] = STANDARD,
    *,
    seed: int = 0,
) -> Row:
    """Compute a row: each metric's mean over users and its bootstrap interval.

    Raises:
        UnknownMetricError: There is no metric of that name.
    """
    values = np.stack([gains(metric, ranks) for metric in metrics], axis=1)
    low, high = bootstrap_ci(values, seed=seed)
    return Row(
        name=name,
        ranking=ranking,
        users=len(ranks),
        metrics={metric: _mean(values[:, i]) for i, metric in enumerate(metrics)},
        ci95={metric: (float(low[i]), float(high[i])) for i, metric in enumerate(metrics)},
    )


def _mean(values: NDArray[np.float64]) -> float:
    if len(values) == 0:
        warnings.warn("a mean over no users is NaN", UndefinedMetricWarning, stacklevel=3)
        return math.nan
    return float(values.mean())
