"""Read a CSV, JSON lines or Parquet file that somebody else wrote, and say what is wrong with it.

The kind of file is told by its content, not its name: Parquet, or text, gzipped or not. Text is
UTF-8, with or without a byte order mark, unless another encoding is given: JSON lines where it
starts with a brace, and else CSV with a header. What separates its cells is told by the header and
the first rows. Every cell of a CSV file is read as text; what it means is decided where it is used,
so that an error can name its row and column.
"""

from __future__ import annotations

import csv
import difflib
import gzip
import io
import zlib
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import polars as pl

from offline.dataset.encoding import UTF8, to_utf8
from offline.dataset.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

__all__ = ["Table", "read_table"]

PARQUET_MAGIC = b"PAR1"
GZIP_MAGIC = b"\x1f\x8b"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
SAMPLE_ROWS = 100
"""Rows from which a separator is told."""


@dataclass(frozen=True)
class Table:
    """The columns asked for of one file.

    Attributes:
        path: Where it was read from.
        frame: One row per record.
        first_row: The number a person gives to `frame`'s first row.
        header: The names of all columns of the file, those that were not asked for too.
    """

    path: Path
    frame: pl.DataFrame
    first_row: int
    header: tuple[str, ...] = ()

    def place(self, index: int) -> str:
        """Name a row of `frame`, for people."""
        return f"row {index + self.first_row:,}"

    def error(self, problem: str, index: int, column: str) -> DataError:
        """Build the error about one cell."""
        return DataError.at(problem, file=self.path, row=index + self.first_row, column=column)

    def ids(self, column: str) -> pl.Series:
        """The cells of a column as ids, without spaces around them; a missing one is an error."""
        cells = self.frame[column]
        if cells.dtype.is_float() and (cells.drop_nulls() % 1 == 0).all():
            cells = cells.cast(pl.Int64)  # what pandas makes of whole numbers with gaps
        ids = cells.cast(pl.String).str.strip_chars()
        self.require(column, ids != "", "the id is missing")
        return ids

    def require_column(self, column: str) -> None:
        """Raise an error where a column is missing that others make necessary."""
        if column not in self.frame.columns:
            raise DataError.at(_missing(column, self.header), file=self.path)

    def require(self, column: str, fine: pl.Series, problem: str) -> None:
        """Raise an error about the first cell that is not fine.

        Args:
            column: Whose cells were looked at.
            fine: `[rows]` booleans; null is not fine.
            problem: What to say; `{}` stands for the cell.
        """
        wrong = (~fine.fill_null(value=False)).arg_true()
        if len(wrong):
            index = int(wrong[0])
            raise self.error(problem.format(repr(self.frame[column][index])), index, column)


def read_table(
    path: Path,
    columns: Sequence[str],
    separator: str | None = None,
    encoding: str = UTF8,
    *,
    optional: Sequence[str] = (),
) -> Table:
    r"""Read `columns` of a file.

    Args:
        path: A Parquet file, or one of JSON lines or CSV, which may be gzipped.
        columns: Names that must be in the header; the others are left out.
        optional: Names that are read where they are in the header.
        separator: Between a CSV file's cells, one character (`"\\t"` may be spelled out); by
            default that of commas, semicolons, tabs and vertical bars which finds the columns.
        encoding: Of a CSV file, by a name that Python knows.

    Returns:
        CSV cells are text, stripped, null when empty. Other cells keep their type.

    Raises:
        DataError: The file is missing, empty, damaged, of another encoding, ragged, or lacks a
            column.
    """
    raw = _contents(path)
    if raw.startswith(PARQUET_MAGIC):
        return _read_parquet(path, raw, columns, optional)
    raw = to_utf8(path, raw, encoding).removeprefix(BYTE_ORDER_MARK)
    if raw.startswith(b"{"):
        return _read_json_lines(path, raw, columns, optional)
    raw = raw.rstrip(b"\r\n")  # blank lines at the end are no rows
    if separator is None:
        return _read_csv(path, raw, columns, optional, _told_separator(raw, columns))
    separator = separator.replace("\\t", "\t")
    if len(separator.encode()) != 1 or separator in '"\r\n':
        raise DataError(f"the separator must be one ASCII character, not {separator!r}")
    return _read_csv(path, raw, columns, optional, separator)


def _told_separator(raw: bytes, columns: Sequence[str]) -> str:
    """The separator by which the header has most of the columns, and rows are as wide as it."""

    def fit(separator: str) -> tuple[int, int]:
        header: list[str] = []
        fitting = 0
        with suppress(csv.Error):  # reading the whole file will say where a quote is not closed
            for row in islice(_records(raw, separator), SAMPLE_ROWS):
                header = header or row
                fitting += len(row) == len(header)
        return len({name.strip() for name in header}.intersection(columns)), fitting

    return max(SEPARATORS, key=fit)


def _contents(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
        if raw.startswith(GZIP_MAGIC):
            raw = gzip.decompress(raw)
    except FileNotFoundError:
        raise DataError.at("there is no such file", file=path) from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError.at(f"the gzip file is damaged ({error})", file=path) from error
    except OSError as error:
        raise DataError.at(f"cannot be read ({error.strerror or error})", file=path) from error
    if not raw.strip():
        raise DataError.at("the file is empty", file=path)
    return raw


def _read_parquet(path: Path, raw: bytes, columns: Sequence[str], optional: Sequence[str]) -> Table:
    try:
        header = list(pl.read_parquet_schema(io.BytesIO(raw)))
        _check_header(path, header, columns)
        columns = [*columns, *(name for name in optional if name in header)]
        frame = pl.read_parquet(io.BytesIO(raw), columns=list(dict.fromkeys(columns)))
    except pl.exceptions.PolarsError as error:
        raise DataError.at(f"the Parquet file is damaged ({error})", file=path) from error
    return _nonempty(Table(path, frame, first_row=1, header=tuple(header)))


def _read_json_lines(
    path: Path, raw: bytes, columns: Sequence[str], optional: Sequence[str]
) -> Table:
    try:
        frame = pl.read_ndjson(io.BytesIO(raw), infer_schema_length=None)
    except (pl.exceptions.PolarsError, UnicodeDecodeError) as error:
        raise DataError.at(f"not JSON lines ({error})", file=path) from error
    _check_header(path, frame.columns, columns)
    columns = [*columns, *(name for name in optional if name in frame.columns)]
    kept = frame.select(list(dict.fromkeys(columns)))
    return _nonempty(Table(path, kept, first_row=1, header=tuple(frame.columns)))


def _read_csv(
    path: Path, raw: bytes, columns: Sequence[str], optional: Sequence[str], separator: str
) -> Table:
    header = [name.strip() for name in next(_records(raw, separator))]
    columns = [*columns, *(name for name in optional if name in header)]
    _check_header(path, header, columns, separator)
    try:
        frame = pl.read_csv(raw, separator=separator, infer_schema=False)
    except pl.exceptions.PolarsError as error:
        raise _ragged(path, raw, separator, len(header)) or DataError.at(
            f"not a CSV file ({error})", file=path
        ) from error
    frame.columns = [f"{i}" for i in range(len(header))]  # a header may name a column twice
    cells = (pl.col(f"{header.index(name)}").alias(name) for name in dict.fromkeys(columns))
    frame = frame.select(cells).with_columns(pl.all().str.strip_chars().replace("", None))
    return _nonempty(Table(path, frame, first_row=2, header=tuple(header)))


def _nonempty(table: Table) -> Table:
    if table.frame.is_empty():
        raise DataError.at("there is a header but no row below it", file=table.path)
    return table


def _records(raw: bytes, separator: str) -> Iterator[list[str]]:
    text = io.TextIOWrapper(io.BytesIO(raw), encoding="utf-8", newline="")
    return csv.reader(text, delimiter=separator, strict=True)


def _check_header(
    path: Path, header: Sequence[str], columns: Sequence[str], separator: str | None = None
) -> None:
    for name in columns:
        if header.count(name) > 1:
            problem = f"{header.count(name)} columns have this name: give each its own"
            raise DataError.at(problem, file=path, row=1, column=name)
        if name in header:
            continue
        if separator and len(header) == 1:
            others = (other for other in SEPARATORS if other != separator and other in header[0])
            if (likely := next(others, None)) is not None:
                kind, this = SEPARATORS[likely], SEPARATORS.get(separator, repr(separator))
                problem = f"the cells are separated by {kind}, not {this}: set the separator"
                raise DataError.at(f"{problem} to {likely!r}", file=path, row=1)
        raise DataError.at(_missing(name, header), file=path, row=1 if separator else None)


def _missing(name: str, header: Sequence[str]) -> str:
    folded = {known.casefold(): known for known in header}
    near = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.5)
    guess = f"; did you mean {folded[near[0]]!r}?" if near else ""
    return f"there is no column {name!r} among {', '.join(map(repr, header))}{guess}"


def _ragged(path: Path, raw: bytes, separator: str, width: int) -> DataError | None:
    """Find the record that polars stumbled over, which it does not name."""
    number = 0
    try:
        for number, cells in enumerate(_records(raw, separator), start=1):
            if len(cells) > width:
                problem = f"{len(cells)} cells where the header has {width}: quote the text"
                return DataError.at(problem, file=path, row=number, column=f"{width + 1}")
    except csv.Error as error:
        return DataError.at(f"a quote is not closed ({error})", file=path, row=number + 1)
    return None
