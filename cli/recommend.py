"""`tandem recommend`: a user's recommendations, in the terminal."""

from typing import Annotated, Final

import typer
from rich.console import Console

from cli.explain.printing import print_explanations
from cli.support.connection import ConnectionOptions
from cli.support.diagnostics import diagnosed_items, print_diagnostics
from cli.support.option_groups import expanded
from cli.support.option_values import read_ids
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
    user: Annotated[str, typer.Option(help="Whose stored history to use.")] = "",
    history: Annotated[
        str, typer.Option(help="A history instead, oldest first.", metavar="ID,ID…")
    ] = "",
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
    forbid_degraded: Annotated[
        bool, typer.Option("--forbid-degraded", help="Fail rather than answer with less.")
    ] = False,
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
    given = read_ids(history)
    if not user and not given:
        raise typer.BadParameter("give --user, --history, or both")
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
