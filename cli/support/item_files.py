"""Reads items from files: JSON lines, or CSV as `tandem build` reads it."""

import csv
import gzip
import io
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO

from tandem import Item

STANDARD_INPUT: Final = Path("-")
FIELDS: Final = frozenset({"item_id", "title", "text", "attributes", "vector", "popularity"})
"""Of a JSON line. Popularity is what a bundle's catalog has too; a new item has none."""


class ItemFileError(Exception):
    """A file that does not hold items; the message says where and why."""


@dataclass(frozen=True)
class Columns:
    """What the columns of a CSV file are called."""

    item_id: str = "item_id"
    texts: Sequence[str] = ("text",)
    """Joined they are the text, and the first is the title."""
    attributes: Sequence[str] = ()
    """A column is numbers where all of its values are."""
    separator: str = ","
    value_separator: str = "|"
    """Between the values of one cell of an attribute."""


def is_csv(path: Path) -> bool:
    """Whether a file's name says that it is CSV (or TSV), gzipped or not."""
    return any(suffix in (".csv", ".tsv") for suffix in path.suffixes[-2:])


def read_lines(path: Path) -> Iterator[Item]:
    """Yields the items of a file of JSON lines, which may be gzipped, or of standard input.

    Raises:
        ItemFileError: a line is not an item.
    """
    with _opened(path) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                document = json.loads(line)
            except ValueError as error:
                raise ItemFileError(f"{path}, line {number}: not JSON: {error}") from None
            if problem := _problem(document):
                raise ItemFileError(f"{path}, line {number}: {problem}")
            yield Item(
                document["item_id"],
                document["text"],
                document.get("title", ""),
                document.get("attributes", {}),
                document.get("vector"),
            )


def read_csv(path: Path, columns: Columns) -> list[Item]:
    """Reads a CSV file with a header, which may be gzipped, or standard input.

    Raises:
        ItemFileError: a column is missing, or a row has no id or no text.
    """
    with _opened(path) as file:
        rows = csv.DictReader(file, delimiter=columns.separator, restval="")
        wanted = [columns.item_id, *columns.texts, *columns.attributes]
        if absent := [name for name in wanted if name not in (rows.fieldnames or ())]:
            there = ", ".join(rows.fieldnames or ()) or "none"
            raise ItemFileError(f"{path} has no column {absent[0]!r}; its columns are: {there}")
        table = list(rows)
    kinds = {name: _kind(table, name, columns) for name in columns.attributes}
    items = []
    for number, row in enumerate(table, start=2):
        texts = [text for name in columns.texts if (text := " ".join(row[name].split()))]
        item_id = row[columns.item_id].strip()
        if not item_id or not texts:
            raise ItemFileError(f"{path}, row {number}: no {'text' if item_id else 'id'}")
        attributes = {
            name: [kind(value) for value in values]
            for name, kind in kinds.items()
            if (values := _cell(row, name, columns))
        }
        items.append(Item(item_id, ". ".join(texts), texts[0], attributes))
    return items


def _kind(table: Sequence[dict[str, str]], name: str, columns: Columns) -> type[str] | type[float]:
    try:
        for row in table:
            for value in _cell(row, name, columns):
                float(value)
    except ValueError:
        return str
    return float


def _cell(row: dict[str, str], name: str, columns: Columns) -> list[str]:
    return [v.strip() for v in row[name].split(columns.value_separator) if v.strip()]


def _problem(document: Any) -> str | None:
    """What keeps a JSON document from being an item."""
    if not isinstance(document, dict):
        return "not a JSON object"
    if unknown := sorted(document.keys() - FIELDS):
        return f'unknown field {unknown[0]!r}; what filters look at goes under "attributes"'
    if not all(isinstance(document.get(name), str) for name in ("item_id", "text")):
        return '"item_id" and "text" must be there, and strings'
    if not isinstance(document.get("title", ""), str):
        return '"title" must be a string'
    attributes, vector = document.get("attributes", {}), document.get("vector")
    if not isinstance(attributes, dict) or not all(map(_is_value, attributes.values())):
        return '"attributes" must map names to texts, numbers, or lists of them'
    if vector is not None and not (isinstance(vector, list) and all(map(_is_number, vector))):
        return '"vector" must be a list of numbers'
    return None


def _is_value(value: object) -> bool:
    values = value if isinstance(value, list) else [value]
    return bool(values) and all(isinstance(v, str) or _is_number(v) for v in values)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    try:
        if path == STANDARD_INPUT:
            yield sys.stdin
        elif path.suffix == ".gz":
            with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
                assert isinstance(file, io.TextIOWrapper)  # noqa: S101 - what "rt" makes
                yield file
        else:
            with path.open(encoding="utf-8", newline="") as file:
                yield file
    except UnicodeDecodeError as error:
        raise ItemFileError(f"{path} is not UTF-8: {error}") from None
