"""Load on a running stack, by ghz: `Recommend` under each strategy, and `SimilarItems`.

    python -m bench.load                                  starts the three services itself
    python -m bench.load --address gateway.example:50050  uses a gateway that runs

ghz is closed-loop: each caller sends its next call when it has an answer, so latency and calls per
second say the same thing twice. Each configuration of `deploy/ghz` is run for a moment first, to
warm connections; errors count from then on. Exit code 1 if any call failed.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench.ghz import GhzError, Run, find_ghz, run_ghz
from bench.load_data import DATA, load_requests, write_requests
from bench.report import environment, write_report
from core.bundle import Bundle
from core.errors import BundleError

CONFIGS: Final = Path("deploy/ghz")
WARM_UP_SECONDS: Final = 1.0
STOP_SECONDS: Final = 60.0
_ANNOUNCEMENT: Final = "gateway serves at "


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs all configurations, prints the table and writes `build/bench/load.json`."""
    options = _parse(arguments)
    console = Console()
    try:
        ghz = find_ghz()
        bundle = Bundle.open(options.bundle, verify=False)
        write_requests(load_requests(bundle))
        configs = sorted(CONFIGS.glob("*.json"))
        with nullcontext(options.address) if options.address else serve_all(bundle.path) as address:
            runs = measure(ghz, configs, address, options.seconds, console)
    except (GhzError, BundleError, ChildProcessError) as error:
        Console(stderr=True).print(f"[red]bench.load: {error}", highlight=False)
        return 1
    console.print(table(runs))
    figures = {name: value for run in runs for name, value in run.figures().items()}
    facts = environment() | {"bundle": bundle.version, "load_generator": "ghz, on this machine"}
    console.print(f"written to {write_report('load', figures, facts)}")
    return int(any(run.failed for run in runs))


def measure(
    ghz: Path, configs: Sequence[Path], address: str, seconds: float, console: Console
) -> list[Run]:
    """Runs each configuration after a warm-up, whose failed calls count too."""
    runs = []
    for config in track(configs, "Measuring", console=console, transient=True):
        warm_up = run_ghz(ghz, config, address, WARM_UP_SECONDS)
        run = run_ghz(ghz, config, address, seconds)
        runs.append(run.with_failures_of(warm_up))
    return runs


@contextmanager
def serve_all(bundle: Path) -> Iterator[str]:
    """Starts the three services on free ports, and yields the gateway's address.

    They write their logs to `build/load/services.log`.

    Raises:
        ChildProcessError: they did not start.
    """
    ports = ["--port", "0", "--candidate-port", "0", "--generator-port", "0"]
    command = [sys.executable, "-m", "cli.main", "serve", "all", "--bundle", str(bundle), *ports]
    log = DATA / "services.log"
    with (
        log.open("w", encoding="utf-8") as stderr,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True) as process,
    ):
        try:
            yield _announced(process, log)
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


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


def _announced(process: subprocess.Popen[str], log: Path) -> str:
    """The address that `tandem serve all` prints once the gateway serves."""
    for line in process.stdout or ():
        if line.startswith(_ANNOUNCEMENT):
            return line.removeprefix(_ANNOUNCEMENT).strip()
    raise ChildProcessError(f"the services did not start; {log} says why")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.load", description=__doc__)
    parser.add_argument("--bundle", type=Path, default=Path("bundles/ml-100k/current"))
    parser.add_argument("--address", help="a running gateway; its bundle must be the same")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each configuration")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
