"""What the users in the data of a bundle did."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from core.catalog import ItemArray
from core.errors import BundleError

if TYPE_CHECKING:
    from core.bundle import Bundle


@dataclass(frozen=True)
class Histories:
    """What each known user interacted with, oldest first."""

    user_index: dict[str, int]
    indptr: NDArray[np.int64]
    items: ItemArray
    times: NDArray[np.int64] | None = None
    """When each of `items` was, in microseconds since 1970; None where the data gave an order and
    no times, and in bundles from before there were any."""
    ratings: NDArray[np.float32] | None = None
    """How each of `items` was rated; None where the model has not learned ratings."""

    def of(self, user_id: str) -> ItemArray | None:
        """The user's items as positions, or None for an unknown user."""
        part = self._part(user_id)
        return None if part is None else self.items[part]

    def times_of(self, user_id: str) -> NDArray[np.int64] | None:
        """When each of the user's items was; None for an unknown user, and without `times`."""
        part = self._part(user_id)
        return None if part is None or self.times is None else self.times[part]

    def ratings_of(self, user_id: str) -> NDArray[np.float32] | None:
        """How the user rated each item; None for an unknown user, and without `ratings`."""
        part = self._part(user_id)
        return None if part is None or self.ratings is None else self.ratings[part]

    def _part(self, user_id: str) -> slice | None:
        user = self.user_index.get(user_id)
        return None if user is None else slice(self.indptr[user], self.indptr[user + 1])


def read_histories(bundle: "Bundle") -> Histories:
    """Reads `users.json` and the arrays beside it.

    Raises:
        BundleError: they do not belong together, or name items that the catalog lacks.
    """
    users = _read_users(bundle.file("users.json"))
    indptr = bundle.array("histories_indptr", np.int64)
    items = bundle.array("histories_items", np.int32)
    ends = (0, len(items))
    if (
        len(indptr) != len(users) + 1
        or (indptr[0], indptr[-1]) != ends
        or (np.diff(indptr) < 0).any()
    ):
        raise BundleError("histories_indptr.npy does not divide the histories among the users")
    if len(items) and not (items.min() >= 0 and items.max() < bundle.manifest.items):
        raise BundleError("histories_items.npy names items that the catalog does not have")
    times, ratings = _read_times(bundle, indptr), None
    if "histories_ratings.npy" in bundle.manifest.files:
        ratings = bundle.array("histories_ratings", np.float32)
        if len(ratings) != len(items):
            raise BundleError("histories_ratings.npy does not rate the items of the histories")
    return Histories({user: i for i, user in enumerate(users)}, indptr, items, times, ratings)


def _read_users(file: Path) -> list[str]:
    try:
        users = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BundleError(f"{file} is not JSON: {error}") from error
    if not isinstance(users, list) or not all(isinstance(user, str) for user in users):
        raise BundleError(f"{file} is not a list of users")
    if len(set(users)) != len(users):
        raise BundleError(f"{file} names users twice")
    return users


def _read_times(bundle: "Bundle", indptr: NDArray[np.int64]) -> NDArray[np.int64] | None:
    if "histories_times.npy" not in bundle.manifest.files:
        return None
    times = bundle.array("histories_times", np.int64)
    users = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    if (
        len(times) != len(users)
        or (times < 0).any()
        or ((np.diff(times) < 0) & (np.diff(users) == 0)).any()
    ):
        raise BundleError("histories_times.npy does not say when the items of the histories were")
    return times
