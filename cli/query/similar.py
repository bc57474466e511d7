"""`tandem similar`: the items that are most similar to items or to a text, in the terminal."""

from dataclasses import dataclass
from typing import Annotated

import typer
from rich.console import Console

from cli.support.connection import ConnectionOptions
from cli.support.option_groups import expanded
from cli.support.option_values import read_ids
from cli.support.printing import print_json, print_missing, print_similar
from cli.support.query_options import AsJson, ConstraintOptions, MaxResults
from tandem.requests import SpaceName

app = typer.Typer()


@dataclass(frozen=True)
class SimilarityConstraintOptions(ConstraintOptions):
    """Which items may come back: those of the query count as seen."""

    include_seen: Annotated[
        bool, typer.Option("--include-seen", help="Allow the items of the query.")
    ] = False


@app.command(
    epilog="Examples:\n\n"
    "tandem similar --item 50 --space behavior\n\n"
    'tandem similar --text "a heist that goes wrong" -k 5 --filter year=1990..'
)
@expanded
def similar(
    *,
    item: Annotated[str, typer.Option(help="Items to be similar to.", metavar="ID,ID…")] = "",
    text: Annotated[str | None, typer.Option(help="A free text to be similar to.")] = None,
    space: Annotated[
        SpaceName,
        typer.Option(help="Compare what items are (content) or how they are used (behavior)."),
    ] = "content",
    min_score: Annotated[
        float | None, typer.Option(help="The lowest cosine similarity, from -1 to 1.")
    ] = None,
    diversity: Annotated[
        float, typer.Option(help="From 0, the most similar, to 1, unlike each other.", min=0, max=1)
    ] = 0.0,
    max_results: MaxResults = 10,
    constraints: SimilarityConstraintOptions,
    connection: ConnectionOptions,
    as_json: AsJson = False,
) -> None:
    """Find the items most similar to items or to a text."""
    items = read_ids(item)
    if bool(items) == (text is not None):
        raise typer.BadParameter("give either --item or --text")
    with connection.connect() as client:
        response = client.similar_items(
            items,
            text=text,
            space=space,
            min_score=min_score,
            diversity=diversity,
            max_results=max_results,
            item_fields=("title", "attributes"),
            **constraints.arguments(),
        )
    if as_json:
        print_json(response)
        return
    console = Console()
    print_similar(console, response)
    print_missing(console, response.missing_item_ids)
    console.print(f"[dim]from {response.bundle_version}")
