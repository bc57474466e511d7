"""Text of items that a language model wrote, and how it is told from what their owner wrote.

`tandem enrich` writes it into columns of its own beside the item table's. A build puts it below the
first line of an item's text, which has one line otherwise, and names the model in the attribute
`generated_text`. So it can be seen and filtered by, and taken out again, wherever the item goes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from offline.dataset.encoding import UTF8
from offline.dataset.errors import DataError
from offline.dataset.table import Table, read_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from offline.dataset.schema import Item

__all__ = [
    "GENERATED_BY",
    "GENERATED_TEXT",
    "Generated",
    "generated_cells",
    "read_generated",
    "with_generated",
]

GENERATED_TEXT: Final = "generated_text"
"""The column of the text, and the attribute that marks an item that has one."""
GENERATED_BY: Final = "generated_by"
"""The column of the model's name."""


@dataclass(frozen=True)
class Generated:
    """What a model wrote about an item.

    Attributes:
        text: In one line.
        by: The model's name.
    """

    text: str
    by: str

    def added_to(self, item: Item) -> Item:
        """The item with it.

        Raises:
            DataError: The item has an attribute by the name of the mark.
        """
        if GENERATED_TEXT in item.attributes:
            raise DataError(
                f"item {item.item_id!r} has an attribute {GENERATED_TEXT!r}, by which the build "
                "marks generated text: leave that attribute column out"
            )
        attributes = {**item.attributes, GENERATED_TEXT: (self.by,)}
        return replace(item, text=f"{item.text}\n{self.text}", attributes=attributes)


def generated_cells(table: Table) -> list[Generated | None]:
    """What the rows of an item table have of it; None where they, or the table, have nothing."""
    if GENERATED_TEXT not in table.frame.columns:
        return [None] * table.frame.height
    table.require_column(GENERATED_BY)
    rows = table.frame.select(GENERATED_TEXT, GENERATED_BY).rows()
    cells: list[Generated | None] = []
    for index, (text, by) in enumerate(rows):
        if text is None or not str(text).strip():
            cells.append(None)
        elif by is None or not str(by).strip():
            raise table.error("generated text needs the name of its model", index, GENERATED_BY)
        else:
            cells.append(Generated(" ".join(str(text).split()), str(by).strip()))
    return cells


def read_generated(
    path: Path, id_column: str = "item_id", separator: str | None = None, encoding: str = UTF8
) -> dict[str, Generated]:
    """Read the generated text of a table that `tandem enrich` wrote, by item id.

    Raises:
        DataError: The file lacks the columns, or something cannot be read.
    """
    table = read_table(path, [id_column, GENERATED_TEXT, GENERATED_BY], separator, encoding)
    return {
        item_id: cell
        for item_id, cell in zip(table.ids(id_column), generated_cells(table), strict=True)
        if cell is not None
    }


def with_generated(
    items: Iterable[Item], generated: Mapping[str, Generated], but: Mapping[str, Item]
) -> tuple[Item, ...]:
    """Items with what was written about them.

    Args:
        items: A catalog.
        generated: By item id.
        but: Items that have other texts by now.
    """
    return tuple(
        generated[item.item_id].added_to(item)
        if item.item_id in generated and item.item_id not in but
        else item
        for item in items
    )
