"""Rows of tables that belong to items, users and tokens, taken over by whom they belong to."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offline.query_encoder.projection import fit_projection

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class Kept:
    """Which of today's things there were before; int64 [kept] each."""

    now: NDArray[np.int64]
    """Their places now, ascending."""
    before: NDArray[np.int64]
    """Their places then."""

    @classmethod
    def of(cls, now: Sequence[Hashable], before: Sequence[Hashable]) -> "Kept":
        """By their ids."""
        places = {name: place for place, name in enumerate(before)}
        pairs = [(place, places[name]) for place, name in enumerate(now) if name in places]
        array = np.array(pairs, dtype=np.int64).reshape(-1, 2)
        return cls(array[:, 0], array[:, 1])


def item_vectors(
    before: FloatArray, kept: Kept, content: FloatArray, interactions: NDArray[np.int64]
) -> FloatArray:
    """The vectors of today's items: those that there were, and new ones by their texts.

    A new item is placed as a serving catalog places one: by a linear map from texts to vectors,
    fitted to the items that there were. What training from nothing starts from would lie anywhere
    among vectors that have moved since.

    Args:
        before: float32 [items then, dimension], of unit norm.
        kept: which of today's items these are of.
        content: float32 [items, content dimension], the vectors of today's texts.
        interactions: int64 [items], how often each of today's items occurs in training.

    Returns:
        float32 [items, dimension], of unit norm.
    """
    vectors = np.empty((len(content), before.shape[1]), np.float32)
    known = before[kept.before]
    if len(kept.now) < len(content):
        projection = fit_projection(content[kept.now], known, interactions[kept.now])
        vectors[:] = content @ projection[:-1] + projection[-1]
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True).clip(min=1e-9)
    vectors[kept.now] = known
    return vectors


def set_means(rows: FloatArray, now: NDArray[np.integer], said: FloatArray) -> None:
    """Gives rows the mean of all that is said about each; the others stay as they are.

    Args:
        rows: float32 [rows, dimension], changed in place.
        now: [said] a row, as often as something is said about it.
        said: float32 [said, dimension] what is.
    """
    sums = np.zeros(rows.shape)
    np.add.at(sums, now, said)
    counts = np.bincount(now, minlength=len(rows))
    some = counts > 0
    rows[some] = sums[some] / counts[some, None]
