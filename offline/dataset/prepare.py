"""From a table of interactions to a `Dataset`: k-core, numbering, order.

Every rating counts as an interaction, whatever its value. The sort by time is stable: equal
timestamps keep the order of the file. 44% of ML-100K's users have a tie at the very end of their
history, so an unstable sort would change the test set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from offline.dataset.errors import DataError
from offline.dataset.reviews import Reviews
from offline.dataset.schema import Dataset, Item, id_order

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from numpy.typing import NDArray

__all__ = ["k_core", "prepare", "without_users"]


def without_users(interactions: pl.DataFrame, left_out: Container[str]) -> pl.DataFrame:
    """Leave out users.

    Args:
        interactions: Column `user`, among others.
        left_out: Their ids.
    """
    users = interactions["user"].unique()
    gone = [user for user in users if user in left_out]
    return interactions.filter(~pl.col("user").is_in(gone)) if gone else interactions


def k_core(interactions: pl.DataFrame, k: int) -> pl.DataFrame:
    """Leave out users and items with fewer than `k` interactions until none is left.

    Args:
        interactions: Columns `user` and `item`, among others.
        k: The least number of rows per user and per item; 0 and 1 keep everything.

    Returns:
        The largest subset in which every user and every item has `k` rows, in the given order.
    """
    while True:
        kept = interactions.filter((pl.len().over("user") >= k) & (pl.len().over("item") >= k))
        if kept.height == interactions.height:
            return kept
        interactions = kept


def prepare(
    name: str, interactions: pl.DataFrame, catalog: Mapping[str, Item], min_core: int = 5
) -> Dataset:
    """Filter, number and sort the interactions.

    Args:
        name: Names the data in reports.
        interactions: Columns `user` and `item` (text) and `timestamp` (a number), in file order;
            perhaps `weight`, above 0, `rating`, and `review` and `summary`, clean texts.
        catalog: Every item of the interactions by its id; others are left out of the dataset.
        min_core: The `k` of the iterative k-core.

    Raises:
        DataError: No interaction survives the k-core.
    """
    kept = k_core(interactions, min_core)
    if kept.is_empty():
        raise DataError(
            f"{name}: none of {interactions.height:,} interactions is left when every user and "
            f"item must have {min_core}: use more data or a smaller minimum"
        )
    user_ids = sorted(kept["user"].unique(), key=id_order)
    item_ids = sorted(kept["item"].unique(), key=id_order)
    weighted = "weight" in kept.columns and kept["weight"].n_unique() > 1
    optional = ["weight"] * weighted + ["rating"] * ("rating" in kept.columns)
    ordered = kept.select(
        _number("user", user_ids),
        _number("item", item_ids),
        "timestamp",
        *optional,
        *_texts(kept),
    ).sort("user", "timestamp", maintain_order=True)
    counts = np.bincount(ordered["user"].to_numpy(), minlength=len(user_ids))
    return Dataset(
        name=name,
        items=tuple(catalog[item_id] for item_id in item_ids),
        user_ids=tuple(user_ids),
        indptr=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        item_index=ordered["item"].to_numpy().astype(np.int32),
        timestamps=ordered["timestamp"].cast(pl.Int64).to_numpy().astype(np.int64),
        weights=_numbers(ordered, "weight"),
        ratings=_numbers(ordered, "rating"),
        reviews=_reviews(ordered),
    )


def _numbers(frame: pl.DataFrame, column: str) -> NDArray[np.float32] | None:
    return frame[column].to_numpy().astype(np.float32) if column in frame.columns else None


def _texts(frame: pl.DataFrame) -> list[str]:
    return [name for name in ("review", "summary") if name in frame.columns]


def _reviews(ordered: pl.DataFrame) -> Reviews | None:
    if not _texts(ordered):
        return None
    nothing = [""] * ordered.height
    written = {name: ordered[name].to_list() for name in _texts(ordered)}
    return Reviews(tuple(written.get("review", nothing)), tuple(written.get("summary", nothing)))


def _number(column: str, ids: list[str]) -> pl.Expr:
    positions = pl.Series(range(len(ids)), dtype=pl.Int32)
    return pl.col(column).replace_strict(pl.Series(ids, dtype=pl.String), positions)
