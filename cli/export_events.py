"""`tandem export-events`: what gateways recorded, as a table for the next training run."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track

from gateway.history.event import Event
from gateway.history.opening import REDIS
from offline.events.table import write_events

app = typer.Typer()


@app.command(
    epilog="Examples:\n\n"
    "tandem export-events events.parquet --history build/history/ml-100k.sqlite\n\n"
    "tandem export-events events.parquet --history redis://cache:6379 --history-key-file key\n\n"
    "tandem build --interactions events.parquet --items products.csv --event-weights "
    "click=1,purchase=3 --name shop"
)
def export_events(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The Parquet file to write.")],
    history: Annotated[
        str,
        typer.Option(
            help="Where gateways keep histories, which may be in use: a file of SQLite, or "
            "redis://HOST:PORT."
        ),
    ],
    history_key_file: Annotated[
        Path | None, typer.Option(help="The gateways' key; needed with Redis.")
    ] = None,
) -> None:
    """Write all recorded events, and the answers that they came of, to a Parquet file.

    The events that histories began with, those of the bundle, are among them. The file is whole or
    not there.
    """
    console = Console(stderr=True)
    if history.startswith(REDIS):
        if history_key_file is None:
            raise typer.BadParameter("name the gateways' key", param_hint="--history-key-file")
        with console.status("exporting"):
            count = write_events(_of_redis(history, history_key_file), out)
    else:
        count = write_events(_of_file(Path(history), console), out)
    typer.echo(f"exported {count:,} events to {out}")


def _of_file(path: Path, console: Console) -> Iterator[list[Event]]:
    from gateway.history.sqlite.export import partitions_of
    from gateway.history.sqlite.partitions import PARTITIONS

    for pages in track(partitions_of(path), "exporting", total=PARTITIONS, console=console):
        yield from pages


def _of_redis(url: str, key_file: Path) -> Iterator[list[Event]]:
    from gateway.history.redis.export import pages_of

    pages = pages_of(url, key_file)
    with asyncio.Runner() as runner:
        try:
            while (page := runner.run(_next(pages))) is not None:
                yield page
        finally:
            runner.run(pages.aclose())


async def _next(pages: AsyncGenerator[list[Event], None]) -> list[Event] | None:
    return await anext(pages, None)
