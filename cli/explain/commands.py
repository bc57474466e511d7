"""`tandem explain`: why a user would like an item, in a model's words, as they come."""

from typing import Annotated

import typer
from rich.console import Console

from cli.explain.printing import print_end, print_json_text, print_text
from cli.support.connection import ConnectionOptions
from cli.support.option_groups import expanded
from cli.support.option_values import read_ids
from cli.support.printing import print_missing
from cli.support.query_options import AsJson

app = typer.Typer()


@app.command(
    epilog="Examples:\n\n"
    "tandem explain --user 196 --item 50\n\n"
    "tandem explain --history 50,172,181 --item 12 --feature sound\n\n"
    "tandem explain --user 196 --item 50 --top-p 0.9 --seed 1"
)
@expanded
def explain(
    *,
    item: Annotated[str, typer.Option(help="The item.")],
    user: Annotated[str, typer.Option(help="Whose stored history to use.")] = "",
    history: Annotated[
        str, typer.Option(help="A history instead, oldest first.", metavar="ID,ID…")
    ] = "",
    feature: Annotated[str, typer.Option(help="A word that the text is to be about.")] = "",
    max_tokens: Annotated[
        int, typer.Option(help="After so many it ends; 0 for the model's limit.", min=0)
    ] = 0,
    top_p: Annotated[
        float | None,
        typer.Option(
            help="Draw tokens among the likeliest that have this share of the probability.",
            min=0,
            max=1,
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Equal seeds draw equal texts.", min=0)] = None,
    connection: ConnectionOptions,
    as_json: AsJson = False,
) -> None:
    """Have a model write why a user would like an item.

    It is generated text, in the words of reviews, and no account of why an item is recommended:
    `tandem recommend --diagnostics` is that.
    """
    given = read_ids(history)
    if not user and not given:
        raise typer.BadParameter("give --user, --history, or both")
    with connection.connect() as client:
        stream = client.explain(
            user,
            item,
            history=given,
            feature=feature,
            max_tokens=max_tokens,
            top_p=top_p,
            seed=seed,
        )
        if as_json:
            print_json_text(stream)
            return
        console = Console()
        console.print("[bold]Generated text[/]: ", end="")
        last = print_text(console, stream)
    print_missing(console, last.end.missing_item_ids)
    print_end(console, last)
