"""docs/architecture.md leads a newcomer to symbols that are there."""

import ast
import re
from collections.abc import Iterator

import pytest

from tests.deploy.dockerfile import REPOSITORY

DOCUMENT = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (.+\?) \| `(.+\.py)` \| `(.+)` \|$", DOCUMENT, re.MULTILINE)
STOPS = re.findall(r"^ +(\d)  (\S+\.py) +(\S+)$", DOCUMENT, re.MULTILINE)


def defined(body: list[ast.stmt], within: str = "") -> Iterator[str]:
    """Functions and classes by their qualified names."""
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield within + statement.name
        if isinstance(statement, ast.ClassDef):
            yield from defined(statement.body, f"{statement.name}.")


def test_every_question_is_answered() -> None:
    section = DOCUMENT.partition("## Where is …?")[2].partition("\n## ")[0]
    assert section.count("\n| ") - 2 == len(ROWS) >= 10


def test_a_call_comes_to_the_graph_in_eight_stops() -> None:
    assert [number for number, *_ in STOPS] == list("12345678")


@pytest.mark.parametrize(
    ("file", "symbol"), [row[1:] for row in ROWS + STOPS], ids=[row[0] for row in ROWS + STOPS]
)
def test_an_answer_is_defined_where_it_says(file: str, symbol: str) -> None:
    tree = ast.parse((REPOSITORY / file).read_text(encoding="utf-8"))
    assert symbol in defined(tree.body), f"{file} defines no {symbol}"
