"""`tandem data`: fetch MovieLens, or check your own logs before anything is built from them."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from offline.dataset import LogsConfig, LogsReport, MovieLens, fetch, read_logs

app = typer.Typer(no_args_is_help=True, help="Fetch MovieLens, or check your own logs.")


@app.command("fetch")
def fetch_movielens(
    name: Annotated[MovieLens, typer.Argument(help="ml-100k or ml-1m.")],
    directory: Annotated[
        Path, typer.Option(help="Where to put it: in a folder of its name.")
    ] = Path("build/data"),
) -> None:
    """Download MovieLens, verify it and unpack it; what is there already is kept."""
    typer.echo(fetch(name, directory))


@app.command()
def check(
    interactions: Annotated[
        Path, typer.Argument(help="CSV (also gzipped) or Parquet: user, item, timestamp.")
    ],
    items: Annotated[Path, typer.Argument(help="CSV (also gzipped) or Parquet: id and text.")],
    user_column: Annotated[str, typer.Option(help="Whose interaction it is.")] = "user_id",
    item_column: Annotated[str, typer.Option(help="With which item.")] = "item_id",
    timestamp_column: Annotated[
        str, typer.Option(help="When: numbers of any unit, or ISO 8601 dates.")
    ] = "timestamp",
    rating_column: Annotated[
        str | None, typer.Option(help="How good it was; read for --min-rating only.")
    ] = None,
    min_rating: Annotated[
        float | None, typer.Option(help="Leave out interactions rated lower.")
    ] = None,
    item_id_column: Annotated[str, typer.Option(help="The id in the item table.")] = "item_id",
    text_column: Annotated[
        list[str] | None,
        typer.Option(help="What describes an item; repeat for more. The first is its title."),
    ] = None,
    attribute_column: Annotated[
        list[str] | None, typer.Option(help="What requests may filter by; repeat for more.")
    ] = None,
    separator: Annotated[
        str | None, typer.Option(help=r"Between CSV cells; , or, in .tsv files, \t by default.")
    ] = None,
    value_separator: Annotated[
        str, typer.Option(help="Between the values of an attribute's cell.")
    ] = "|",
    min_core: Annotated[
        int, typer.Option(help="The fewest interactions of a user and of an item.", min=0)
    ] = 5,
) -> None:
    """Read your own logs as `tandem build` would, and report what becomes of them."""
    config = LogsConfig(
        interactions=interactions,
        items=items,
        user_column=user_column,
        item_column=item_column,
        timestamp_column=timestamp_column,
        rating_column=rating_column,
        min_rating=min_rating,
        item_id_column=item_id_column,
        text_columns=tuple(text_column or ["text"]),
        attribute_columns=tuple(attribute_column or ()),
        separator=separator,
        value_separator=value_separator,
        min_core=min_core,
    )
    with Console(stderr=True).status(f"reading {interactions}"):
        _, report = read_logs(config)
    _print(report)


def _print(report: LogsReport) -> None:
    table = Table(show_header=False, box=None)
    table.add_row("interactions read", f"{report.rows:,}")
    table.add_row("interactions kept", f"{report.interactions:,}")
    table.add_row("users", f"{report.users:,}")
    table.add_row("items", f"{report.items:,}")
    Console().print(table)
    for notice in report.notices:
        typer.secho(f"! {notice}", fg="yellow")
