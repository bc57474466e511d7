"""What predicts ratings without a model: the mean, and how much a user and an item differ from it.

The biases are those of Koren (https://doi.org/10.1109/MC.2009.263), each shrunk towards 0 by so
many ratings that are as the mean, and fitted by turns until they hardly change.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SHRINKAGE: Final = 7.0
"""Ratings' worth of doubt about a user or an item."""
ROUNDS: Final = 20


@dataclass(frozen=True)
class UserItemBias:
    """The mean, and what a user and an item add to it.

    Attributes:
        mean: Of the ratings.
        of_user: `[users]`; 0 of who has not rated.
        of_item: `[items]`; 0 of what has not been rated.
    """

    mean: float
    of_user: Floats
    of_item: Floats

    @classmethod
    def fit(
        cls,
        users: NDArray[np.int64],
        items: NDArray[np.int64],
        ratings: Floats,
        *,
        shape: tuple[int, int],
    ) -> "UserItemBias":
        """Fits ratings.

        Args:
            users: `[ratings]` whose each is.
            items: `[ratings]` of what.
            ratings: `[ratings]`.
            shape: How many users and items there are.
        """
        mean = float(ratings.mean())
        of_user, of_item = np.zeros(shape[0]), np.zeros(shape[1])
        for _ in range(ROUNDS):
            of_item = _shrunk(items, ratings - mean - of_user[users], shape[1])
            of_user = _shrunk(users, ratings - mean - of_item[items], shape[0])
        return cls(mean, of_user, of_item)

    def predict(self, users: NDArray[np.int64], items: NDArray[np.int64]) -> Floats:
        """What users make of items, `[ratings]`."""
        predicted: Floats = self.mean + self.of_user[users] + self.of_item[items]
        return predicted


def _shrunk(ids: NDArray[np.int64], rest: Floats, count: int) -> Floats:
    sums = np.bincount(ids, rest, minlength=count)
    shrunk: Floats = sums / (SHRINKAGE + np.bincount(ids, minlength=count))
    return shrunk
