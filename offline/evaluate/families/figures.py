"""The table of a family: rows of figures with their intervals, for people and as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from offline.bootstrap import bootstrap_ci

_WIDTH = 110


@dataclass(frozen=True)
class Figure:
    """A figure, and the 95% interval around it, if there is one."""

    value: float
    low: float | None = None
    high: float | None = None

    @classmethod
    def mean(cls, values: NDArray[np.float64]) -> "Figure":
        """The mean of some values, [examples], resampled as they are."""
        low, high = bootstrap_ci(values)
        return cls(float(values.mean()), float(low), float(high))

    def to_json(self) -> dict[str, float | None]:
        """With its interval."""
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class FamilyRow:
    """What one way of answering reaches."""

    name: str
    figures: Mapping[str, Figure]


@dataclass(frozen=True)
class FamilyReport:
    """The rows of a family, all of the same questions."""

    bundle: str
    dataset: str
    family: str
    split: str
    examples: int
    rows: Sequence[FamilyRow]
    notes: Sequence[str] = ()
    """What a reader must know: how it was asked, and what was chosen."""

    def to_json(self) -> dict[str, Any]:
        """What `tandem evaluate --family … --json` prints."""
        return {
            "bundle": self.bundle,
            "dataset": self.dataset,
            "family": self.family,
            "split": self.split,
            "examples": self.examples,
            "rows": [
                {"name": row.name, **{k: v.to_json() for k, v in row.figures.items()}}
                for row in self.rows
            ],
            "notes": list(self.notes),
        }


def print_family(report: FamilyReport, console: Console | None = None, digits: int = 3) -> None:
    """Prints the table, an interval below each figure."""
    console = console or Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)  # a log or a pipe: nothing to fit into
    title = (
        f"{report.family}: {report.bundle} on {report.examples:,} {report.split} examples of "
        f"{report.dataset}"
    )
    names = list(dict.fromkeys(name for row in report.rows for name in row.figures))
    table = Table("", title=title, box=None, pad_edge=False, header_style="bold")
    for name in names:
        table.add_column(name, justify="right")
    for row in report.rows:
        cells = (_cell(row.figures.get(name), digits) for name in names)
        table.add_row(row.name, *cells)
    console.print(table)
    for note in report.notes:
        console.print(note, highlight=False, soft_wrap=True)


def _cell(figure: Figure | None, digits: int) -> str:
    if figure is None:
        return "–"
    value = f"{figure.value:.{digits}f}"
    if figure.low is None or figure.high is None:
        return value
    return f"{value}\n[dim]{figure.low:.{digits}f}–{figure.high:.{digits}f}[/]"
