"""Events as a Parquet file: what training learns from, and what propensities are estimated from."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import polars as pl
from polars.io.plugins import register_io_source

from gateway.history.event import Event
from serving.files.replacing import replacing

SCHEMA: Final = pl.Schema(
    {
        "user_id": pl.String(),
        "item_id": pl.String(),
        "type": pl.String(),
        "value": pl.Float64(),
        "timestamp": pl.Datetime("us", "UTC"),
        "event_id": pl.String(),
        # Of the answer that it came of; null where that is not known.
        "recommendation_id": pl.String(),
        "strategy": pl.String(),
        "position": pl.Int32(),
        "score": pl.Float64(),
        "variant": pl.String(),
        "bundle_version": pl.String(),
    }
)


def write_events(pages: Iterable[list[Event]], path: Path) -> int:
    """Writes events as they come, with a page in memory at a time; the file is whole or not there.

    Args:
        pages: of events.
        path: of the file, which is replaced if it is there.

    Returns:
        How many events there are.
    """
    count = 0

    def frames(
        columns: list[str] | None, predicate: Any, rows: int | None, _: int | None
    ) -> Iterator[pl.DataFrame]:
        assert columns is predicate is rows is None  # noqa: S101 - nothing but writing asks
        nonlocal count
        for page in pages:
            count += len(page)
            yield to_frame(page)

    with replacing(path) as temporary:
        register_io_source(frames, schema=SCHEMA).sink_parquet(temporary, maintain_order=True)
    return count


def to_frame(events: Iterable[Event]) -> pl.DataFrame:
    """A table of events."""
    return pl.DataFrame(map(_row, events), schema=SCHEMA, orient="row")


def _row(event: Event) -> tuple[Any, ...]:
    shown = event.shown
    answer: tuple[Any, ...] = (None,) * 2 if shown is None else (
        shown.recommendation, shown.strategy,
    )  # fmt: skip
    made = (None,) * 3 if shown is None else (shown.score, shown.variant, shown.bundle_version)
    return (
        event.user_id,
        event.item_id,
        event.type,
        event.value,
        event.time,
        event.event_id,
        *answer,
        event.place or None,
        *made,
    )
