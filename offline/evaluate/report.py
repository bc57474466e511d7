"""One table and one JSON of everything that a bundle reaches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table

from core.bundle import Bundle
from offline.evaluate.agreement import TOLERANCE, Agreement
from offline.evaluate.in_process import pipeline_lists
from offline.evaluate.parts import baseline_rows, generator_rows, retrieval_rows
from offline.evaluate.protocol import (
    RANKINGS,
    RECALLS,
    WHOLE,
    Question,
    RankedList,
    Split,
    questions,
    row,
    sample,
)
from offline.evaluate.served import served_lists
from offline.metrics import Ranking, Row
from services.generator.decoding.engine import GeneratorEngine

_WIDTH = 110
_LISTS_PER_QUESTION = 17
"""Eight rows, each filtered and unfiltered, and `generator/untold`; one row more is of those who
are asked of processes."""
SERVED_USERS = 300
"""Users whose lists are asked of the processes: enough to see whether these do what the engines
do, for which `pipeline/offline` speaks, of all users."""


@dataclass(frozen=True)
class Report:
    """The rows of an evaluation, and what they are about."""

    bundle: str
    dataset: str
    split: Split
    rows: Sequence[Row]
    agreement: Agreement
    """Between the processes and the engines alone."""

    def to_json(self) -> dict[str, Any]:
        """What `tandem evaluate --json` prints."""
        return {
            "bundle": self.bundle,
            "dataset": self.dataset,
            "split": self.split,
            "rows": [line.to_json() for line in self.rows],
            "served_as_offline": self.agreement.to_json(),
        }


def evaluate_bundle(
    bundle: Bundle,
    split: Split = "test",
    users: int | None = None,
    served_users: int | None = SERVED_USERS,
) -> Report:
    """Evaluates every part of a bundle, and the bundle as it is served.

    Args:
        bundle: what to evaluate.
        split: the test items, or the validation items.
        users: the first so many; all by default.
        served_users: so many of them, picked at random, are asked of the real processes; all when
            None.
    """
    asked = questions(bundle, split)[:users]
    served = sample(asked, served_users)
    total = _LISTS_PER_QUESTION * len(asked) + len(RANKINGS) * len(served)
    with Progress(transient=True) as progress:
        task = progress.add_task("Evaluating", total=total)
        rows, agreement = _evaluate(bundle, asked, served, progress, task)
    return Report(bundle.version, bundle.manifest.provenance.dataset, split, rows, agreement)


def _evaluate(
    bundle: Bundle,
    asked: Sequence[Question],
    served: Sequence[int],
    progress: Progress,
    task: TaskID,
) -> tuple[list[Row], Agreement]:
    def advance(count: int) -> None:
        progress.advance(task, count)

    generator = GeneratorEngine.load(bundle)
    rows = [
        *baseline_rows(bundle, asked, advance),
        *retrieval_rows(bundle, asked, advance),
        *generator_rows(bundle, generator, asked, advance),
    ]
    offline = pipeline_lists(bundle, generator, asked, advance)
    picked = [asked[place] for place in served]
    online = served_lists(bundle, picked, advance)
    rows += _rows("pipeline/offline", asked, offline) + _rows("pipeline", picked, online)
    same = {ranking: [lists[place] for place in served] for ranking, lists in offline.items()}
    return rows, Agreement.of(same, online)


def _rows(
    name: str, asked: Sequence[Question], lists: Mapping[Ranking, Sequence[RankedList]]
) -> list[Row]:
    return [
        row(name, ranking, asked, [answer.items for answer in lists[ranking]])
        for ranking in RANKINGS
    ]


def print_report(report: Report, console: Console | None = None) -> None:
    """Prints the table, with 95% confidence intervals of the metrics at 10."""
    console = console or Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)  # a log or a pipe: nothing to fit into
    users = report.rows[0].users if report.rows else 0
    title = f"{report.bundle} on the {report.split} items of {report.dataset}, {users:,} users"
    table = Table("", "", title=title, box=None, pad_edge=False, header_style="bold")
    for metric in WHOLE:
        table.add_column(metric.upper(), justify="right", no_wrap=True)
    for line in report.rows:
        name = line.name if line.users == users else f"{line.name}, {line.users:,} users"
        table.add_row(name, line.ranking, *(_cell(line, metric) for metric in WHOLE))
    console.print(table)
    for line in report.rows:
        if recalls := [
            f"{name} {_short(line.metrics[name])}" for name in RECALLS if name in line.metrics
        ]:
            console.print(f"{line.name}, {line.ranking}: {', '.join(recalls)}", highlight=False)
    agreement = report.agreement
    console.print(
        f"{agreement.equal:,} of {agreement.lists:,} lists of the processes ({agreement.share:.1%})"
        f" are those of pipeline/offline, scores within {TOLERANCE:g}",
        highlight=False,
    )


def _cell(row: Row, metric: str) -> str:
    if metric not in row.metrics:
        return "–"  # of a list that is cut
    value = _short(row.metrics[metric], digits=4)
    if metric not in ("hr@10", "ndcg@10"):
        return value
    low, high = row.ci95[metric]
    return f"{value} [dim]({_short(low)}–{_short(high)})[/]"


def _short(value: float, digits: int = 3) -> str:
    """A share without its leading zero, as the field's tables have it."""
    return f"{value:.{digits}f}".removeprefix("0")
