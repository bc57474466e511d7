"""`tandem data`: fetch MovieLens, or check your own logs before anything is built from them."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from cli import logs
from offline.dataset import LogsReport, MovieLens, fetch, read_logs

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
    user_column: logs.UserColumn = "user_id",
    item_column: logs.ItemColumn = "item_id",
    timestamp_column: logs.TimestampColumn = "timestamp",
    rating_column: logs.RatingColumn = None,
    min_rating: logs.MinRating = None,
    item_id_column: logs.ItemIdColumn = "item_id",
    text_column: logs.TextColumn = None,
    attribute_column: logs.AttributeColumn = None,
    separator: logs.Separator = None,
    encoding: logs.Encoding = "utf-8",
    value_separator: logs.ValueSeparator = "|",
    min_core: logs.MinCore = 5,
) -> None:
    """Read your own logs as `tandem build` would, and report what becomes of them."""
    config = logs.logs_config(locals())
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
