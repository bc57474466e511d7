"""The user's own logs: a table of interactions, and one of items, become a `Dataset`.

What can be misread is an error that names file, row and column. What can be set right without
guessing is done, counted and reported:

- the same interaction twice (user, item and timestamp equal) counts once; the same item at
  different times is kept, as it happened;
- an item listed twice with the same cells counts once (with different cells it is an error);
- an item without text goes by its id, and so does every item where there is no item table;
- an interaction with an item that is not in the item table is left out, and so is one rated
  below `min_rating`;
- users and items outside the k-core are left out.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from offline.dataset.encoding import UTF8
from offline.dataset.errors import DataError, DataWarning
from offline.dataset.generated import GENERATED_BY, GENERATED_TEXT, generated_cells
from offline.dataset.prepare import prepare, without_users
from offline.dataset.reviews import clean
from offline.dataset.schema import Dataset, Item
from offline.dataset.table import Table, read_table
from offline.dataset.timestamps import read_timestamps

if TYPE_CHECKING:
    from collections.abc import Container, Mapping
    from pathlib import Path

__all__ = ["LogsConfig", "LogsReport", "load_logs", "read_items", "read_logs"]


@dataclass(frozen=True)
class LogsConfig:
    r"""Where the logs are and what their columns are called.

    Attributes:
        interactions: CSV or JSON lines (also gzipped) or Parquet, one row per interaction.
        items: The same, one row per item; None where only their ids are known.
        name: Names the data in reports.
        user_column: Whose interaction it is.
        item_column: With which item.
        timestamp_column: When: numbers in any unit (a position will do), or ISO 8601 dates.
        rating_column: How the user rated the item, a number: the generator learns to predict it.
        min_rating: Leave out interactions rated lower.
        item_id_column: The id in the item table.
        text_columns: What describes an item; the first is its title.
        attribute_columns: What requests may filter by. A column is a number where all its cells
            are; a cell may hold several values.
        separator: Between the cells of a CSV file; told from the file by default.
        encoding: Of CSV files, by a name that Python knows.
        value_separator: Between the values of one attribute's cell.
        min_core: The `k` of the iterative k-core.
        type_column: What kind of event an interaction is; read only for `event_weights`.
        event_weights: What an interaction counts by its type; those of no type that is named, or
            of one that counts 0, are left out. Without any all interactions count alike.
        review_column: What the user wrote of the item.
        summary_column: How the user put it in a line.
    """

    interactions: Path
    items: Path | None
    name: str = "logs"
    user_column: str = "user_id"
    item_column: str = "item_id"
    timestamp_column: str = "timestamp"
    rating_column: str | None = None
    min_rating: float | None = None
    item_id_column: str = "item_id"
    text_columns: tuple[str, ...] = ("text",)
    attribute_columns: tuple[str, ...] = ()
    separator: str | None = None
    encoding: str = UTF8
    value_separator: str = "|"
    min_core: int = 5
    type_column: str = "type"
    event_weights: tuple[tuple[str, float], ...] = ()
    review_column: str | None = None
    summary_column: str | None = None

    @property
    def written(self) -> dict[str, str]:
        """The columns of texts, by what a dataset calls them."""
        named = {"review": self.review_column, "summary": self.summary_column}
        return {name: column for name, column in named.items() if column is not None}

    def __post_init__(self) -> None:
        if not self.text_columns:
            raise DataError("name at least one text column: embeddings are made from it")
        if self.min_rating is not None and self.rating_column is None:
            raise DataError("a minimum rating needs the name of the rating column")


@dataclass(frozen=True)
class LogsReport:
    """What was read and what became of it.

    Attributes:
        rows: Interactions in the file.
        users: Users in the dataset.
        items: Items in the dataset.
        interactions: Interactions in the dataset.
        notices: What was set right or left out, each with its count, for people.
    """

    rows: int
    users: int
    items: int
    interactions: int
    notices: tuple[str, ...]


def load_logs(
    config: LogsConfig,
    extra: Mapping[str, Item] | None = None,
    left_out: Container[str] = (),
) -> Dataset:
    """Read the logs; what was set right or left out becomes a `DataWarning`.

    Args:
        config: Where they are.
        extra: Items by id beside those of the item table, and in their place where both have one.
        left_out: Ids of users whose interactions do not count.

    Raises:
        DataError: Something cannot be read; the message names file, row and column.
    """
    dataset, report = read_logs(config, extra, left_out)
    for notice in report.notices:
        warnings.warn(notice, DataWarning, stacklevel=2)
    return dataset


def read_logs(
    config: LogsConfig,
    extra: Mapping[str, Item] | None = None,
    left_out: Container[str] = (),
) -> tuple[Dataset, LogsReport]:
    """Read the logs and report on them; `load_logs` says what the arguments are."""
    notices: list[str] = []
    interactions = _read_interactions(config, notices)
    catalog = {**_catalog(config, interactions, notices), **(extra or {})}
    rows = interactions.height
    interactions = without_users(interactions, left_out)
    if interactions.height < rows:
        gone = _count(rows - interactions.height, "interaction")
        notices.append(f"{gone} left out, of deleted users")
    interactions = _clean(interactions, catalog, config, notices)
    dataset = prepare(config.name, interactions.drop("row"), catalog, config.min_core)
    outside = interactions.height - len(dataset.item_index)
    if outside:
        notices.append(
            f"{_count(outside, 'interaction')} left out, of users or items with fewer than "
            f"{config.min_core}"
        )
    counts = len(dataset.user_ids), len(dataset.items), len(dataset.item_index)
    return dataset, LogsReport(rows, *counts, notices=tuple(notices))


def _read_interactions(config: LogsConfig, notices: list[str]) -> pl.DataFrame:
    """Columns `user`, `item`, `timestamp`, `row` (as people count) and perhaps `rating`."""
    columns = [config.user_column, config.item_column, config.timestamp_column]
    if config.rating_column is not None:
        columns.append(config.rating_column)
    if config.event_weights:
        columns.append(config.type_column)
    columns += config.written.values()
    table = read_table(config.interactions, columns, config.separator, config.encoding)
    if not config.event_weights and {"type", "recommendation_id"} <= set(table.header):
        raise DataError.at(
            "these are exported events, impressions among them perhaps: name the types that count, "
            "such as --event-weights interaction=1,click=1,purchase=3",
            file=config.interactions,
        )
    frame = pl.DataFrame(
        {
            "user": table.ids(config.user_column),
            "item": table.ids(config.item_column),
            "timestamp": read_timestamps(table, config.timestamp_column, notices),
            "row": pl.int_range(table.first_row, table.first_row + table.frame.height, eager=True),
        }
    )
    if config.rating_column is not None:
        frame = frame.with_columns(rating=_numbers(table, config.rating_column))
    if config.event_weights:
        kinds = table.frame[config.type_column].cast(pl.String)
        weights = kinds.replace_strict(dict(config.event_weights), default=0.0)
        frame = frame.with_columns(weight=weights.cast(pl.Float32))
    for name, column in config.written.items():
        texts = [clean(text) for text in table.frame[column].cast(pl.String)]
        frame = frame.with_columns(pl.Series(name, texts, dtype=pl.String))
    return frame


def _clean(
    frame: pl.DataFrame, catalog: dict[str, Item], config: LogsConfig, notices: list[str]
) -> pl.DataFrame:
    """Leave out types, duplicates, low ratings and unknown items, in this order; count them."""

    def keep(kept: pl.DataFrame, what: str, before: pl.DataFrame) -> pl.DataFrame:
        if lost := before.height - kept.height:
            first = before.join(kept, on="row", how="anti").row(0, named=True)
            example = f"the first is row {first['row']:,}: {first['user']!r}, {first['item']!r}"
            notices.append(f"{_count(lost, 'interaction')} {what}; {example}")
        return kept

    if config.event_weights:
        frame = keep(frame.filter(pl.col("weight") > 0), "of types that count nothing", frame)
    same = ["user", "item", "timestamp"]
    frame = keep(frame.unique(same, keep="first", maintain_order=True), "given twice", frame)
    if config.min_rating is not None:
        rated = frame.filter(pl.col("rating") >= config.min_rating)
        frame = keep(rated, f"rated below {config.min_rating:g}", frame)
    known = frame.filter(pl.col("item").is_in(list(catalog)))
    if known.is_empty() and not frame.is_empty():
        raise DataError(
            f"no item of {config.interactions}, column {config.item_column!r}, is in "
            f"{config.items}, column {config.item_id_column!r}: are these the right columns? "
            f"{frame['item'][0]!r} is one, {next(iter(catalog))!r} the other"
        )
    return keep(known, f"left out, of items that {config.items} does not list", frame)


def _catalog(config: LogsConfig, interactions: pl.DataFrame, notices: list[str]) -> dict[str, Item]:
    if config.items is not None:
        return read_items(config, config.items, notices)
    return {item_id: Item(item_id, item_id, item_id, {}) for item_id in interactions["item"]}


def read_items(config: LogsConfig, path: Path, notices: list[str]) -> dict[str, Item]:
    """Read an item table, with the text that `tandem enrich` added to it; by item id."""
    columns = [config.item_id_column, *config.text_columns, *config.attribute_columns]
    marked = (GENERATED_TEXT, GENERATED_BY)
    table = read_table(path, columns, config.separator, config.encoding, optional=marked)
    ids = table.ids(config.item_id_column).alias("id")
    texts = [_texts(table, column) for column in config.text_columns]
    attributes = {
        column: _attribute(table, column, config.value_separator)
        for column in config.attribute_columns
    }
    generated = generated_cells(table)
    catalog: dict[str, Item] = {}
    twice = bare = 0
    for index, item_id in enumerate(ids):
        parts = [column[index] for column in texts if column[index]]
        bare += not parts
        title, text = (parts[0], ". ".join(parts)) if parts else (item_id, item_id)
        values = {name: column[index] for name, column in attributes.items()}
        item = Item(item_id, title, text, values)
        if (written := generated[index]) is not None:
            item = written.added_to(item)
        known = catalog.setdefault(item_id, item)
        if known != item:
            problem = f"{item_id!r} stands in an earlier row with other text or attributes"
            raise table.error(problem, index, config.item_id_column)
        twice += known is not item
    if twice:
        notices.append(f"{_count(twice, 'item')} of {path} given twice")
    if bare:
        notices.append(f"{_count(bare, 'item')} of {path} without text, named by the id")
    return catalog


def _texts(table: Table, column: str) -> list[str]:
    cells = table.frame[column].cast(pl.String).fill_null("")
    return [" ".join(cell.split()) for cell in cells]


def _attribute(table: Table, column: str, separator: str) -> list[tuple[str | float, ...]]:
    cells = table.frame[column]
    if isinstance(cells.dtype, pl.List):
        values = cells.cast(pl.List(pl.String))
    else:
        values = cells.cast(pl.String).str.split(separator)
    rows = [tuple(v.strip() for v in row or () if v and v.strip()) for row in values.to_list()]
    flat = pl.Series([value for row in rows for value in row], dtype=pl.String)
    if flat.cast(pl.Float64, strict=False).is_finite().fill_null(value=False).all():
        return [tuple(float(value) for value in row) for row in rows]
    return [tuple(row) for row in rows]


def _numbers(table: Table, column: str) -> pl.Series:
    numbers = table.frame[column].cast(pl.Float64, strict=False)
    table.require(column, numbers.is_finite(), "{} is not a number")
    return numbers


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("s" if number != 1 else "")
