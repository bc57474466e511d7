"""Load on a running stack, by ghz: `Recommend` under each strategy, and `SimilarItems`.

    python -m bench.load                                  starts the three services itself
    python -m bench.load --address gateway.example:50050  uses a gateway that runs
    python -m bench.load --requests-only                  writes what deploy/ghz sends, and ends

Callers are closed-loop: each sends its next call when it has an answer, so latency and calls per
second say the same thing twice. Each configuration of `deploy/ghz` is run for a moment first, to
warm connections; errors count from then on. Exit code 1 if any call failed.
"""

import argparse
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench.lib.ghz import GhzError, Run, find_ghz, run_ghz
from bench.lib.report import environment, write_report
from bench.lib.requests import load_requests, write_requests
from bench.lib.stack import serve_all
from core.bundle import Bundle
from core.errors import BundleError

CONFIGS: Final = Path("deploy/ghz")
WARM_UP_SECONDS: Final = 1.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs all configurations, prints the table and writes `build/bench/load.json`."""
    options = _parse(arguments)
    try:
        bundle = Bundle.open(options.bundle, verify=False)
        write_requests(load_requests(bundle))
        if options.requests_only:
            return 0
        ghz = find_ghz()
        with nullcontext(options.address) if options.address else serve_all(bundle.path) as address:
            runs = measure(ghz, sorted(CONFIGS.glob("*.json")), address, options.seconds)
    except (GhzError, BundleError, ChildProcessError) as error:
        Console(stderr=True).print(f"[red]bench.load: {error}", highlight=False, soft_wrap=True)
        return 1
    console = Console()
    console.print(table(runs))
    figures = {name: value for run in runs for name, value in run.figures().items()}
    facts = environment() | {"bundle": bundle.version, "load_generator": "ghz, on this machine"}
    console.print(f"written to {write_report('load', figures, facts)}")
    return int(any(run.failed for run in runs))


def measure(ghz: Path, configs: Sequence[Path], address: str, seconds: float) -> list[Run]:
    """Runs each configuration after a warm-up, whose failed calls count too."""
    runs = []
    for config in track(configs, "Measuring", transient=True):
        warm_up = run_ghz(ghz, config, address, WARM_UP_SECONDS)
        run = run_ghz(ghz, config, address, seconds)
        runs.append(run.with_failures_of(warm_up))
    return runs


def table(runs: Sequence[Run]) -> Table:
    """The runs, one a row."""
    columns = ("callers", "calls/s", "p50 ms", "p95 ms", "p99 ms", "calls")
    made = Table("", box=None, header_style="bold")
    for column in columns:
        made.add_column(column, justify="right")
    made.add_column("errors")
    for run in runs:
        failed = ", ".join(f"{count} {code}" for code, count in run.failed.items())
        latencies = (f"{run.p50:.1f}", f"{run.p95:.1f}", f"{run.p99:.1f}")
        counts = (str(run.callers), f"{run.calls_per_second:.1f}", *latencies, str(run.calls))
        made.add_row(run.name, *counts, f"[red]{failed}" if failed else "none")
    return made


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.load",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--bundle", type=Path, default=Path("bundles/ml-100k/current"))
    parser.add_argument("--address", help="a running gateway; its bundle must be the same")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each configuration")
    parser.add_argument("--requests-only", action="store_true", help="write build/load and end")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
