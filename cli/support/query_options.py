"""The options that several queries of the gateway have in common."""

from dataclasses import dataclass
from typing import Annotated

import typer

from cli.support.option_values import read_boosts, read_conditions, read_ids, read_numbers
from tandem.requests import ConstraintArguments, RuleArguments, StrategyName

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
MaxResults = Annotated[int, typer.Option("--max-results", "-k", help="How many items.")]
Strategy = Annotated[
    StrategyName | None,
    typer.Option(
        help="embedding: what retrieval finds; rerank: that, reordered with the generator; "
        "generate: what the generator writes; fuse: both. The server's default if unset."
    ),
]


@dataclass(frozen=True)
class ConstraintOptions:
    """Which items may come back."""

    exclude: Annotated[str, typer.Option(help="Items to leave out.", metavar="ID,ID…")] = ""
    filter_: Annotated[
        list[str] | None,
        typer.Option(
            "--filter",
            help="genre=Drama, genre!=Horror or year=1990..1999; repeat it for several, all of "
            "which must hold.",
            metavar="CONDITION",
        ),
    ] = None
    only: Annotated[
        str, typer.Option(help="Items to choose from; all if unset.", metavar="ID,ID…")
    ] = ""
    include_seen: Annotated[
        bool, typer.Option("--include-seen", help="Allow items of the history.")
    ] = False

    def arguments(self) -> ConstraintArguments:
        """The client's arguments.

        Raises:
            typer.BadParameter: a filter is not written as its help says.
        """
        return {
            "exclude": read_ids(self.exclude),
            "filter": read_conditions(self.filter_ or ()),
            "only": read_ids(self.only),
            "include_seen": self.include_seen,
        }


@dataclass(frozen=True)
class RuleOptions:
    """How a list is arranged after its items are scored."""

    pin: Annotated[
        list[str] | None,
        typer.Option(help="Show an item at a position, from 1; repeatable.", metavar="ID=POSITION"),
    ] = None
    cap: Annotated[
        list[str] | None,
        typer.Option(
            help="At most so many items with the same value of an attribute; repeatable.",
            metavar="ATTRIBUTE=ITEMS",
        ),
    ] = None
    diversity: Annotated[
        float | None,
        typer.Option(help="From 0, the best items, to 1, the most unlike.", min=0, max=1),
    ] = None
    boost: Annotated[
        list[str] | None,
        typer.Option(
            help="Show what satisfies a condition higher, up to 1, or lower, down to -1; "
            "repeatable.",
            metavar="CONDITION:BOOST",
        ),
    ] = None

    def arguments(self) -> RuleArguments:
        """The client's arguments.

        Raises:
            typer.BadParameter: an option is not written as its help says.
        """
        return {
            "pin": read_numbers(self.pin or (), option="--pin"),
            "caps": read_numbers(self.cap or (), option="--cap"),
            "diversity": self.diversity,
            "boosts": read_boosts(self.boost or ()),
        }


@dataclass(frozen=True)
class ServingOptions:
    """Which way of answering is asked for, of those that the gateway was given."""

    serving_config: Annotated[
        str, typer.Option(help="The configuration that holds where no option says otherwise.")
    ] = ""
    variant: Annotated[
        str, typer.Option(help="The variant that answers; by default the user's.")
    ] = ""


Exact = Annotated[
    bool,
    typer.Option("--exact", help="Search until a generated list is proved, as far as time allows."),
]


@dataclass(frozen=True)
class PageOptions:
    """Which part of a list is returned."""

    page_size: Annotated[
        int, typer.Option(help="Return so many items of a list of --max-results; 0 for all.", min=0)
    ] = 0
    page_token: Annotated[
        str,
        typer.Option(
            help="Return the page that this token leads to; the page before prints it. The "
            "options that decide the list must be as they were."
        ),
    ] = ""
