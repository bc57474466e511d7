"""Codebooks: the vectors that semantic codes are made of.

A vector is written as a sum, one entry per level: the entry nearest to the vector, then the one
nearest to what the first leaves over, and so on. They outlive the training, so that an item which
appears later gets a code from its text alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["Codebooks", "NoFreeCodeError", "squared_distances"]


class NoFreeCodeError(ValueError):
    """Every code is taken."""


@dataclass(frozen=True)
class Codebooks:
    """The entries of every level.

    Attributes:
        entries: `[levels, values, dimensions]`.
    """

    entries: NDArray[np.float32]

    def nearest_free_code(
        self, vector: NDArray[np.floating], taken: NDArray[np.integer]
    ) -> NDArray[np.int32]:
        """Choose a code for an item that was not there when codes were assigned.

        Args:
            vector: `[dimensions]`, the item's embedding.
            taken: `[items, levels]`, the codes in use.

        Returns:
            `[levels]`: the first free code when each level prefers its nearest entries. Giving
            out several codes is deterministic in the order of the items; add each to `taken`.

        Raises:
            ValueError: The vector is not finite or has another dimension.
            NoFreeCodeError: Every code is taken.
        """
        if vector.shape != self.entries.shape[2:] or not np.isfinite(vector).all():
            raise ValueError(f"not a finite vector of {self.entries.shape[2]} dimensions")
        used = {tuple(code) for code in taken.tolist()}
        code = self._descend(np.asarray(vector, dtype=np.float64), (), used)
        if code is None:
            raise NoFreeCodeError(f"all {len(used):,} codes are taken: assign them anew")
        return np.array(code, dtype=np.int32)

    def _descend(
        self, residual: NDArray[np.float64], prefix: tuple[int, ...], used: set[tuple[int, ...]]
    ) -> tuple[int, ...] | None:
        """The first free code below `prefix`, nearest entries first."""
        if len(prefix) == len(self.entries):
            return None if prefix in used else prefix
        level = self.entries[len(prefix)]
        nearest_first = np.argsort(squared_distances(residual[None], level)[0], kind="stable")
        for value in nearest_first.tolist():
            code = self._descend(residual - level[value], (*prefix, value), used)
            if code is not None:
                return code
        return None

    def save(self, path: Path) -> None:
        """Write a `.npy` file."""
        np.save(path, self.entries, allow_pickle=False)

    @classmethod
    def load(cls, path: Path) -> Codebooks:
        """Read what `save` wrote."""
        return cls(np.load(path, allow_pickle=False))


def squared_distances(
    points: NDArray[np.floating], entries: NDArray[np.floating]
) -> NDArray[np.float64]:
    """`[points, entries]` squared Euclidean distances."""
    left, right = points.astype(np.float64), entries.astype(np.float64)
    distances: NDArray[np.float64] = -2.0 * left @ right.T
    distances += (left**2).sum(axis=1)[:, None]
    distances += (right**2).sum(axis=1)
    return distances
