"""Filters as people type them."""

import pytest
import typer

from cli.support.option_values import read_conditions
from core.filters import AllOf, Filter, Not, OneOf, Range
from serving.validation import item_filter


@pytest.mark.parametrize(
    ("texts", "condition"),
    [
        (["genre=Drama"], OneOf("genre", ("Drama",))),
        (["genre=a=b"], OneOf("genre", ("a=b",))),
        (["genre!=Horror"], Not(OneOf("genre", ("Horror",)))),
        (["year=1990"], OneOf("year", ("1990", 1990.0))),
        (["year=1990..1999"], Range("year", 1990.0, 1999.0)),
        (["year=1990.."], Range("year", low=1990.0)),
        (["year=..1959"], Range("year", high=1959.0)),
        (["year!=1990..1999"], Not(Range("year", 1990.0, 1999.0))),
        (
            ["genre=Drama", "year=1990..", "genre!=War"],
            AllOf(
                (
                    OneOf("genre", ("Drama",)),
                    Range("year", low=1990.0),
                    Not(OneOf("genre", ("War",))),
                )
            ),
        ),
    ],
)
def test_read(texts: list[str], condition: Filter) -> None:
    read = read_conditions(texts)
    assert read is not None
    assert item_filter(read.message) == condition


def test_none() -> None:
    assert read_conditions([]) is None


@pytest.mark.parametrize("text", ["genre", "=Drama", "genre=", "!=x", "", "year=a..b"])
def test_mistakes(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is not a"):
        read_conditions([text])
