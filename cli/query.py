"""`tandem recommend` and `tandem similar`: the terminal client."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Final

import typer
from google.protobuf.json_format import MessageToDict
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.support.connection import reaching
from cli.support.diagnostics import diagnosed_items, print_diagnostics
from cli.support.filter_expressions import read_boosts, read_conditions, read_numbers
from cli.support.titles import Titles
from tandem import Client, Error
from tandem.client import DEFAULT_TARGET, DEFAULT_TIMEOUT
from tandem.requests import FieldName, SpaceName, StrategyName
from tandem.v1 import recommendation_service_pb2 as pb

SHOWN_HISTORY: Final = 10
ITEM_FIELDS: Final[tuple[FieldName, ...]] = ("title", "attributes")

recommend = typer.Typer()
similar = typer.Typer()

Address = Annotated[
    str, typer.Option(help="The gateway's address.", envvar="TANDEM_ADDRESS", metavar="HOST:PORT")
]
MaxResults = Annotated[int, typer.Option("--max-results", "-k", help="How many items.")]
Exclude = Annotated[str, typer.Option(help="Items to leave out.", metavar="ID,ID…")]
Only = Annotated[str, typer.Option(help="Items to choose from; all if unset.", metavar="ID,ID…")]
Filters = Annotated[
    list[str] | None,
    typer.Option(
        "--filter",
        help="genre=Drama, genre!=Horror or year=1990..1999; repeat it for several, all of "
        "which must hold.",
        metavar="CONDITION",
    ),
]
Timeout = Annotated[float, typer.Option(help="Seconds to wait.", min=0.001)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


@recommend.command(
    epilog="Examples:\n\n"
    "tandem recommend --user 196 --strategy fuse -k 5\n\n"
    "tandem recommend --history 50,172,181 --filter genre=Drama --filter year=1990..1999\n\n"
    "tandem recommend --user 196 --pin 50=1 --cap genre=3 --diversity 0.3 --diagnostics\n\n"
    "tandem recommend --user 196 --boost genre=Drama:0.5 --page-size 5"
)
def _recommend(
    user: Annotated[str, typer.Option(help="Whose stored history to use.")] = "",
    history: Annotated[
        str, typer.Option(help="A history instead, oldest first.", metavar="ID,ID…")
    ] = "",
    strategy: Annotated[
        StrategyName | None, typer.Option(help="How to recommend; the server's default if unset.")
    ] = None,
    max_results: MaxResults = 10,
    exclude: Exclude = "",
    filter_: Filters = None,
    only: Only = "",
    include_seen: Annotated[
        bool, typer.Option("--include-seen", help="Allow items of the history.")
    ] = False,
    pin: Annotated[
        list[str] | None,
        typer.Option(help="Show an item at a position, from 1; repeatable.", metavar="ID=POSITION"),
    ] = None,
    cap: Annotated[
        list[str] | None,
        typer.Option(
            help="At most so many items with the same value of an attribute; repeatable.",
            metavar="ATTRIBUTE=ITEMS",
        ),
    ] = None,
    diversity: Annotated[
        float, typer.Option(help="From 0, the best items, to 1, the most unlike.", min=0, max=1)
    ] = 0.0,
    boost: Annotated[
        list[str] | None,
        typer.Option(
            help="Show what satisfies a condition higher, up to 1, or lower, down to -1; "
            "repeatable.",
            metavar="CONDITION:BOOST",
        ),
    ] = None,
    page_size: Annotated[
        int, typer.Option(help="Return so many items of a list of --max-results; 0 for all.", min=0)
    ] = 0,
    page_token: Annotated[
        str, typer.Option(help="What the page before says leads to this one.")
    ] = "",
    forbid_degraded: Annotated[
        bool, typer.Option("--forbid-degraded", help="Fail rather than answer with less.")
    ] = False,
    diagnostics: Annotated[
        bool, typer.Option("--diagnostics", help="Say where each item comes from.")
    ] = False,
    address: Address = DEFAULT_TARGET,
    timeout: Timeout = DEFAULT_TIMEOUT,
    as_json: AsJson = False,
) -> None:
    """Recommend items to a user, or to whoever has a given history."""
    if not user and not history:
        raise typer.BadParameter("give --user, --history, or both")
    condition = read_conditions(filter_ or ())
    with connected(address, timeout) as client:
        response = client.recommend(
            user,
            history=_identifiers(history),
            max_results=max_results,
            strategy=strategy,
            exclude=_identifiers(exclude),
            filter=condition,
            only=_identifiers(only),
            include_seen=include_seen,
            pin=read_numbers(pin or (), option="--pin"),
            caps=read_numbers(cap or (), option="--cap"),
            diversity=diversity,
            boosts=read_boosts(boost or ()),
            item_fields=ITEM_FIELDS,
            page_size=page_size,
            page_token=page_token,
            forbid_degraded=forbid_degraded,
            diagnostics=diagnostics,
        )
        if as_json:
            _print_json(response)
            return
        shown = (_identifiers(history) or _stored_history(client, user))[-SHOWN_HISTORY:]
        titles = Titles(response.recommendations)
        titles.look_up(client, [*shown, *diagnosed_items(response)])
    console = Console()
    _print_history(console, shown, titles)
    table = _table("score", "retrieval", "generator")
    for rank, item in enumerate(response.recommendations, start=1):
        retrieval = f"{item.retrieval_score:.3f}" if item.HasField("retrieval_score") else ""
        generator = f"{item.generator_score:.3f}" if item.HasField("generator_score") else ""
        _add(table, titles, rank, item.item_id, f"{item.score:.3f}", retrieval, generator)
    console.print(table)
    if diagnostics:
        print_diagnostics(console, response, titles)
    _print_missing(console, response.missing_item_ids)
    _print_degradations(console, response)
    if response.next_page_token:
        console.print(f"next page: --page-token {response.next_page_token}", soft_wrap=True)
    console.print(f"[dim]{_summary(response)}")


@similar.command(
    epilog="Examples:\n\n"
    "tandem similar --item 50 --space behavior\n\n"
    'tandem similar --text "a heist that goes wrong" -k 5 --filter year=1990..'
)
def _similar(
    item: Annotated[str, typer.Option(help="Items to be similar to.", metavar="ID,ID…")] = "",
    text: Annotated[str | None, typer.Option(help="A free text to be similar to.")] = None,
    space: Annotated[
        SpaceName,
        typer.Option(help="Compare what items are (content) or how they are used (behavior)."),
    ] = "content",
    min_score: Annotated[
        float | None, typer.Option(help="The similarity that an item must reach.")
    ] = None,
    diversity: Annotated[
        float, typer.Option(help="From 0, the most similar, to 1, unlike each other.", min=0, max=1)
    ] = 0.0,
    max_results: MaxResults = 10,
    exclude: Exclude = "",
    filter_: Filters = None,
    only: Only = "",
    include_seen: Annotated[
        bool, typer.Option("--include-seen", help="Allow the items of the query.")
    ] = False,
    address: Address = DEFAULT_TARGET,
    timeout: Timeout = DEFAULT_TIMEOUT,
    as_json: AsJson = False,
) -> None:
    """Find the items most similar to items or to a text."""
    if bool(item) == (text is not None):
        raise typer.BadParameter("give either --item or --text")
    condition = read_conditions(filter_ or ())
    with connected(address, timeout) as client:
        response = client.similar_items(
            _identifiers(item),
            text=text,
            space=space,
            min_score=min_score,
            diversity=diversity,
            max_results=max_results,
            exclude=_identifiers(exclude),
            filter=condition,
            only=_identifiers(only),
            include_seen=include_seen,
            item_fields=ITEM_FIELDS,
        )
    if as_json:
        _print_json(response)
        return
    console, titles = Console(), Titles(response.items)
    table = _table("similarity")
    for rank, found in enumerate(response.items, start=1):
        _add(table, titles, rank, found.item_id, f"{found.score:.3f}")
    console.print(table)
    _print_missing(console, response.missing_item_ids)
    console.print(f"[dim]from {response.bundle_version}")


@contextmanager
def connected(address: str, timeout: float) -> Iterator[Client]:
    """A client whose failure to reach a gateway says what to do."""
    with Client(address, timeout=timeout) as client, reaching("gateway", address):
        yield client


def _identifiers(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _stored_history(client: Client, user: str) -> list[str]:
    """The newest items that are stored of a user; none where they cannot be read."""
    try:
        events = client.get_history(user, page_size=SHOWN_HISTORY).events
    except Error:
        return []
    return [event.item_id for event in reversed(events)]


def _table(*scores: str) -> Table:
    table = Table("", "item", box=None, header_style="bold")
    table.add_column("title", overflow="fold")
    table.add_column("")
    for score in scores:
        table.add_column(score, justify="right", no_wrap=True)
    return table


def _add(table: Table, titles: Titles, rank: int, item_id: str, *scores: str) -> None:
    names = (escape(titles.title(item_id)), f"[dim]{escape(titles.details(item_id))}")
    table.add_row(str(rank), item_id, *names, *scores)


def _print_history(console: Console, history: list[str], titles: Titles) -> None:
    if not history:
        return
    console.print("[bold]History[/], newest last:")
    for item_id in history:
        console.print(f"  {titles.title(item_id) or item_id}", highlight=False, markup=False)
    console.print()


def _print_missing(console: Console, missing: Sequence[str]) -> None:
    if missing:
        console.print(f"[yellow]not in the catalog: {', '.join(missing)}")


def _print_degradations(console: Console, response: pb.RecommendResponse) -> None:
    for degradation in response.degradations:
        fallback = pb.Fallback.Name(degradation.fallback).removeprefix("FALLBACK_").lower()
        instead = "" if degradation.fallback == pb.FALLBACK_NONE else f", {fallback} instead"
        console.print(f"[yellow]without {degradation.stage} ({degradation.reason}){instead}")


def _summary(response: pb.RecommendResponse) -> str:
    strategy = pb.Strategy.Name(response.strategy).removeprefix("STRATEGY_").lower()
    stages = ", ".join(
        f"{timing.stage} {timing.duration.ToMicroseconds() / 1e3:.1f}"
        for timing in response.timings
    )
    return f"{strategy} from {response.bundle_version}; ms: {stages}"


def _print_json(response: pb.RecommendResponse | pb.SimilarItemsResponse) -> None:
    """The response as protobuf's JSON."""
    document = MessageToDict(
        response, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    typer.echo(json.dumps(document, ensure_ascii=False, indent=2))
