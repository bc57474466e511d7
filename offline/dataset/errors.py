"""What can be wrong with data, said so that its owner can mend it."""

from __future__ import annotations

__all__ = ["DataError", "DataWarning"]


class DataError(ValueError):
    """Data that cannot be used.

    The message names the place as far as it is known (`file, row, column`) and what to do.
    In a CSV file the header is row 1, as an editor or a spreadsheet counts; in a Parquet file
    the first record is row 1.
    """

    @classmethod
    def at(
        cls, problem: str, *, file: object, row: int | None = None, column: str | None = None
    ) -> DataError:
        """Build the error for one place in one file."""
        place = [str(file)]
        if row is not None:
            place.append(f"row {row:,}")
        if column is not None:
            place.append(f"column {column!r}")
        return cls(f"{', '.join(place)}: {problem}")


class DataWarning(UserWarning):
    """Something in the data that was set right or left out, with a count."""
