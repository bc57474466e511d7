"""`tandem evaluate`: what a bundle reaches, part by part and as it is served."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

app = typer.Typer()

FamilyName = Literal["ranking", "direct", "rating", "explanation", "review"]


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
        FamilyName,
        typer.Option(
            help="What the model is asked: to rank all items; direct, to find the item that came "
            "next among 99 others; rating, how users rate, beside the mean, the highest rating, "
            "and biases of users and items; explanation and review, to write what users wrote, "
            "beside a constant text."
        ),
    ] = "ranking",
    users: Annotated[
        int | None,
        typer.Option(help="Only so many users; with --family so many examples.", min=1),
    ] = None,
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
    if family != "ranking":
        _family(bundle, family, split, users, as_json=as_json)
        return
    from core.bundle import Bundle
    from offline.evaluate.report import evaluate_bundle, print_report

    count = _count(served_users)
    report = evaluate_bundle(Bundle.open(bundle), split, users, count)
    if as_json:
        typer.echo(json.dumps(report.to_json(), indent=2))
    else:
        print_report(report)


def _family(
    path: Path,
    family: Literal["direct", "explanation", "review"],
    split: Literal["test", "validation"],
    examples: int | None,
    *,
    as_json: bool,
) -> None:
    from core.bundle import Bundle
    from offline.evaluate.families.figures import print_family
    from offline.evaluate.families.run import DIGITS, evaluate_family

    report = evaluate_family(Bundle.open(path), family, split, examples)
    if as_json:
        typer.echo(json.dumps(report.to_json(), indent=2))
    else:
        print_family(report, digits=DIGITS[family])


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
