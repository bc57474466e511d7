"""Item transitions: what people went on to after the items of a history.

A first-order Markov model over items, widened to the newest `window` items of a history, each
step back weighing `decay` times less. It knows nothing of content, and complements an encoder.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from core.bundle import Bundle
from core.catalog import ItemArray
from core.errors import BundleError

SMOOTHING = 0.1
"""The share of probability that is spread evenly, so that no item is impossible."""

DENSE: Final = 64
"""Positions for each item to add up, up to which going through all is quicker than sorting."""


@dataclass(frozen=True)
class Transitions:
    """Weighted successors of every item, as a sparse matrix in CSR layout.

    Attributes:
        indptr: int64 [items + 1].
        items: int32 [pairs], the successors of item i at `indptr[i]:indptr[i + 1]`.
        weights: float32 [pairs], positive; a row that sums to more counts for more.
        window: newest items of a history that count.
        decay: weight of a history item, per step that it lies back.
        rows: int32 [positions], the row of each item, which may have moved since the table was
            counted; -1 for one that came later, as beyond the end. None while nothing has moved.
        places: int32 [items], the other way round: where the item of each row is now.
    """

    indptr: NDArray[np.int64]
    items: ItemArray
    weights: NDArray[np.float32]
    window: int
    decay: float
    rows: ItemArray | None = None
    places: ItemArray | None = None

    @classmethod
    def read(cls, bundle: Bundle) -> "Transitions":
        """Reads the three arrays of a bundle.

        Raises:
            BundleError: they are not a matrix over the bundle's catalog.
        """
        section = bundle.manifest.candidate
        table = cls(
            indptr=np.asarray(bundle.array("transitions_indptr", np.int64)),
            items=np.asarray(bundle.array("transitions_items", np.int32)),
            weights=np.asarray(bundle.array("transitions_weights", np.float32)),
            window=section.transition_window,
            decay=section.transition_decay,
        )
        if len(table) != bundle.manifest.items or table.indptr[-1] != len(table.items):
            raise BundleError("the transitions are not those of the catalog")
        return table

    def __len__(self) -> int:
        return len(self.indptr) - 1

    @property
    def floor(self) -> float:
        """The smoothed log-probability of an item that a history does not lead to."""
        return float(np.log(SMOOTHING / len(self)))

    def after(self, history: ItemArray) -> tuple[ItemArray, NDArray[np.float64]]:
        """The items that the history leads to, ascending, and the probability of each.

        Of item j that is `sum over s of decay**s * weights[history[-1 - s], j]`, over the newest
        `window` items of the history, scaled to sum to 1. Without any successor both are empty.
        Items that came after the table was counted have none.
        """
        rows, weights = [], []
        newest = self._rows_of(history[: -self.window - 1 : -1])
        for steps_back, at in enumerate(newest.tolist()):
            if at < 0:
                continue
            row = slice(self.indptr[at], self.indptr[at + 1])
            items = self.items[row]
            rows.append(items if self.places is None else self.places[items])
            weights.append(self.weights[row] * np.float64(self.decay**steps_back))
        if not sum(map(len, rows)):
            return np.empty(0, np.int32), np.empty(0, np.float64)
        reached, mass = _added_up(np.concatenate(rows), np.concatenate(weights))
        return reached, mass / mass.sum()

    def extended(self, start: int, before: ItemArray) -> "Transitions":
        """The next version: items move to the end, where others come in as well.

        Args:
            start: positions so far.
            before: int32 [added], the position that each had so far; -1 for one that is new.
        """
        moved = np.flatnonzero(before >= 0)
        if not len(moved):
            return self
        places = np.arange(len(self), dtype=np.int32) if self.places is None else self.places.copy()
        rows = np.full(start + len(before), -1, np.int32)
        rows[:start] = self._rows_of(np.arange(start, dtype=np.int32))
        rows[start + moved] = rows[before[moved]]
        known = start + moved[rows[start + moved] >= 0]
        places[rows[known]] = known
        return replace(self, rows=rows, places=places)

    def compacted(self, kept: ItemArray) -> "Transitions":
        """The next version: of the positions some are kept, int32 [kept], ascending, the table's
        own first; they move together.

        A row whose item is not there any more leads to the position that it was counted for, which
        belongs to nothing else.
        """
        if self.rows is None or self.places is None:
            return self
        moved = np.full(max(int(kept.max()), int(self.places.max())) + 1, -1, np.int32)
        moved[kept] = np.arange(len(kept), dtype=np.int32)
        places = moved[self.places]
        gone = np.flatnonzero(places < 0)
        places[gone] = gone
        return replace(self, rows=self._rows_of(kept), places=places)

    def _rows_of(self, items: ItemArray) -> ItemArray:
        """The rows of items, -1 for those that have none."""
        rows = np.full(len(items), -1, np.int32)
        if self.rows is None:
            known = items < len(self)
            rows[known] = items[known]
        else:
            known = items < len(self.rows)
            rows[known] = self.rows[items[known]]
        return rows

    def log_probability(
        self, items: ItemArray, reached: ItemArray, probability: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Smoothed log-probabilities of `items`, given what `after` returned. Shape of `items`."""
        smoothed: NDArray[np.float64] = np.full(len(items), SMOOTHING / len(self))
        if len(reached):
            place = np.minimum(np.searchsorted(reached, items), len(reached) - 1)
            hit = reached[place] == items
            smoothed[hit] += (1.0 - SMOOTHING) * probability[place[hit]]
        logarithms: NDArray[np.float64] = np.log(smoothed)
        return logarithms


def _added_up(
    items: ItemArray, weights: NDArray[np.float64]
) -> tuple[ItemArray, NDArray[np.float64]]:
    """Each item once, ascending, with the sum of its weights, which are positive."""
    if items.max() < DENSE * len(items):
        mass = np.bincount(items, weights).astype(np.float64, copy=False)
        reached = np.flatnonzero(mass).astype(np.int32)
        return reached, mass[reached]
    reached, place = np.unique(items, return_inverse=True)
    return reached, np.bincount(place, weights).astype(np.float64, copy=False)
