"""Checking what a call says of several lists that it asks for at once."""

from collections.abc import Sequence
from typing import Final

from core.errors import InvalidArgument
from serving.validation import item_ids
from tandem.v1 import common_pb2

MAX_ROWS: Final = 20
MAX_NAME_BYTES: Final = 64
MAX_ROW_EXCLUDED: Final = 8_000
"""With what the rows before show, 100 items each, no more than any list may exclude."""


def check_rows(rows: Sequence[common_pb2.RowRequest]) -> None:
    """Checks how many rows there are, their names, and how much each excludes.

    Raises:
        InvalidArgument: reason NO_ROWS, TOO_MANY_ROWS or ROW_NAME, or as of `item_ids`.
    """
    names = [row.name for row in rows]
    if not names:
        raise InvalidArgument("there are no rows; ask for some", reason="NO_ROWS")
    if len(names) > MAX_ROWS:
        raise InvalidArgument(
            f"there are {len(names)} rows; ask for at most {MAX_ROWS}",
            reason="TOO_MANY_ROWS",
            limit=str(MAX_ROWS),
        )
    if any(not 0 < len(name.encode()) <= MAX_NAME_BYTES for name in names):
        raise InvalidArgument(
            f"a row needs a name of 1 to {MAX_NAME_BYTES} bytes", reason="ROW_NAME"
        )
    if len(set(names)) < len(names):
        raise InvalidArgument("two rows have the same name", reason="ROW_NAME")
    for row in rows:
        excluded = row.constraints.excluded_item_ids
        item_ids(excluded, field="excluded_item_ids", limit=MAX_ROW_EXCLUDED)
