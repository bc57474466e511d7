"""Which items are asked about, and the table that comes out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from offline.dataset import Dataset, Item, LogsConfig
from offline.dataset.errors import DataError
from offline.dataset.generated import GENERATED_BY, GENERATED_TEXT
from offline.dataset.logs import read_items
from offline.dataset.table import read_table
from offline.enrich.cache import Stored
from serving.files.replacing import replacing

STATUS: Final = "generated_status"
COLUMNS: Final = (
    GENERATED_TEXT,
    "generated_description",
    "generated_genre_words",
    "generated_audience",
    GENERATED_BY,
    STATUS,
)
"""What is added to an item table."""
SUFFIXES: Final = (".parquet", ".csv")
_BETWEEN: Final = "|"


@dataclass(frozen=True)
class ItemTable:
    """Items, and the table that they are from.

    Attributes:
        frame: All columns, a row an item, in order.
        ids: Of its rows.
        items: By id, as a build reads them.
    """

    frame: pl.DataFrame
    ids: Sequence[str]
    items: Mapping[str, Item]

    @classmethod
    def of_logs(cls, config: LogsConfig) -> "ItemTable":
        """One's own table; what an earlier run added to it is left out."""
        if config.items is None:
            raise DataError("there are no items to fill in: name their file with --items")
        items = read_items(config, config.items, [])
        header = read_table(
            config.items, [config.item_id_column], config.separator, config.encoding
        ).header
        own = [name for name in header if name not in COLUMNS]
        table = read_table(config.items, own, config.separator, config.encoding)
        bare = {item_id: _as_owned(item) for item_id, item in items.items()}
        return cls(table.frame, table.ids(config.item_id_column).to_list(), bare)

    @classmethod
    def of_dataset(cls, data: Dataset) -> "ItemTable":
        """The catalog of a data set that has no such table."""
        rows = [
            {"item_id": item.item_id, "title": item.title, "text": item.text}
            | {name: _BETWEEN.join(map(str, values)) for name, values in item.attributes.items()}
            for item in data.items
        ]
        return cls(pl.DataFrame(rows), data.item_ids, {item.item_id: item for item in data.items})

    def chosen(self, ids: Sequence[str], *, max_words: int | None, sample: int) -> list[Item]:
        """The items to ask about, in order; not those that have no text but their id.

        Args:
            ids: of which; others are not asked about.
            max_words: only items whose text has at most so many words; None for all.
            sample: so many of them at most, picked at random by a fixed seed; 0 for all.
        """
        thin = [
            item
            for item in (self.items[item_id] for item_id in ids)
            if item.text != item.item_id
            and (max_words is None or len(item.text.split()) <= max_words)
        ]
        if not sample or sample >= len(thin):
            return thin
        # The first of one permutation, so that a larger sample holds the smaller ones.
        picked = np.random.default_rng(0).permutation(len(thin))[:sample]
        return [thin[at] for at in sorted(picked.tolist())]

    def written(self, path: Path, answers: Mapping[str, Stored], model: str) -> None:
        """Writes the table with what was answered, whole or not at all.

        Args:
            path: a file whose name ends in one of `SUFFIXES`.
            answers: of the items that were asked about, by id; None as an answer is one that
                failed.
            model: who answered.
        """
        rows = [_row(answers.get(item_id), model) for item_id in self.ids]
        added = pl.DataFrame(rows, schema=dict.fromkeys(COLUMNS, pl.String), orient="row")
        frame = pl.concat([self.frame, added], how="horizontal")
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            if path.suffix == ".parquet":
                frame.write_parquet(temporary)
            else:
                frame.write_csv(temporary)


def check_output(path: Path) -> None:
    """Looks at the name of a file before anything is asked and paid for.

    Raises:
        DataError: it is not one that can be written.
    """
    if path.suffix not in SUFFIXES:
        raise DataError.at(f"name a file that ends in {' or '.join(SUFFIXES)}", file=path)


def _as_owned(item: Item) -> Item:
    """An item without what an earlier run added."""
    attributes = {k: v for k, v in item.attributes.items() if k != GENERATED_TEXT}
    return Item(item.item_id, item.title, item.text.partition("\n")[0], attributes)


def _row(stored: Stored | None, model: str) -> tuple[str | None, ...]:
    if stored is None:
        return (None,) * len(COLUMNS)
    answer = stored.answer
    if answer is None:
        return (*(None,) * (len(COLUMNS) - 1), "failed")
    words = _BETWEEN.join(word.replace(_BETWEEN, " ") for word in answer.genre_words)
    return (answer.text, answer.description, words, answer.audience, model, "generated")
