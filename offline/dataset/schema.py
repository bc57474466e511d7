"""The interaction data that every offline stage starts from.

A `Dataset` is a catalog and, per user, a sequence of item indices, oldest first. Users and items
are numbered by the order of their ids, numbers before words and by value (`"9" < "10" < "a"`), so
that the numbering depends on nothing but the ids.

It is split by leave-one-out (`offline.dataset.split`); `Dataset.held_back` is for data with long
histories, where several of the last interactions are tested.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from offline.dataset.reviews import Reviews
from offline.dataset.split import held_out, training_length

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from offline.dataset.split import Split

N = TypeVar("N", np.int64, np.float32)

OPTIONAL = ("weights", "ratings")
"""Arrays of a dataset that not all data have."""

__all__ = ["Dataset", "Holdout", "Item", "id_order"]


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
        users: `[n]` user indices, ascending; each as often as there are targets of that user.
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
        tested: How many of a user's last interactions are test targets, each given everything
            before it. One, the default, is leave-one-out. The interaction before them is the
            validation target, and a user who has none before that is for training as a whole.
        weights: `[interactions]` what each counts as something to learn; None where all count
            alike. Those who are tested on are not weighed.
        ratings: `[interactions]` how the user rated the item; None where the data have no ratings.
        reviews: What users wrote, by interaction; None where the data have no texts, and after
            `load`, since few need them: `Reviews.load` reads them.
    """

    name: str
    items: tuple[Item, ...]
    user_ids: tuple[str, ...]
    indptr: NDArray[np.int64]
    item_index: NDArray[np.int32]
    timestamps: NDArray[np.int64]
    tested: int = 1
    weights: NDArray[np.float32] | None = None
    ratings: NDArray[np.float32] | None = None
    reviews: Reviews | None = None

    def __post_init__(self) -> None:
        if self.tested < 1:
            raise ValueError(f"at least one interaction is tested, not {self.tested}")
        if len(self.indptr) != len(self.user_ids) + 1:
            raise ValueError(f"{len(self.indptr)} offsets for {len(self.user_ids)} users")
        if not len(self.item_index) == len(self.timestamps) == self.indptr[-1]:
            raise ValueError("item_index, timestamps and indptr disagree about the interactions")
        if self.weights is not None and len(self.weights) != len(self.item_index):
            raise ValueError("weights and item_index disagree about the interactions")
        if self.ratings is not None and len(self.ratings) != len(self.item_index):
            raise ValueError("ratings and item_index disagree about the interactions")
        if self.reviews is not None and len(self.reviews.texts) != len(self.item_index):
            raise ValueError("reviews and item_index disagree about the interactions")

    @property
    def item_ids(self) -> tuple[str, ...]:
        """The ids of the catalog, by item index."""
        return tuple(item.item_id for item in self.items)

    def history(self, user: int) -> NDArray[np.int32]:
        """All interactions of one user as item indices, oldest first."""
        return self.item_index[self.indptr[user] : self.indptr[user + 1]]

    def held_back(self, tested: int) -> Dataset:
        """The same data, with the last `tested` interactions of every user to test on."""
        return replace(self, tested=tested)

    def train(self) -> list[NDArray[np.int32]]:
        """Per user the part to learn from: all but the targets."""
        histories = [self.history(user) for user in range(len(self.user_ids))]
        return [history[: training_length(len(history), self.tested)] for history in histories]

    def popularity(self) -> NDArray[np.int64]:
        """`[items]` training interactions of every item."""
        return np.bincount(np.concatenate(self.train()), minlength=len(self.items))

    def train_times(self) -> list[NDArray[np.int64]]:
        """When each of `train`'s interactions was."""
        return self._of_train(self.timestamps)

    def train_weights(self) -> list[NDArray[np.float32]] | None:
        """What each of `train`'s interactions counts; None where all count alike."""
        return None if self.weights is None else self._of_train(self.weights)

    def _of_train(self, values: NDArray[N]) -> list[NDArray[N]]:
        parts = zip(self.indptr[:-1], self.train(), strict=True)
        return [values[start : start + len(part)] for start, part in parts]

    def holdout(self, split: Split) -> Holdout:
        """The users to evaluate, with the histories and the targets that `split` gives each."""
        asked = [
            (user, self.history(user), place)
            for user, place in held_out(np.diff(self.indptr).tolist(), split, self.tested)
        ]
        return Holdout(
            np.array([user for user, _, _ in asked], dtype=np.int32),
            [history[:place] for _, history, place in asked],
            np.array([history[place] for _, history, place in asked], dtype=np.int32),
        )

    def save(self, directory: Path) -> None:
        """Write the data as `.npy` and JSON files into `directory`, made if it is missing."""
        directory.mkdir(parents=True, exist_ok=True)
        with (directory / "items.jsonl").open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(asdict(i), ensure_ascii=False) + "\n" for i in self.items)
        header = {"name": self.name, "user_ids": self.user_ids, "tested": self.tested}
        (directory / "dataset.json").write_text(json.dumps(header), encoding="utf-8")
        for name in ("indptr", "item_index", "timestamps"):
            np.save(directory / f"{name}.npy", getattr(self, name), allow_pickle=False)
        for name in OPTIONAL:
            if (values := getattr(self, name)) is not None:
                np.save(directory / f"{name}.npy", values, allow_pickle=False)
        if self.reviews is not None:
            self.reviews.save(directory)

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
        for name in OPTIONAL:
            if (path := directory / f"{name}.npy").exists():
                arrays[name] = np.load(path, allow_pickle=False)
        return cls(
            name=header["name"],
            items=items,
            user_ids=tuple(header["user_ids"]),
            tested=header.get("tested", 1),  # what older builds left has no such entry
            **arrays,
        )


def _item(row: dict[str, object]) -> Item:
    attributes = row["attributes"]
    assert isinstance(attributes, dict)  # noqa: S101 - written by save
    return Item(
        item_id=str(row["item_id"]),
        title=str(row["title"]),
        text=str(row["text"]),
        attributes={name: tuple(values) for name, values in attributes.items()},
    )
