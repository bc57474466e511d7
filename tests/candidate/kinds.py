"""Every kind of index over made-up vectors in clusters, and what holds for all of them."""

from collections.abc import Callable

import numpy as np

from core.catalog import Mask
from services.candidate.index.flat import FlatIndex, Neighbors, Vector, VectorIndex
from services.candidate.index.hnsw import HnswIndex
from services.candidate.index.ivf import IvfIndex
from services.candidate.index.live import LiveIndex
from tests.candidate.made_up import unit

Build = Callable[[Vector], VectorIndex]


def live_of(build: Build) -> Build:
    """The kind over the first half, and the second half added in two goes."""

    def built(vectors: Vector) -> VectorIndex:
        half, more = len(vectors) // 2, len(vectors) // 3
        return (
            LiveIndex.of(build(vectors[:half]))
            .extended(vectors[half : half + more])
            .extended(vectors[half + more :])
        )

    return built


EXACT: dict[str, Build] = {"flat": FlatIndex, "live": live_of(FlatIndex)}
APPROXIMATE: dict[str, Build] = {
    "hnsw": HnswIndex.build,
    "ivfpq": IvfIndex.build,
    "live hnsw": live_of(HnswIndex.build),
    "live ivfpq": live_of(IvfIndex.build),
}


def clustered(items: int, dimension: int, seed: int = 0) -> Vector:
    """Vectors of unit norm around one center for every fifty of them."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(max(1, items // 50), dimension))
    spread = 0.6 * rng.normal(size=(items, dimension))
    return unit((centers[rng.integers(len(centers), size=items)] + spread).astype(np.float32))


def check_honest(
    found: Neighbors, vectors: Vector, query: Vector, count: int, allowed: Mask | None
) -> None:
    """The list is full, allowed, distinct, in order, and scored by the vectors themselves."""
    qualified = np.ones(len(vectors), np.bool_) if allowed is None else allowed
    assert len(found.items) == min(count, np.count_nonzero(qualified))
    assert qualified[found.items].all(), "nothing that is not allowed"
    assert len(set(found.items.tolist())) == len(found.items)
    exact = vectors.astype(np.float64) @ query
    np.testing.assert_allclose(found.scores, exact[found.items], atol=1e-5)
    steps = list(zip((-found.scores).tolist(), found.items.tolist(), strict=True))
    assert steps == sorted(steps), "best first, and equal ones by position"


def check_best(
    found: Neighbors, vectors: Vector, query: Vector, count: int, allowed: Mask | None
) -> None:
    """Nothing better was left out."""
    scores = vectors.astype(np.float64) @ query
    best = np.sort(scores if allowed is None else scores[allowed])[::-1][:count]
    np.testing.assert_allclose(found.scores, best, atol=1e-5)


def recall(index: VectorIndex, queries: Vector, count: int, allowed: Mask | None = None) -> float:
    """Of the best by brute force, the share that is found."""
    vectors = index.vectors.whole()
    qualified = np.arange(len(vectors)) if allowed is None else np.flatnonzero(allowed)
    shares = []
    for query in queries:
        scores = vectors[qualified] @ query
        best = qualified[np.argsort(-scores, kind="stable")[:count]]
        found = index.search(query, count, allowed).items
        shares.append(len(np.intersect1d(found, best)) / len(best))
    return float(np.mean(shares))
