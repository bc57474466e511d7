"""Load on a running stack, by ghz: `Recommend` under each strategy, and `SimilarItems`.

    python -m bench.load                                  starts the three services itself
    python -m bench.load --address gateway.example:50050  uses a gateway that runs
    python -m bench.load --requests-only                  writes what deploy/ghz sends, and ends

Callers are closed-loop: each sends its next call when it has an answer, so latency and calls per
second say the same thing twice. Each configuration of `deploy/ghz` is run for a moment first, to
warm connections and caches. Errors count from then on, and degraded answers are errors. Exit code 1
if any call failed.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.progress import track

from bench.lib.ghz import Run, find_ghz, run_ghz
from bench.lib.report import publish, run, served_precision
from bench.lib.requests import load_requests, write
from core.bundle import Bundle
from offline.evaluate.served import serving

CONFIGS: Final = Path("deploy/ghz")
WARM_UP_SECONDS: Final = 1.0


def main(
    bundle: Annotated[Path, typer.Option(help="What is served.")] = Path("bundles/ml-100k/current"),
    address: Annotated[
        str, typer.Option(help="A running gateway; its bundle must be the same.")
    ] = "",
    seconds: Annotated[float, typer.Option(help="For each configuration.")] = 10.0,
    requests_only: Annotated[
        bool, typer.Option("--requests-only", help="Write build/load and end.")
    ] = False,
) -> None:
    """Measure calls of a running stack."""
    opened = Bundle.open(bundle, verify=False)
    for name, requests in load_requests(opened).items():
        write(name, requests)
    if requests_only:
        return
    ghz = find_ghz()
    stack = nullcontext({"gateway": address}) if address else serving(bundle)
    with stack as addresses:
        runs = measure(ghz, sorted(CONFIGS.glob("*.json")), addresses["gateway"], seconds)
    figures = {name: value for each in runs for name, value in each.figures().items()}
    publish(
        "load", figures, table(runs), precision=served_precision(opened), caches="warm",
        bundle=opened.version, load_generator="ghz, on this machine",
    )  # fmt: skip
    if any(each.failed for each in runs):
        raise typer.Exit(1)


def measure(ghz: Path, configs: Sequence[Path], address: str, seconds: float) -> list[Run]:
    """Runs each configuration after a warm-up, whose failed calls count too."""
    runs = []
    for config in track(configs, "Measuring", transient=True):
        warm_up = run_ghz(ghz, config, address, WARM_UP_SECONDS)
        measured = run_ghz(ghz, config, address, seconds)
        runs.append(measured.with_failures_of(warm_up))
    return runs


def table(runs: Sequence[Run]) -> list[list[str]]:
    """The runs, one a row."""
    rows = [["32 callers", "calls/s", "p50 ms", "p95 ms", "p99 ms", "calls", "errors"]]
    for each in runs:
        failed = ", ".join(f"{count} {code}" for code, count in each.failed.items())
        latencies = (f"{each.p50:.1f}", f"{each.p95:.1f}", f"{each.p99:.1f}")
        counts = (f"{each.calls_per_second:.1f}", *latencies, str(each.calls))
        rows.append([f"`{each.name}`", *counts, failed or "none"])
    return rows


if __name__ == "__main__":
    run(main)
