"""`tandem recommend` and `tandem rows`: a user's recommendations, in the terminal."""

from typing import Annotated, Final

import typer
from rich.console import Console
from rich.markup import escape

from cli.explain.printing import print_explanations
from cli.support.connection import ConnectionOptions
from cli.support.diagnostics import diagnosed_items, print_diagnostics
from cli.support.option_groups import expanded
from cli.support.option_values import read_ids, read_row
from cli.support.printing import (
    print_degradations,
    print_history,
    print_json,
    print_missing,
    print_recommendations,
    print_timings,
)
from cli.support.query_options import (
    AsJson,
    ConstraintOptions,
    Exact,
    MaxResults,
    PageOptions,
    RuleOptions,
    ServingOptions,
    Strategy,
)
from cli.support.titles import Titles
from tandem import Client, Error
from tandem.v1 import recommendation_service_pb2 as pb

SHOWN_HISTORY: Final = 10

app = typer.Typer()
rows_app = typer.Typer()

User = Annotated[str, typer.Option(help="Whose stored history to use.")]
History = Annotated[str, typer.Option(help="A history instead, oldest first.", metavar="ID,ID…")]
ForbidDegraded = Annotated[
    bool, typer.Option("--forbid-degraded", help="Fail rather than answer with less.")
]


@app.command(
    epilog="Examples:\n\n"
    "tandem recommend --user 196 --strategy fuse -k 5\n\n"
    "tandem recommend --history 50,172,181 --filter genre=Drama --filter year=1990..1999\n\n"
    "tandem recommend --user 196 --pin 50=1 --cap genre=3 --diversity 0.3 --diagnostics\n\n"
    "tandem recommend --user 196 --boost genre=Drama:0.5 --page-size 5\n\n"
    "tandem recommend --user 196 -k 3 --explain"
)
@expanded
def recommend(
    *,
    user: User = "",
    history: History = "",
    strategy: Strategy = None,
    max_results: Annotated[
        int,
        typer.Option(
            "--max-results",
            "-k",
            help="How many items; the server's default if unset: 10, or 100 in pages.",
            show_default=False,
        ),
    ] = 0,
    constraints: ConstraintOptions,
    rules: RuleOptions,
    page: PageOptions,
    serving: ServingOptions,
    exact: Exact = False,
    forbid_degraded: ForbidDegraded = False,
    diagnostics: Annotated[
        bool, typer.Option("--diagnostics", help="Say where each item comes from.")
    ] = False,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Have a model write why each item would be liked."),
    ] = False,
    connection: ConnectionOptions,
    as_json: AsJson = False,
) -> None:
    """Recommend items to a user, or to whoever has a given history."""
    given = _read_history(user, history)
    if explain and as_json:
        raise typer.BadParameter("--explain is for people; tandem explain --json has each text")
    with connection.connect() as client:
        response = client.recommend(
            user,
            history=given,
            max_results=max_results,
            strategy=strategy,
            item_fields=("title", "attributes"),
            page_size=page.page_size,
            page_token=page.page_token,
            forbid_degraded=forbid_degraded,
            diagnostics=diagnostics,
            serving_config=serving.serving_config,
            variant=serving.variant,
            exact=exact,
            **constraints.arguments(),
            **rules.arguments(),
        )
        if as_json:
            print_json(response)
        else:
            _show(client, response, user, given, explain=explain)


def _show(
    client: Client, response: pb.RecommendResponse, user: str, given: list[str], *, explain: bool
) -> None:
    """Prints a list, and below it a generated text for each item where that is asked for."""
    _print(client, response, given or _stored_history(client, user))
    if explain:
        items = [item.item_id for item in response.recommendations]
        titles = Titles(response.recommendations)
        print_explanations(Console(), client, user, given, items, titles)


@rows_app.command(
    epilog="Examples:\n\n"
    'tandem rows --user 196 --row Drama:genre=Drama --row "New drama:genre=Drama,year=1997.."\n\n'
    "tandem rows --user 196 --strategy generate -k 5 --row Comedy:genre=Comedy --row All:"
)
@expanded
def rows(
    *,
    row: Annotated[
        list[str],
        typer.Option(
            help="A row: its name and the conditions that all its items satisfy, as --filter "
            "writes them; repeatable.",
            metavar="NAME:CONDITION,…",
        ),
    ],
    user: User = "",
    history: History = "",
    strategy: Strategy = None,
    max_results: MaxResults = 10,
    allow_repeats: Annotated[
        bool, typer.Option("--allow-repeats", help="Allow an item in several rows.")
    ] = False,
    serving: ServingOptions,
    exact: Exact = False,
    forbid_degraded: ForbidDegraded = False,
    connection: ConnectionOptions,
    as_json: AsJson = False,
) -> None:
    """Recommend several lists to a user, such as the rows of a home page."""
    given = _read_history(user, history)
    wanted = dict(map(read_row, row))
    with connection.connect() as client:
        response = client.recommend_rows(
            user,
            {name: {**each, "max_results": max_results} for name, each in wanted.items()},
            history=given,
            allow_repeats=allow_repeats,
            strategy=strategy,
            item_fields=("title", "attributes"),
            forbid_degraded=forbid_degraded,
            serving_config=serving.serving_config,
            variant=serving.variant,
            exact=exact,
        )
    if as_json:
        print_json(response)
        return
    console = Console()
    for each in response.rows:
        console.print(f"[bold]{escape(each.name)}")
        print_recommendations(console, each.response, Titles(each.response.recommendations))
        print_degradations(console, each.response)
        print_timings(console, each.response)


def _read_history(user: str, history: str) -> list[str]:
    given = read_ids(history)
    if not user and not given:
        raise typer.BadParameter("give --user, --history, or both")
    return given


def _print(client: Client, response: pb.RecommendResponse, history: list[str]) -> None:
    """Prints a list below the history that led to it; asks the client for unknown titles."""
    shown = history[-SHOWN_HISTORY:]
    titles = Titles(response.recommendations)
    titles.look_up(client, [*shown, *diagnosed_items(response)])
    console = Console()
    print_history(console, shown, titles)
    print_recommendations(console, response, titles)
    if response.HasField("diagnostics"):
        print_diagnostics(console, response, titles)
    print_missing(console, response.missing_item_ids)
    print_degradations(console, response)
    if response.next_page_token:
        console.print(f"next page: --page-token {response.next_page_token}", soft_wrap=True)
    print_timings(console, response)


def _stored_history(client: Client, user: str) -> list[str]:
    """The newest items that are stored of a user; none where they cannot be read."""
    try:
        events = client.get_history(user, page_size=SHOWN_HISTORY).events
    except Error:
        return []
    return [event.item_id for event in reversed(events)]
