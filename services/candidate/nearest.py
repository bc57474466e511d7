"""What is near to a vector: by cosine, above a threshold, and as diverse as it is wanted."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from runtime.catalog import Mask
from runtime.errors import InvalidRequest
from services.candidate.diversity import most_marginal
from services.candidate.index import Neighbors, Vector
from services.candidate.space import Space, SpaceName

DIVERSITY_POOL: Final = 4
"""Nearest items to choose each diverse one from."""
MAX_DIVERSITY_POOL: Final = 1_000


@dataclass(frozen=True)
class Taste:
    """Which of the items that are near are wanted."""

    min_score: float = -np.inf
    """The least cosine."""
    diversity: float = 0.0
    """From 0, the nearest items, to 1, items as unlike each other as possible."""


NEAREST: Final = Taste()


def nearest(
    space: Space, query: NDArray[np.float64], count: int, allowed: Mask | None, taste: Taste
) -> Neighbors:
    """The items of a space that are nearest to a query, of any length, by cosine.

    Args:
        space: which vectors to compare.
        query: float64 [dimension].
        count: how many items; there are fewer only where fewer qualify.
        allowed: bool [items], or None for all.
        taste: which of the nearest are wanted.
    """
    pool = count
    if taste.diversity:
        pool = max(count, min(DIVERSITY_POOL * count, MAX_DIVERSITY_POOL))
    near = space.index.search(unit(query), pool, allowed)
    if taste.min_score > -1.0:
        near = near.picked(near.scores >= taste.min_score)
    if taste.diversity:
        vectors = space.take(near.items)
        near = near.picked(most_marginal(near.scores, vectors, count, taste.diversity))
    return near


def unit(vector: NDArray[np.float64]) -> Vector:
    """A vector at length 1; zero stays zero.

    In double precision, where the square of no float32 but zero vanishes or overflows.
    """
    norm = np.linalg.norm(vector)
    return (vector / norm if norm else vector).astype(np.float32)


def check_vector(vector: Vector, dimension: int, space: SpaceName) -> None:
    """Checks a vector that a caller brings to a space.

    Raises:
        InvalidRequest: it has not the space's dimension, is zero, or is not finite.
    """
    if len(vector) != dimension:
        raise InvalidRequest(
            f"the vector has {len(vector)} numbers; the {space.value} space has {dimension}",
            reason="WRONG_DIMENSION",
            dimension=str(dimension),
        )
    if not np.isfinite(vector).all():
        raise InvalidRequest("the vector holds NaN or infinity", reason="NOT_FINITE")
    if not vector.any():
        raise InvalidRequest("the vector is zero: it has no direction", reason="ZERO_VECTOR")
