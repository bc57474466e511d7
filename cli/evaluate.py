"""`tandem evaluate`: what a bundle reaches, part by part and as it is served."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

app = typer.Typer()


@app.command(
    epilog="Examples:\n\n"
    "tandem evaluate --bundle bundles/ml-100k/current --json\n\n"
    "tandem evaluate --bundle bundles/ml-100k/current --family rating"
)
def evaluate(
    bundle: Annotated[Path, typer.Option(help="The bundle.")] = Path("bundles/ml-100k/current"),
    split: Annotated[
        Literal["test", "validation"], typer.Option(help="Which held-out items.")
    ] = "test",
    family: Annotated[
        Literal["ranking", "rating"],
        typer.Option(
            help="What the model is asked: to rank, or how users rate; RMSE and MAE are then "
            "beside those of the mean, of the highest rating, and of user and item biases."
        ),
    ] = "ranking",
    users: Annotated[int | None, typer.Option(help="Only the first so many users.", min=1)] = None,
    served_users: Annotated[
        str,
        typer.Option(
            metavar="N|all",
            help="Users whose lists are asked of the processes, picked at random; 0 or all for "
            "all of them.",
        ),
    ] = "1000",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Evaluate leave-one-out over all items, filtered and unfiltered, with 95% intervals.

    The row `pipeline` is measured on the real processes, which are started for it; the row
    `pipeline/offline` is what the same code answers to all users without them. How many of the
    lists are the same is told below the table.
    """
    if family == "rating":
        _rating(bundle, split, users, as_json=as_json)
        return
    from core.bundle import Bundle
    from offline.evaluate.report import evaluate_bundle, print_report

    count = _count(served_users)
    report = evaluate_bundle(Bundle.open(bundle), split, users, count)
    if as_json:
        typer.echo(json.dumps(report.to_json(), indent=2))
    else:
        print_report(report)


def _rating(path: Path, split: str, users: int | None, *, as_json: bool) -> None:
    from core.bundle import Bundle
    from offline.ratings.evaluate import evaluate_ratings, print_report
    from offline.reviews.parts import Part

    report = evaluate_ratings(Bundle.open(path), Part[split.upper()], users)
    if as_json:
        typer.echo(json.dumps(report.to_json(), indent=2))
    else:
        print_report(report)


def _count(users: str) -> int | None:
    """A number of users; None for all."""
    if users == "all":
        return None
    if not users.isdecimal():
        raise typer.BadParameter(
            f"give a number or all, not {users!r}", param_hint="--served-users"
        )
    return int(users) or None
