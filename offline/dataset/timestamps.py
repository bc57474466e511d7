"""When interactions happened: numbers of one unit, or ISO 8601 dates."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from offline.dataset.table import Table

__all__ = ["microseconds", "read_timestamps"]

# Tried in turn, with "T" read as a space and "Z" as "+00:00"; a time without a zone is UTC.
DATE_FORMATS: Final = (
    "%Y-%m-%d %H:%M:%S%.f%#z",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%d",
)
LARGEST: Final = 2.0**63
PER_SECOND: Final = {"seconds": 1.0, "milliseconds": 1e3, "microseconds": 1e6, "nanoseconds": 1e9}
EARLIEST: Final = 631_152_000
"""The year 1990, in seconds since 1970. What a unit makes a time from here to `LATEST` is likely of
that unit: these ranges do not touch, and positions in a sequence are below all of them."""
LATEST: Final = 4_102_444_800
"""The year 2100."""
_DAY: Final = 86_400


def read_timestamps(table: Table, column: str, notices: list[str]) -> pl.Series:
    """Whole numbers where the cells are, else fractions, else microseconds since 1970.

    Args:
        table: The interactions.
        column: Which has the timestamps.
        notices: Times in the future are told here: they are kept, and come last in a history.

    Raises:
        DataError: A cell has no timestamp, or one of another unit than the cells before it.
    """
    times, unit = _read(table, column)
    if unit is None:
        unit = _unit(table, column, times)
    if unit is not None:
        limit = (time.time() + _DAY) * PER_SECOND[unit]
        if len(late := (times > limit).arg_true()):
            first = table.frame[column][int(late[0])]
            notices.append(
                f"{len(late):,} of {len(times):,} interactions are in the future; the first is "
                f"{table.place(int(late[0]))}: {first}"
            )
    return times


def microseconds(times: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """What `read_timestamps` gave as microseconds since 1970, those before as 0.

    None for numbers that are too small for times of any unit, such as positions.
    """
    for unit, per_second in PER_SECOND.items():
        if _likely(times, unit).any():
            up, down = max(1, int(1e6 / per_second)), max(1, int(per_second / 1e6))
            limit = np.iinfo(np.int64).max // up
            return np.clip(times, 0, limit) * up // down
    return None


def _read(table: Table, column: str) -> tuple[pl.Series, str | None]:
    """The timestamps, and their unit where the kind of the cells says it."""
    cells = table.frame[column]
    if cells.dtype in (pl.Date, pl.Datetime):
        times = cells.dt.epoch("us")
        table.require(column, times.is_not_null(), "the timestamp is missing")
        return times, "microseconds"
    whole = cells.cast(pl.Int64, strict=False) if not cells.dtype.is_float() else cells
    if not whole.has_nulls() and whole.dtype == pl.Int64:
        return whole, None
    if cells.dtype == pl.String and (times := _dates(cells)).is_not_null().any():
        table.require(column, times.is_not_null(), "{} is not an ISO 8601 date like the others")
        return times, "microseconds"
    numbers = cells.cast(pl.Float64, strict=False)
    table.require(
        column,
        numbers.is_finite() & (numbers.abs() < LARGEST),
        "the timestamp {} is neither a number nor an ISO 8601 date",
    )
    return numbers, None


def _unit(table: Table, column: str, times: pl.Series) -> str | None:
    """The unit of numbers by their size; None for what is too small for any, such as positions.

    Raises:
        DataError: Some are of one unit and some of another.
    """
    rows = {unit: _likely(times, unit).arg_true() for unit in PER_SECOND}
    units = sorted((unit for unit in rows if len(rows[unit])), key=lambda unit: -len(rows[unit]))
    if len(units) > 1:
        most, other = units[:2]
        index, usual = int(rows[other][0]), int(rows[most][0])
        raise table.error(
            f"the timestamp {table.frame[column][index]} is likely in {other}, and that of "
            f"{table.place(usual)}, {table.frame[column][usual]}, in {most}: use one unit",
            index,
            column,
        )
    return units[0] if units else None


def _likely(times: Any, unit: str) -> Any:
    """Which of some numbers, as polars or numpy has them, are likely times of a unit."""
    per_second = PER_SECOND[unit]
    return (times >= EARLIEST * per_second) & (times < LATEST * per_second)


def _dates(cells: pl.Series) -> pl.Series:
    """Microseconds since 1970, null for what is no date."""
    plain = cells.str.replace("T", " ", literal=True).str.replace("Z$", "+00:00")
    utc = pl.Datetime("us", "UTC")
    parsed = [
        pl.col("cell").str.to_datetime(format_, strict=False, time_unit="us", time_zone="UTC")
        if "z" in format_
        else pl.col("cell")
        .str.to_datetime(format_, strict=False, time_unit="us")
        .dt.replace_time_zone("UTC")
        for format_ in DATE_FORMATS
    ]
    times = plain.alias("cell").to_frame().select(pl.coalesce(parsed).cast(utc).dt.epoch("us"))
    return times.to_series()
