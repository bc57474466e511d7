"""Reads what options say: ids, conditions, limits and boosts.

`--item 50,172`; `--filter genre=Drama`, `genre!=Horror`, `year=1990..1999`, `year=..1959`;
`--cap genre=2`; `--family direct=0.05`; `--boost genre=Drama:0.5`; `--row Drama:genre=Drama`.
"""

from collections.abc import Sequence
from functools import reduce
from operator import and_

import typer

from tandem import filters
from tandem.filters import Condition
from tandem.requests import RowArguments


def read_ids(text: str) -> list[str]:
    """Reads ids with commas between them, such as `50,172`; none where there is no text."""
    return [part.strip() for part in text.split(",") if part.strip()]


def read_conditions(texts: Sequence[str]) -> Condition | None:
    """Reads conditions, all of which must hold.

    Raises:
        typer.BadParameter: one is not written as above.
    """
    return reduce(and_, map(_read, texts)) if texts else None


def read_row(text: str) -> tuple[str, RowArguments]:
    """Reads a row such as `New drama:genre=Drama,year=1997..`: its name and its conditions.

    Raises:
        typer.BadParameter: it is not written so.
    """
    name, _, conditions = text.partition(":")
    if not name.strip():
        raise typer.BadParameter(f"{text!r} is not a row; write a name, a colon and conditions")
    return name.strip(), {"filter": read_conditions(read_ids(conditions))}


def read_numbers(texts: Sequence[str], *, option: str) -> dict[str, int]:
    """Reads options such as `50=1`: names, each with a whole number.

    Raises:
        typer.BadParameter: one is not written so.
    """
    numbers = {}
    for text in texts:
        name, _, number = text.rpartition("=")
        if not (name.strip() and number.strip().isdecimal()):
            raise typer.BadParameter(f"{text!r} is not a {option}; write a name=1")
        numbers[name.strip()] = int(number)
    return numbers


def read_values(texts: Sequence[str], *, example: str) -> dict[str, float]:
    """Reads values such as `direct=0.05`: names, each with a number.

    Raises:
        typer.BadParameter: one is not written so.
    """
    values = {}
    for text in texts:
        name, _, value = text.rpartition("=")
        try:
            values[name.strip()] = float(value)
        except ValueError:
            raise typer.BadParameter(f"{text!r} is not like {example}") from None
    return values


def read_boosts(texts: Sequence[str]) -> list[tuple[Condition, float]]:
    """Reads boosts such as `genre=Drama:0.5`: conditions, each with a number.

    Raises:
        typer.BadParameter: one is not written so.
    """
    boosts = []
    for text in texts:
        condition, _, boost = text.rpartition(":")
        try:
            boosts.append((_read(condition), float(boost)))
        except ValueError:
            raise typer.BadParameter(
                f"{text!r} is not a boost; write a condition and a number, genre=Drama:0.5"
            ) from None
    return boosts


def _read(text: str) -> Condition:
    try:
        return filters.parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
