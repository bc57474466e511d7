"""Soaks the whole system, prints the figures and says what was wrong.

    python -m tests.robustness.operate --minutes 60 --bundle bundles/ml-100k/current

Exit code 1 when a call failed, an answer was of two versions, what was acknowledged is lost, or
memory or p99 grew by more than is allowed. The report is written while it goes on, so that whoever
ends it early has the figures until then. A soak is of processes that live through all of it: after
an end it begins anew.
"""

import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from bench.lib.report import environment, write_report
from bench.operate.swaps import all_three
from tests.robustness.operate.bundles import versions
from tests.robustness.operate.run import Plan, Soaked, knee, soak

REPORT_SECONDS: Final = 10.0


class Report:
    """Shows how far a soak is, and keeps `build/bench/soak-operate.json` up to date.

    Args:
        minutes: that the soak takes.
        console: to print to.
    """

    def __init__(self, minutes: float, console: Console) -> None:
        self.soaked: Soaked | None = None
        self._minutes = minutes
        self._console = console
        self._written = 0.0
        columns = (BarColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
        self.bar = Progress(*columns, console=console)
        self._task = self.bar.add_task("starting", total=1.0)

    def progress(self, soaked: Soaked) -> float:
        """Which share is over."""
        return (perf_counter() - soaked.began) / (self._minutes * 60)

    def show(self, share: float, soaked: Soaked) -> None:
        """Called again and again while it goes on."""
        self.soaked = soaked
        failed, swaps = soaked.tally.failures.total(), soaked.swaps
        text = f"{soaked.tally.calls.total():,} calls, {failed} failed, {swaps} swaps"
        self.bar.update(self._task, completed=share, description=text)
        if perf_counter() - self._written > REPORT_SECONDS:
            self.write()

    def write(self) -> None:
        """Writes what there is so far."""
        self._written = perf_counter()
        if self.soaked is not None:
            figures = {**self.soaked.figures(), "faults": self.soaked.faults()}
            write_report("soak-operate", figures, environment())

    def print(self, plan: Plan, exceeded: list[str]) -> None:
        """All figures, what was wrong, and a line that says it all."""
        if self.soaked is None:
            return
        soaked, figures = self.soaked, self.soaked.figures()
        table = Table(f"{plan.rate:.3g} calls/s", "", box=None, header_style="bold")
        for name, value in figures.items():
            text = f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
            table.add_row(name.replace("_", " "), text)
        self._console.print(table)
        for fault in (*soaked.faults(), *exceeded):
            self._console.print(f"[red]{fault}", highlight=False, soft_wrap=True)
        self._console.print(closing_line(figures), highlight=False, soft_wrap=True)


def closing_line(figures: dict[str, float | int]) -> str:
    """What a soak came to."""
    return (
        "soak: {minutes:.1f} minutes, {calls:,} calls, {failed_calls} failed, "
        "{answers_of_two_versions} of two versions, {swaps} swaps, {changes} changes, "
        "{clients_cut_off} clients cut off, {wrong_in_the_end} wrong in the end; "
        "memory {memory_growth_mb:+.0f} MB; p99 {p99_second_tenth_ms:.0f} ms in the second tenth, "
        "{p99_last_tenth_ms:.0f} in the last, drift {p99_drift:+.0%} "
        "({p99_drift_at_least:+.0%} to {p99_drift_at_most:+.0%})"
    ).format(**figures)


def exceeded(soaked: Soaked, most_growth_mb: float, most_drift: float) -> list[str]:
    """Which of the limits are."""
    found = []
    if soaked.growth_mb > most_growth_mb:
        found.append(f"memory grew by {soaked.growth_mb:.0f} MB, over {most_growth_mb:g}")
    if soaked.drift.low > most_drift:
        found.append(f"p99 grew by {soaked.drift.low:.0%} or more, over {most_drift:.0%}")
    return found


@contextmanager
def printed(report: Report, plan: Plan, *limits: float) -> Iterator[None]:
    """Prints the report after the block, also when that was interrupted.

    Raises:
        Exit: with 1 when something was wrong or more than is allowed.
    """
    try:
        yield
    finally:
        report.write()
        over = exceeded(report.soaked, *limits) if report.soaked else ["it never began"]
        report.print(plan, over)
    if over or (report.soaked and report.soaked.faults()):
        raise typer.Exit(1)


def main(
    bundle: Annotated[
        Path | None, typer.Option(help="What is served; otherwise small ones are made up.")
    ] = None,
    minutes: Annotated[float, typer.Option(help="How long.", min=0.1)] = 60.0,
    rate: Annotated[float, typer.Option(help="Calls a second.", min=1)] = Plan.rate,
    share: Annotated[
        float,
        typer.Option(help="Of what the callers reach without a pause, as the rate.", min=0, max=1),
    ] = 0.0,
    swap_seconds: Annotated[float, typer.Option(help="From swap to swap.")] = Plan.swap_seconds,
    changes_per_second: Annotated[
        float, typer.Option(help="Of the catalog.", min=0.01)
    ] = Plan.changes_per_second,
    cuts_per_second: Annotated[
        float, typer.Option(help="Of connections.", min=0.01)
    ] = Plan.cuts_per_second,
    most_growth_mb: Annotated[
        float, typer.Option(help="Of all memory, from the second tenth of the time to the last.")
    ] = 100.0,
    most_drift: Annotated[
        float, typer.Option(help="Of p99, as a share; passed when it is so with 95% confidence.")
    ] = 0.1,
    seed: Annotated[int, typer.Option(help="Of all that is random.")] = Plan.seed,
) -> None:
    """Soak all three processes while versions, items and connections come and go."""
    plan = Plan(
        rate=rate,
        swap_seconds=swap_seconds,
        changes_per_second=changes_per_second,
        cuts_per_second=cuts_per_second,
        seed=seed,
    )
    report = Report(minutes, Console())
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        paths = versions(bundle, root)
        names = [f"{path.parent.name}/{path.name}" for path in paths]
        with all_three(paths[0], root, root / "histories.db") as processes:
            if share:
                plan = replace(plan, rate=share * asyncio.run(knee(processes, plan)))
            with printed(report, plan, most_growth_mb, most_drift), report.bar:
                asyncio.run(soak(processes, names, plan, report.progress, report.show))


if __name__ == "__main__":
    typer.run(main)
