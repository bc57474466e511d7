"""`tandem ratings`: how a user is expected to rate items, in the terminal."""

from typing import Annotated

import typer
from rich.console import Console

from cli.support.connection import ConnectionOptions
from cli.support.option_groups import expanded
from cli.support.option_values import read_ids, read_values
from cli.support.printing import RankedItems, print_json, print_missing
from cli.support.query_options import AsJson
from cli.support.titles import Titles

app = typer.Typer()


@app.command(
    epilog="Examples:\n\n"
    "tandem ratings --user 196 --item 50,172\n\n"
    "tandem ratings --rated 50=5 --rated 181=4.5 --item 172"
)
@expanded
def ratings(
    *,
    item: Annotated[str, typer.Option(help="Items, at most 100.", metavar="ID,ID…")],
    user: Annotated[str, typer.Option(help="Whose ratings the bundle knows.")] = "",
    rated: Annotated[
        list[str] | None,
        typer.Option(
            help="How an item is rated already, instead of what the bundle knows; repeatable.",
            metavar="ID=RATING",
        ),
    ] = None,
    connection: ConnectionOptions,
    as_json: AsJson = False,
) -> None:
    """Predict how a user rates items: without --user and --rated, how anybody does."""
    known = read_values(rated or (), example="50=4.5")
    with connection.connect() as client:
        response = client.predict_ratings(user, read_ids(item), rated=known)
        if as_json:
            print_json(response)
            return
        titles = Titles().look_up(client, (each.item_id for each in response.ratings))
    ranked = RankedItems(titles, "rating")
    for each in sorted(response.ratings, key=lambda each: -each.rating):
        ranked.add(each.item_id, each.rating)
    console = Console()
    console.print(ranked.table)
    print_missing(console, response.missing_item_ids)
    console.print(f"[dim]from {response.bundle_version}")
