"""What is near to a vector: by cosine, above a threshold, and as diverse as it is wanted."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from core.catalog import ItemArray, Mask
from core.errors import InvalidArgument
from core.mmr import most_marginal
from services.candidate.index.flat import Neighbors, Vector
from services.candidate.index.space import Space, SpaceName

DIVERSITY_POOL: Final = 4
"""Nearest items to choose each diverse one from."""
MAX_DIVERSITY_POOL: Final = 1_000
FEW: Final = 64
"""Items to leave out up to which so many more are found instead."""


@dataclass(frozen=True)
class SimilarityOptions:
    """Which of the items that are near are wanted."""

    min_score: float = -np.inf
    """The least cosine."""
    diversity: float = 0.0
    """From 0, the nearest items, to 1, items as unlike each other as possible."""


NEAREST: Final = SimilarityOptions()


def nearest(
    space: Space,
    query: NDArray[np.float64],
    count: int,
    allowed: Mask | None,
    left_out: ItemArray,
    options: SimilarityOptions,
) -> Neighbors:
    """The items of a space that are nearest to a query, of any length, by cosine.

    Args:
        space: which vectors to compare.
        query: float64 [dimension].
        count: how many items; there are fewer only where fewer qualify.
        allowed: bool [items], or None for all.
        left_out: items to leave out beside those that are not allowed.
        options: which of the nearest are wanted.
    """
    pool = count
    if options.diversity:
        pool = max(count, min(DIVERSITY_POOL * count, MAX_DIVERSITY_POOL))
    near = _search(space, unit(query), pool, allowed, left_out)
    if options.min_score > -1.0:
        near = near.picked(near.scores >= options.min_score)
    if options.diversity:
        vectors = space.take(near.items)
        # All at once: row by row takes twice as long, or four times where all are chosen.
        likeness = vectors @ vectors.T
        chosen = most_marginal(near.scores, count, options.diversity, likeness.__getitem__)
        near = near.picked(chosen)
    return near


def _search(
    space: Space, query: Vector, count: int, allowed: Mask | None, left_out: ItemArray
) -> Neighbors:
    """Searches for what is not left out. A few are found and dropped: a mask is as long as the
    catalog."""
    if len(left_out) > FEW:
        return space.index.search(query, count, without(allowed, left_out, len(space.index)))
    near = space.index.search(query, count + len(left_out), allowed)
    if not len(left_out):
        return near
    dropped = set(left_out.tolist())
    kept = [place for place, item in enumerate(near.items.tolist()) if item not in dropped]
    return near.picked(np.array(kept[:count], np.int64))


def without(allowed: Mask | None, left_out: ItemArray, items: int) -> Mask | None:
    """A filter that some items do not pass either; bool [items], or None where all do."""
    if not len(left_out):
        return allowed
    mask = np.ones(items, np.bool_) if allowed is None else allowed.copy()
    mask[left_out] = False
    return mask


def unit(vector: NDArray[np.float64]) -> Vector:
    """A vector at length 1; zero stays zero.

    In double precision, where the square of no float32 but zero vanishes or overflows.
    """
    norm = math.sqrt(vector @ vector)
    return (vector / norm if norm else vector).astype(np.float32)


def check_vector(vector: Vector, dimension: int, space: SpaceName) -> None:
    """Checks a vector that a caller brings to a space.

    Raises:
        InvalidArgument: it has not the space's dimension, is zero, or is not finite.
    """
    if len(vector) != dimension:
        raise InvalidArgument(
            f"the vector has {len(vector)} numbers; the {space.value} space has {dimension}",
            reason="WRONG_DIMENSION",
            dimension=str(dimension),
        )
    if not np.isfinite(vector).all():
        raise InvalidArgument("the vector holds NaN or infinity", reason="NOT_FINITE")
    if not vector.any():
        raise InvalidArgument("the vector is zero: it has no direction", reason="ZERO_VECTOR")
