"""Options that commands have in common, as fields of a dataclass."""

from dataclasses import dataclass
from typing import Annotated

import typer
from typer.testing import CliRunner

from cli.support.option_groups import expanded


@dataclass(frozen=True)
class Fruit:
    kind: Annotated[str, typer.Argument(help="Which.")] = "apple"
    count: Annotated[int, typer.Option(help="How many.", min=1)] = 1


@dataclass(frozen=True)
class Address:
    street: Annotated[str, typer.Option(help="Where to.")] = "Main Street"


def order(*arguments: str) -> str:
    app = typer.Typer()

    @app.command()
    @expanded
    def command(fruit: Fruit, address: Address, urgent: bool = False) -> None:
        """Order fruit."""
        typer.echo(f"{fruit} {address} {urgent}")

    return " ".join(CliRunner().invoke(app, arguments).output.split())


def test_fields_are_options_and_come_back_as_the_dataclass() -> None:
    assert order() == f"{Fruit()} {Address()} False"
    told = order("pear", "--count", "3", "--street", "Elm", "--urgent")
    assert told == f"{Fruit('pear', 3)} {Address('Elm')} True"


def test_fields_keep_their_help_and_limits() -> None:
    shown = order("--help")
    for what in ("Order fruit.", "Which.", "How many.", "Where to.", "x>=1"):
        assert what in shown
    assert "--count" in order("--count", "0")
