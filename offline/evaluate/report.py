"""One table and one JSON of everything that a bundle reaches."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table

from offline.evaluate.parts import baseline_rows, generator_rows, retrieval_rows
from offline.evaluate.protocol import METRICS, RECALLS, Question, Split, questions
from offline.evaluate.served import pipeline_rows
from offline.metrics import Row
from runtime.bundle import Bundle
from services.generator.engine import GeneratorEngine

_WIDTH = 110
_LISTS_PER_QUESTION = 14
"""Seven rows, each filtered and unfiltered."""


@dataclass(frozen=True)
class Report:
    """The rows of an evaluation, and what they are about."""

    bundle: str
    dataset: str
    split: Split
    rows: Sequence[Row]

    def to_json(self) -> dict[str, Any]:
        """What `tandem evaluate --json` prints."""
        return {
            "bundle": self.bundle,
            "dataset": self.dataset,
            "split": self.split,
            "rows": [row.to_json() for row in self.rows],
        }


def evaluate_bundle(bundle: Bundle, split: Split = "test", users: int | None = None) -> Report:
    """Evaluates every part of a bundle, and the bundle as it is served.

    Args:
        bundle: what to evaluate.
        split: the test items, or the validation items.
        users: the first so many; all by default.
    """
    asked = questions(bundle, split)[:users]
    with Progress(transient=True) as progress:
        task = progress.add_task("Evaluating", total=_LISTS_PER_QUESTION * len(asked))
        rows = _all_rows(bundle, asked, progress, task)
    return Report(bundle.version, bundle.manifest.provenance.dataset, split, rows)


def _all_rows(
    bundle: Bundle, asked: Sequence[Question], progress: Progress, task: TaskID
) -> list[Row]:
    def advance(count: int) -> None:
        progress.advance(task, count)

    generator = GeneratorEngine.load(bundle)
    return [
        *baseline_rows(bundle, asked, advance),
        *retrieval_rows(bundle, asked, advance),
        *generator_rows(bundle, generator, asked, advance),
        *pipeline_rows(bundle, asked, advance),
    ]


def print_report(report: Report, console: Console | None = None) -> None:
    """Prints the table, with 95% confidence intervals of the metrics at 10."""
    console = console or Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)  # a log or a pipe: nothing to fit into
    users = report.rows[0].users if report.rows else 0
    title = f"{report.bundle} on the {report.split} items of {report.dataset}, {users} users"
    table = Table("", "", title=title, box=None, pad_edge=False, header_style="bold")
    for metric in METRICS:
        table.add_column(metric.upper(), justify="right", no_wrap=True)
    for row in report.rows:
        table.add_row(row.name, row.ranking, *(_cell(row, metric) for metric in METRICS))
    console.print(table)
    for row in report.rows:
        if recalls := [
            f"{name} {_short(row.metrics[name])}" for name in RECALLS if name in row.metrics
        ]:
            console.print(f"{row.name}, {row.ranking}: {', '.join(recalls)}", highlight=False)


def _cell(row: Row, metric: str) -> str:
    value = _short(row.metrics[metric], digits=4)
    if metric not in ("hr@10", "ndcg@10"):
        return value
    low, high = row.ci95[metric]
    return f"{value} [dim]({_short(low)}–{_short(high)})[/]"


def _short(value: float, digits: int = 3) -> str:
    """A share without its leading zero, as the field's tables have it."""
    return f"{value:.{digits}f}".removeprefix("0")
