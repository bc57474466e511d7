"""The interaction data that every offline stage starts from.

A `Dataset` is a catalog and, per user, a sequence of item indices, oldest first. Users and items
are numbered by the order of their ids, numbers before words and by value (`"9" < "10" < "a"`), so
that the numbering depends on nothing but the ids.

Split, leave-one-out: a user's last interaction is the test target, the last but one the
validation target, and what comes before is training. A user with fewer than three interactions
is never evaluated and is training as a whole.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["Dataset", "Holdout", "Item", "Split", "id_order"]

Split = Literal["validation", "test"]

EVALUATED_FROM = 3  # interactions: one to learn from, one to choose by, one to test on


def id_order(identifier: str) -> tuple[int, int, str]:
    """The sort key of users and items: whole numbers by value, then all other ids as text."""
    if identifier.isascii() and identifier.isdigit():
        return 0, int(identifier), identifier
    return 1, 0, identifier


@dataclass(frozen=True)
class Item:
    """One row of the catalog.

    Attributes:
        item_id: The owner's own id.
        title: What people are shown, e.g. `"The Matrix (1999)"`.
        text: What the text embedder reads, e.g. `"The Matrix (1999). Genres: Action, Sci-Fi."`.
        attributes: Values to filter by, e.g. `{"genre": ("Action",), "year": (1999.0,)}`; within
            one attribute of one dataset they are all text or all numbers.
    """

    item_id: str
    title: str
    text: str
    attributes: Mapping[str, tuple[str | float, ...]]


@dataclass(frozen=True)
class Holdout:
    """What one split asks: given `histories[i]`, rank `targets[i]` high.

    Attributes:
        users: `[n]` user indices, ascending.
        histories: `n` arrays of item indices, all that precedes the target, oldest first.
        targets: `[n]` item indices.
    """

    users: NDArray[np.int32]
    histories: list[NDArray[np.int32]]
    targets: NDArray[np.int32]


@dataclass(frozen=True)
class Dataset:
    """A catalog and the sequences of its users.

    Attributes:
        name: Names the data in reports, e.g. `"ml-100k"`.
        items: The catalog; the position is the item index used everywhere.
        user_ids: The position is the user index.
        indptr: `[users + 1]`; user `u` owns the interactions `indptr[u]` to `indptr[u + 1]`.
        item_index: `[interactions]` item indices, per user oldest first.
        timestamps: `[interactions]`, in the unit of the data's source.
    """

    name: str
    items: tuple[Item, ...]
    user_ids: tuple[str, ...]
    indptr: NDArray[np.int64]
    item_index: NDArray[np.int32]
    timestamps: NDArray[np.int64]

    def __post_init__(self) -> None:
        if len(self.indptr) != len(self.user_ids) + 1:
            raise ValueError(f"{len(self.indptr)} offsets for {len(self.user_ids)} users")
        if not len(self.item_index) == len(self.timestamps) == self.indptr[-1]:
            raise ValueError("item_index, timestamps and indptr disagree about the interactions")

    @property
    def item_ids(self) -> tuple[str, ...]:
        """The ids of the catalog, by item index."""
        return tuple(item.item_id for item in self.items)

    def history(self, user: int) -> NDArray[np.int32]:
        """All interactions of one user as item indices, oldest first."""
        return self.item_index[self.indptr[user] : self.indptr[user + 1]]

    def train(self) -> list[NDArray[np.int32]]:
        """Per user the part to learn from: all but the two targets."""
        histories = (self.history(user) for user in range(len(self.user_ids)))
        return [h[:-2] if len(h) >= EVALUATED_FROM else h for h in histories]

    def train_times(self) -> list[NDArray[np.int64]]:
        """When each of `train`'s interactions was."""
        starts = self.indptr[:-1]
        parts = zip(starts, self.train(), strict=True)
        return [self.timestamps[start : start + len(part)] for start, part in parts]

    def holdout(self, split: Split) -> Holdout:
        """The users to evaluate, with the history and the target that `split` gives each."""
        back = {"validation": 2, "test": 1}[split]
        users = np.flatnonzero(np.diff(self.indptr) >= EVALUATED_FROM).astype(np.int32)
        sequences = [self.history(int(user)) for user in users]
        targets = np.array([sequence[-back] for sequence in sequences], dtype=np.int32)
        return Holdout(users, [sequence[:-back] for sequence in sequences], targets)

    def save(self, directory: Path) -> None:
        """Write the data as `.npy` and JSON files into `directory`, made if it is missing."""
        directory.mkdir(parents=True, exist_ok=True)
        with (directory / "items.jsonl").open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(asdict(i), ensure_ascii=False) + "\n" for i in self.items)
        header = {"name": self.name, "user_ids": self.user_ids}
        (directory / "dataset.json").write_text(json.dumps(header), encoding="utf-8")
        for name in ("indptr", "item_index", "timestamps"):
            np.save(directory / f"{name}.npy", getattr(self, name), allow_pickle=False)

    @classmethod
    def load(cls, directory: Path) -> Dataset:
        """Read what `save` wrote."""
        header = json.loads((directory / "dataset.json").read_text(encoding="utf-8"))
        with (directory / "items.jsonl").open(encoding="utf-8") as file:
            items = tuple(_item(json.loads(line)) for line in file)
        arrays = {
            name: np.load(directory / f"{name}.npy", allow_pickle=False)
            for name in ("indptr", "item_index", "timestamps")
        }
        return cls(name=header["name"], items=items, user_ids=tuple(header["user_ids"]), **arrays)


def _item(row: dict[str, object]) -> Item:
    attributes = row["attributes"]
    assert isinstance(attributes, dict)  # noqa: S101 - written by save
    return Item(
        item_id=str(row["item_id"]),
        title=str(row["title"]),
        text=str(row["text"]),
        attributes={name: tuple(values) for name, values in attributes.items()},
    )
