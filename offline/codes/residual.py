"""Residual k-means: a level says what the levels before it have left of a vector.

The first level is the nearest of its entries, the next one the nearest to what is left over, as
in residual quantization. No prefix takes more items than the levels below can name, and on the
last level every item of a prefix has its own value; so codes are unique and levels bounded,
without a level that only counts collisions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from offline.codes.clustering import bounded_assignment, kmeans, squared_distances

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from offline.codes.code import CodesConfig

__all__ = ["residual_levels"]


def residual_levels(
    vectors: NDArray[np.floating],
    base: int,
    config: CodesConfig,
    bound: Callable[[int], float] = float,
    rounds: int = 0,
) -> NDArray[np.int32]:
    """Quantize vectors level by level.

    Args:
        vectors: `[items, dimensions]`.
        base: Values per level.
        config: How many levels, and the seed.
        bound: How many of so many items with one prefix may go on with the same value; the codes
            that the levels below can name are a bound of their own.
        rounds: How often entries are moved to the mean of the items that they took in, and take
            them in anew: k-means knows no bounds, so its centroids are not where bounded groups
            are.

    Returns:
        `[items, levels]`, every row different.

    Raises:
        ValueError: A vector is not finite.
    """
    if not np.isfinite(vectors).all():
        raise ValueError("a vector is not finite")
    residuals = vectors.astype(np.float64)
    levels = np.zeros((len(vectors), config.levels), dtype=np.int32)
    for level in range(config.levels):
        named = base ** (config.levels - 1 - level)
        groups = _same_prefix(levels[:, :level])
        room = [min(named, int(bound(len(members)))) for members in groups]
        entries = kmeans(residuals, base, config.seed).astype(np.float64)
        labels = _assigned(residuals, entries, groups, room)
        for _ in range(rounds):
            entries = _means(residuals, labels, entries)
            labels = _assigned(residuals, entries, groups, room)
        levels[:, level] = labels
        residuals -= entries[labels]
    return levels


def _assigned(
    points: NDArray[np.float64],
    entries: NDArray[np.float64],
    groups: Sequence[NDArray[np.int64]],
    room: Sequence[int],
) -> NDArray[np.int64]:
    """`[points]` entries: within every group, no entry takes more points than it has room."""
    distances = squared_distances(points, entries)
    labels = np.empty(len(points), dtype=np.int64)
    for members, capacity in zip(groups, room, strict=True):
        labels[members] = bounded_assignment(distances[members], capacity)
    return labels


def _means(
    points: NDArray[np.float64], labels: NDArray[np.int64], entries: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The mean of every entry's points; an entry without any stays where it is."""
    moved = entries.copy()
    for entry in np.unique(labels):
        moved[entry] = points[labels == entry].mean(axis=0)
    return moved


def _same_prefix(prefixes: NDArray[np.int32]) -> list[NDArray[np.int64]]:
    """Item indices, ascending, grouped by equal rows of `prefixes`."""
    _, group = np.unique(prefixes, axis=0, return_inverse=True)
    order = np.argsort(group.ravel(), kind="stable")
    starts = np.flatnonzero(np.diff(group.ravel()[order])) + 1
    return np.split(order, starts)
