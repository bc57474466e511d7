"""Clusters of bounded size, the same on every run."""

from __future__ import annotations

import faiss
import numpy as np
from numpy.typing import NDArray

__all__ = ["bounded_assignment", "kmeans", "squared_distances"]

ITERATIONS = 25
RESTARTS = 3


def kmeans(points: NDArray[np.floating], clusters: int, seed: int) -> NDArray[np.float32]:
    """K-means centroids with faiss.

    Run it inside `threadpoolctl.threadpool_limits(1)`, as `assign` does: the order in which
    threads add up decides the last bit of a sum, and that can decide a tie.

    Args:
        points: `[n, dimensions]`.
        clusters: How many centroids; with fewer points some of them coincide.
        seed: Of the first centroids.

    Returns:
        `[clusters, dimensions]`.
    """
    data = np.ascontiguousarray(points, dtype=np.float32)
    if len(data) <= clusters:
        return np.resize(data, (clusters, data.shape[1]))
    trainer = faiss.Kmeans(
        data.shape[1],
        clusters,
        niter=ITERATIONS,
        nredo=RESTARTS,
        seed=seed,
        min_points_per_centroid=1,
        max_points_per_centroid=1 << 20,
    )
    trainer.train(data)
    return np.array(trainer.centroids, dtype=np.float32)


def bounded_assignment(distances: NDArray[np.float64], capacity: int) -> NDArray[np.int64]:
    """Assign every point to a near cluster of which none takes more than `capacity` points.

    In rounds: every point without a cluster asks the nearest that has room; each cluster takes
    the nearest of those that ask, as far as its room goes.

    Args:
        distances: `[points, clusters]`; equal ones are resolved in favor of the lower index.
        capacity: The most points of a cluster.

    Returns:
        `[points]` cluster indices.

    Raises:
        ValueError: The clusters cannot hold the points.
    """
    points, clusters = distances.shape
    if points > clusters * capacity:
        raise ValueError(f"{clusters} clusters of {capacity} cannot hold {points} points")
    labels = np.full(points, -1, dtype=np.int64)
    room = np.full(clusters, capacity, dtype=np.int64)
    while len(waiting := np.flatnonzero(labels < 0)):
        open_distances = np.where(room > 0, distances[waiting], np.inf)
        choice = open_distances.argmin(axis=1)
        asked = open_distances[np.arange(len(waiting)), choice]
        order = np.lexsort((waiting, asked, choice))
        by_choice = choice[order]
        place = np.arange(len(order)) - np.searchsorted(by_choice, by_choice)
        accepted = place < room[by_choice]
        labels[waiting[order[accepted]]] = by_choice[accepted]
        room -= np.bincount(by_choice[accepted], minlength=clusters)
    return labels


def squared_distances(
    points: NDArray[np.floating], entries: NDArray[np.floating]
) -> NDArray[np.float64]:
    """`[points, entries]` squared Euclidean distances."""
    left, right = points.astype(np.float64), entries.astype(np.float64)
    distances: NDArray[np.float64] = -2.0 * left @ right.T
    distances += (left**2).sum(axis=1)[:, None]
    distances += (right**2).sum(axis=1)
    return distances
