"""`tandem data`: fetch MovieLens, or check your own logs before anything is built from them."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from cli.support.data_options import ColumnOptions
from cli.support.option_groups import expanded
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
@expanded
def check(
    interactions: Annotated[
        Path, typer.Argument(help="CSV, JSON lines or Parquet: user, item, timestamp.")
    ],
    columns: ColumnOptions,
    items: Annotated[
        Path | None, typer.Argument(help="CSV, JSON lines or Parquet: id and text.")
    ] = None,
) -> None:
    """Read your own logs as `tandem build` would, and report what becomes of them."""
    if items is None and not (columns.review_column or columns.summary_column):
        raise typer.BadParameter("name the items, or a --review-column that describes them")
    with Console(stderr=True).status(f"reading {interactions}"):
        _, report = read_logs(columns.logs(interactions, items))
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
