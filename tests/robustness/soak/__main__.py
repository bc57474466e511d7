"""Soaks the generator service for minutes, prints the figures and says what was wrong.

    python -m tests.robustness.soak --help

Exit code 1 when an answer was wrong, or memory grew.
"""

import asyncio
import tempfile
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from bench.lib.report import environment, write_report
from core.manifest import Precision
from services.generator.decoding.providers import Device
from tests.robustness.soak.callers import Tally
from tests.robustness.soak.run import Plan, Soaked, soak

MOST_GROWTH: Final = 0.05
"""Of memory, from a fifth of the soak to its end."""


def main(
    minutes: Annotated[float, typer.Option(help="How long.", min=0.05)] = 10.0,
    precision: Annotated[Precision, typer.Option(help="Of the model.")] = Plan.precision,
    device: Annotated[Device, typer.Option(help="Where the model runs.")] = Plan.device,
    threads: Annotated[int, typer.Option(help="Of the server; 0: one per core.")] = Plan.threads,
    items: Annotated[int, typer.Option(help="In the catalog.", min=100, max=4_500)] = Plan.items,
    callers: Annotated[int, typer.Option(help="That call at once.")] = Plan.callers,
    queue: Annotated[int, typer.Option(help="Calls that may wait.")] = Plan.queue,
    changes_per_second: Annotated[
        float, typer.Option(help="Of the catalog; each leaves a tombstone or two.")
    ] = Plan.changes_per_second,
    seed: Annotated[int, typer.Option(help="Of all that is random.")] = Plan.seed,
) -> None:
    """Soak the generator service, and check every answer."""
    plan = Plan(precision, device, threads, items, callers, queue, changes_per_second, seed=seed)
    console = Console()
    columns = (BarColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with tempfile.TemporaryDirectory() as directory, Progress(*columns, console=console) as bar:
        task = bar.add_task("starting", total=1.0)

        def show(share: float, tally: Tally) -> None:
            text = f"{tally.answers.total():,} answers, {tally.violations} wrong"
            bar.update(task, completed=share, description=text)

        soaked = asyncio.run(
            soak(Path(directory), plan, lambda seconds, *_: seconds / (minutes * 60), show)
        )
    report(soaked, plan, console)
    if soaked.tally.violations or soaked.growth > MOST_GROWTH:
        raise typer.Exit(1)


def report(soaked: Soaked, plan: Plan, console: Console) -> None:
    """Prints the figures and writes `build/bench/soak.json`; the first violation goes beside it."""
    figures = soaked.figures()
    table = Table(f"{plan.precision}, {plan.callers} callers", "", box=None, header_style="bold")
    for name, value in figures.items():
        text = f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
        table.add_row(name.replace("_", " "), text)
    console.print(table)
    facts = environment() | {"precision": plan.precision, "callers": plan.callers}
    written = write_report("soak", figures, facts)
    console.print(f"written to {written}")
    if soaked.growth > MOST_GROWTH:
        console.print(f"[red]memory grew by {soaked.growth:.1%}")
    violation = soaked.tally.first
    if violation is not None:
        again = (
            f"tests.robustness.soak.catalog.version(NUMBER, seed={plan.seed}, items={plan.items})"
        )
        path = written.with_name("soak-violation.txt")
        path.write_text(f"{violation}\nits catalog: {again}\n", encoding="utf-8")
        console.print(f"[red]the first violation, in full in {path}:")
        console.print(violation.summary, markup=False, highlight=False)


if __name__ == "__main__":
    typer.run(main)
