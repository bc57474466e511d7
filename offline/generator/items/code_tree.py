"""The codes of a catalog as tensors: who shares which prefix, for losses over whole levels.

Items stand in a grid with a row for each first token, so that the items below a node of the first
level are one row of it, and those below deeper nodes some columns of that row.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class CodeTree:
    """The codes of all items, which have the same length and no two of which are equal."""

    tokens: Tensor
    """int64 [items, levels] the codes as token ids."""
    columns: Tensor
    """int64 [items, levels] each token's place among those of its level."""
    vocabulary: tuple[Tensor, ...]
    """For each level, its token ids, ascending."""
    grid: Tensor
    """int64 [groups, width] the items below each first token, in the order of their codes; items
    beyond a group's own are 0."""
    absent: Tensor
    """bool [groups, width] where the grid holds no item."""
    cell: Tensor
    """int64 [items] where each item stands in the grid, counted through its rows."""

    @classmethod
    def of(cls, codes: NDArray[np.int32]) -> "CodeTree":
        """Arranges the codes, [items, levels] token ids."""
        levels = [np.unique(column, return_inverse=True) for column in codes.T]
        columns = np.stack([place.ravel() for _, place in levels], axis=1)
        sizes = np.bincount(columns[:, 0])
        order = np.lexsort(codes.T[::-1])
        row = columns[order, 0]
        place = np.arange(len(order)) - (np.cumsum(sizes) - sizes)[row]
        grid = np.full((len(sizes), sizes.max()), -1, dtype=np.int64)
        grid[row, place] = order
        cell = np.empty(len(order), dtype=np.int64)
        cell[order] = row * grid.shape[1] + place
        return cls(
            tokens=torch.from_numpy(codes.astype(np.int64)),
            columns=torch.from_numpy(columns.astype(np.int64)),
            vocabulary=tuple(torch.from_numpy(tokens.astype(np.int64)) for tokens, _ in levels),
            grid=torch.from_numpy(grid).clamp(min=0),
            absent=torch.from_numpy(grid < 0),
            cell=torch.from_numpy(cell),
        )

    def to(self, device: torch.device) -> "CodeTree":
        """The same on a device."""
        return CodeTree(
            tokens=self.tokens.to(device),
            columns=self.columns.to(device),
            vocabulary=tuple(tokens.to(device) for tokens in self.vocabulary),
            grid=self.grid.to(device),
            absent=self.absent.to(device),
            cell=self.cell.to(device),
        )

    @property
    def levels(self) -> int:
        """The length of the codes."""
        return self.tokens.shape[1]

    @property
    def items(self) -> int:
        """The number of codes."""
        return len(self.tokens)
