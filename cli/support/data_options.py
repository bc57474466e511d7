"""The options that say what data a command is about: MovieLens, or logs of one's own."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from offline.build.source import Filterable, LogsSource, MovieLensSource
from offline.dataset import LogsConfig
from offline.events.weights import read_weights


@dataclass(frozen=True)
class ColumnOptions:
    """How one's own logs are read."""

    user_column: Annotated[str, typer.Option(help="The column of the user.")] = "user_id"
    item_column: Annotated[str, typer.Option(help="The column of the item.")] = "item_id"
    timestamp_column: Annotated[
        str, typer.Option(help="The column of the time: numbers of any unit, or ISO 8601 dates.")
    ] = "timestamp"
    rating_column: Annotated[
        str | None,
        typer.Option(help="The column of the rating: the generator learns to predict it."),
    ] = None
    min_rating: Annotated[
        float | None, typer.Option(help="Leave out interactions rated lower.")
    ] = None
    item_id_column: Annotated[str, typer.Option(help="The column of the id in the item table.")] = (
        "item_id"
    )
    text_column: Annotated[
        list[str] | None,
        typer.Option(
            help="A column that describes an item; repeat for more. The first is its title. "
            "\\[default: text]"
        ),
    ] = None
    attribute_column: Annotated[
        list[str] | None,
        typer.Option(help="A column that requests may filter by; repeat for more."),
    ] = None
    separator: Annotated[
        str | None,
        typer.Option(help=r"Between CSV cells, \t for a tab; told by the file by default."),
    ] = None
    encoding: Annotated[
        str, typer.Option(help="Of CSV files: utf-8, cp1252, shift_jis, utf-16 and others.")
    ] = "utf-8"
    value_separator: Annotated[
        str, typer.Option(help="Between the values of an attribute's cell.")
    ] = "|"
    min_core: Annotated[
        int, typer.Option(help="Leave out users and items that have fewer interactions.", min=0)
    ] = 5
    type_column: Annotated[
        str, typer.Option(help="The column of an event's type; read for --event-weights only.")
    ] = "type"
    event_weights: Annotated[
        str | None,
        typer.Option(
            metavar="TYPE=W,…",
            help="What interactions count by their type, such as click=1,purchase=3: how much is "
            "learned from each. Other types, and those that count 0, are left out.",
        ),
    ] = None
    review_column: Annotated[
        str | None,
        typer.Option(help="The column of what a user wrote: explanations are learned from it."),
    ] = None
    summary_column: Annotated[
        str | None, typer.Option(help="The column of the line that sums a review up.")
    ] = None

    def logs(self, interactions: Path, items: Path | None, name: str = "logs") -> LogsConfig:
        """The logs in two files that have these columns."""
        return LogsConfig(
            interactions,
            items,
            name,
            self.user_column,
            self.item_column,
            self.timestamp_column,
            self.rating_column,
            self.min_rating,
            self.item_id_column,
            tuple(self.text_column or ["text"]),
            tuple(self.attribute_column or ()),
            self.separator,
            self.encoding,
            self.value_separator,
            self.min_core,
            self.type_column,
            read_weights(self.event_weights) if self.event_weights is not None else (),
            self.review_column,
            self.summary_column,
        )


@dataclass(frozen=True)
class DataOptions:
    """Which data."""

    movielens: Annotated[
        Literal["ml-100k", "ml-1m"] | None,
        typer.Argument(help="MovieLens; or name your own logs with --interactions and --items."),
    ] = None
    interactions: Annotated[
        Path | None,
        typer.Option(help="Your interactions: CSV or JSON lines (also gzipped) or Parquet."),
    ] = None
    items: Annotated[
        Path | None,
        typer.Option(
            help="Your items, in a file of the same kinds. With MovieLens, what `tandem enrich` "
            "wrote about them. With --review-column or --summary-column they may be left out: what "
            "was written of them describes them.",
        ),
    ] = None
    name: Annotated[
        str | None, typer.Option(help="The name of what is made. \\[default: that of the data]")
    ] = None
    data: Annotated[Path, typer.Option(help="Where MovieLens is kept.")] = Path("build/data")

    def source(self, columns: ColumnOptions) -> Filterable:
        """The data.

        Args:
            columns: how logs of one's own are read.

        Raises:
            typer.BadParameter: neither or both are named.
        """
        if self.movielens is not None and self.interactions is None:
            return MovieLensSource(self.movielens, self.data, self.items)
        described = self.items or columns.review_column or columns.summary_column
        if self.movielens is None and self.interactions is not None and described:
            return LogsSource(columns.logs(self.interactions, self.items, self.name or "logs"))
        raise typer.BadParameter("name ml-100k or ml-1m, or both --interactions and --items")
