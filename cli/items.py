"""`tandem items`: change and read the catalog of a running candidate service."""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Final, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from cli.support.connection import CredentialOptions, explained_unavailability
from cli.support.item_files import (
    STANDARD_INPUT,
    Columns,
    ItemFileError,
    is_csv,
    read_csv,
    read_lines,
)
from cli.support.option_groups import expanded
from cli.support.option_values import read_ids
from tandem import CatalogClient, Error, Item
from tandem.catalog import DEFAULT_CATALOG_TARGET, DEFAULT_CATALOG_TIMEOUT
from tandem.v1 import common_pb2

app = typer.Typer(
    no_args_is_help=True,
    help="Change and read the catalog while it is served. A new item can be found, filtered and "
    "recommended within about a second, without training and without a restart. Changes are "
    "kept by the candidate service, which needs a --store for that.",
    epilog="Examples:\n\n"
    "tandem items upsert new.jsonl\n\n"
    "tandem items get 50,172\n\n"
    "tandem items delete 50 172\n\n"
    "tandem items list -k 0 --json > catalog.jsonl",
)

AsJson = Annotated[
    bool, typer.Option("--json", help="Print JSON lines, as `tandem items upsert` reads them.")
]

MAX_ITEMS: Final = 1_000
"""Of a call."""
MAX_CALL_CHARACTERS: Final = 1_000_000
"""A server takes messages of 8 MiB by default."""


@dataclass(frozen=True)
class CatalogConnectionOptions(CredentialOptions):
    """Where the candidate service is, and how long a call may take."""

    address: Annotated[
        str,
        typer.Option(
            help="The candidate service's address.", envvar="TANDEM_CATALOG", metavar="HOST:PORT"
        ),
    ] = DEFAULT_CATALOG_TARGET
    timeout: Annotated[float, typer.Option(help="Seconds to wait for each call.", min=0.001)] = (
        DEFAULT_CATALOG_TIMEOUT
    )

    @contextmanager
    def connect(self) -> Iterator[CatalogClient]:
        """A client of the catalog whose error says what to do where no server answers."""
        with (
            CatalogClient(self.address, timeout=self.timeout, **self.credentials()) as client,
            explained_unavailability("candidate service", self.address),
        ):
            yield client


@dataclass(frozen=True)
class ItemFileOptions:
    """How a file of items is read."""

    format_: Annotated[
        Literal["jsonl", "csv"] | None,
        typer.Option(
            "--format", help="The file's format. \\[default: what its name says, else jsonl]"
        ),
    ] = None
    item_id_column: Annotated[str, typer.Option(help="Of a CSV file: the column of the id.")] = (
        "item_id"
    )
    text_column: Annotated[
        list[str] | None,
        typer.Option(
            help="Of a CSV file: a column that describes an item; repeat for more. The first is "
            "its title. \\[default: text]"
        ),
    ] = None
    attribute_column: Annotated[
        list[str] | None,
        typer.Option(help="Of a CSV file: a column that requests may filter by; repeat for more."),
    ] = None
    separator: Annotated[
        str | None,
        typer.Option(help=r"Between CSV cells; , or, in .tsv files, \t by default."),
    ] = None
    value_separator: Annotated[
        str, typer.Option(help="Between the values of an attribute's cell.")
    ] = "|"

    def read(self, file: Path) -> tuple[Iterable[Item], int | None]:
        """The items of a file, and how many they are; None for standard input, which is read once.

        Raises:
            ItemFileError: the file does not hold items.
        """
        if self.format_ == "csv" or (self.format_ is None and is_csv(file)):
            items = read_csv(file, self._columns(file))
            return items, len(items)
        if file == STANDARD_INPUT:
            return read_lines(file), None
        # Counting reads it all, so that no call is made with half a bad file.
        return read_lines(file), sum(1 for _ in read_lines(file))

    def _columns(self, file: Path) -> Columns:
        return Columns(
            self.item_id_column,
            self.text_column or ("text",),
            self.attribute_column or (),
            self.separator or ("\t" if ".tsv" in file.suffixes else ","),
            self.value_separator,
        )


@app.command(
    epilog="A line of a .jsonl file is an item; only item_id and text must be there:\n\n"
    '{"item_id": "p1", "title": "Lamp", "text": "Lamp. Brass, for the hall", '
    '"attributes": {"room": ["hall", "study"], "price": 12.5}}\n\n'
    "A .csv file has a header, and columns as `tandem build` reads them. Either may be gzipped, "
    "and - is standard input:\n\n"
    "tandem items upsert products.csv --item-id-column sku --text-column title "
    "--text-column description --attribute-column brand\n\n"
    "docker compose exec -T candidate tandem items upsert - < new.jsonl"
)
@expanded
def upsert(
    *,
    file: Annotated[Path, typer.Argument(help="Items, as .jsonl or .csv; - for standard input.")],
    reading: ItemFileOptions,
    batch: Annotated[
        int, typer.Option(help="Items of a call: all or none of them.", min=1, max=MAX_ITEMS)
    ] = 200,
    connection: CatalogConnectionOptions,
) -> None:
    """Add items, or replace those that have their ids.

    The bundle's text encoder embeds the text of each item, unless a line of the file brings a
    "vector". Running it again changes nothing: an item that is as it was is left alone.
    """
    items, total = reading.read(file)
    with connection.connect() as catalog, _progress(total) as advance:
        _upsert_all(catalog, items, batch, advance)


@app.command(epilog="Example:  tandem items delete p1 p2")
@expanded
def delete(
    *,
    item_ids: Annotated[list[str] | None, typer.Argument(help="Items to remove.")] = None,
    file: Annotated[
        Path | None, typer.Option(help="A file of more items to remove, one id a line.")
    ] = None,
    connection: CatalogConnectionOptions,
) -> None:
    """Remove items; nothing recommends them any more."""
    wanted = list(item_ids or ())
    if file is not None:
        wanted += [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    wanted = [item_id for item_id in dict.fromkeys(wanted) if item_id]
    if not wanted:
        raise typer.BadParameter("name the items to remove, or a --file of them")
    missing: list[str] = []
    with connection.connect() as catalog:
        for some in _batches(wanted, MAX_ITEMS):
            missing += catalog.delete_items(some).missing_item_ids
    typer.echo(f"{len(wanted) - len(missing):,} items removed")
    _say_missing(missing)


@app.command(epilog="Example:  tandem items get 50,172 --json")
@expanded
def get(
    *,
    item_ids: Annotated[str, typer.Argument(help="Items to look up.", metavar="ID,ID…")],
    connection: CatalogConnectionOptions,
    as_json: AsJson = False,
) -> None:
    """Show items as the catalog has them."""
    wanted = read_ids(item_ids)
    with connection.connect() as catalog:
        answer = catalog.get_items(wanted)
    _print(answer.items, as_json)
    _say_missing(answer.missing_item_ids)


@app.command("list", epilog="Example:  tandem items list -k 0 --json > catalog.jsonl")
@expanded
def list_items(
    *,
    count: Annotated[
        int, typer.Option("--max-results", "-k", help="How many items; 0 for all.", min=0)
    ] = 20,
    connection: CatalogConnectionOptions,
    as_json: AsJson = False,
) -> None:
    """List the catalog."""
    with connection.connect() as catalog:
        items = catalog.list_items(page_size=min(count, MAX_ITEMS) or MAX_ITEMS)
        _print(islice(items, count or None), as_json)


def _upsert_all(
    catalog: CatalogClient, items: Iterable[Item], batch: int, advance: Progress
) -> None:
    done = unchanged = 0
    for some in _calls(items, batch):
        try:
            answer = catalog.upsert_items(some)
        except Error as error:
            error.message = f"{done:,} items are in, then: {error.message}"
            raise
        done += len(some)
        unchanged += len(answer.unchanged_item_ids)
        advance.advance(advance.task_ids[0], len(some))
    if not done:
        raise ItemFileError("there are no items in the file")
    typer.echo(f"{done - unchanged:,} items added or replaced, {unchanged:,} were as they are")


def _calls(items: Iterable[Item], batch: int) -> Iterator[list[Item]]:
    """Groups items so that no call is too large, and none names an item twice."""
    call: dict[str, Item] = {}
    room = MAX_CALL_CHARACTERS
    for item in items:
        size = len(item.text) + len(item.title) + 16 * len(item.vector or ())
        if call and (len(call) == batch or size > room or item.item_id in call):
            yield list(call.values())
            call, room = {}, MAX_CALL_CHARACTERS
        call[item.item_id] = item
        room -= size
    if call:
        yield list(call.values())


def _batches(values: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]


@contextmanager
def _progress(total: int | None) -> Iterator[Progress]:
    """A bar on the terminal; nothing where standard error is none."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        bar.add_task("items", total=total)
        yield bar


def _print(items: Iterable[common_pb2.Item], as_json: bool) -> None:
    if as_json:
        for item in items:
            typer.echo(json.dumps(_document(item), ensure_ascii=False))
        return
    table = Table("item", "title", "", "text", box=None, header_style="bold")
    for item in items:
        values = [str(v) for values in _attributes(item).values() for v in values]
        cells = (item.item_id, item.title, ", ".join(values), item.text)
        table.add_row(*map(escape, cells))
    Console().print(table)


def _document(item: common_pb2.Item) -> dict[str, object]:
    return {
        "item_id": item.item_id,
        "title": item.title,
        "text": item.text,
        "attributes": _attributes(item),
        "popularity": item.popularity,
    }


def _attributes(item: common_pb2.Item) -> dict[str, list[str | float]]:
    return {
        name: [v.text if v.WhichOneof("kind") == "text" else v.number for v in several.values]
        for name, several in sorted(item.attributes.items())
    }


def _say_missing(missing: Sequence[str]) -> None:
    if missing:
        typer.secho(f"not in the catalog: {', '.join(missing)}", fg="yellow", err=True)
