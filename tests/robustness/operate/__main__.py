"""Soaks the whole system, prints the figures and says what was wrong.

    python -m tests.robustness.operate --minutes 60 --bundle bundles/ml-100k/current

Exit code 1 when a call failed, an answer was of two versions, what was acknowledged is lost, or
memory or p99 grew by more than is allowed.
"""

import asyncio
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from bench.lib.report import environment, write_report
from bench.operate.swaps import all_three, copies
from tests.robustness.operate.run import Plan, Soaked, soak

MOST_GROWTH_MB: Final = 100.0
"""Of the memory of all processes, from the second fifth of the soak to its last."""
MOST_DRIFT: Final = 0.1
"""Of p99, likewise."""


def main(
    bundle: Annotated[Path, typer.Option(help="What is served.")],
    minutes: Annotated[float, typer.Option(help="How long.", min=0.1)] = 60.0,
    rate: Annotated[float, typer.Option(help="Calls a second.", min=1)] = Plan.rate,
    swap_seconds: Annotated[float, typer.Option(help="From swap to swap.")] = Plan.swap_seconds,
    changes_per_second: Annotated[
        float, typer.Option(help="Of the catalog.", min=0.01)
    ] = Plan.changes_per_second,
    cuts_per_second: Annotated[
        float, typer.Option(help="Of connections.", min=0.01)
    ] = Plan.cuts_per_second,
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
    console = Console()
    columns = (BarColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with tempfile.TemporaryDirectory() as root, Progress(*columns, console=console) as bar:
        task = bar.add_task("starting", total=1.0)

        def show(share: float, so_far: Soaked) -> None:
            failed, swaps = so_far.tally.failures.total(), so_far.swaps
            text = f"{so_far.tally.calls.total():,} calls, {failed} failed, {swaps} swaps"
            bar.update(task, completed=share, description=text)

        first = copies(bundle, Path(root))
        versions = [f"{first.parent.name}/{version}" for version in "abc"]
        with all_three(first, Path(root), Path(root) / "histories.db") as processes:
            soaked = asyncio.run(
                soak(
                    processes,
                    versions,
                    plan,
                    lambda so_far: (perf_counter() - so_far.began) / (minutes * 60),
                    show,
                )
            )
    report(soaked, plan, console)
    if soaked.faults() or soaked.growth_mb > MOST_GROWTH_MB or soaked.drift > MOST_DRIFT:
        raise typer.Exit(1)


def report(soaked: Soaked, plan: Plan, console: Console) -> None:
    """Prints the figures and what was wrong, and writes `build/bench/soak-operate.json`."""
    figures = soaked.figures()
    table = Table(f"{plan.rate:g} calls/s", "", box=None, header_style="bold")
    for name, value in figures.items():
        text = f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
        table.add_row(name.replace("_", " "), text)
    console.print(table)
    faults = soaked.faults()
    written = write_report("soak-operate", {**figures, "faults": faults}, environment())
    console.print(f"written to {written}")
    for fault in faults:
        console.print(f"[red]{fault}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    typer.run(main)
