"""What it costs a gateway to be seen, on a bundle of one's own.

    python -m bench.telemetry --bundle bundles/ml-100k/current

Two gateways in front of one candidate and one generator are called in turns by ghz: one with its
metrics, which are read every 15 s, and 1% of the traces on their way to a collector; and one
that tells of nothing (`bench.telemetry.blind`). Embedding-only `Recommend`, the shortest of them,
is where the cost shows most.

- `rate_loss`: the share of the calls a second that being seen takes: the median over rounds, with
  its 95% interval.
- `cpu_loss`: the same of the gateway's processor time for a call, which other programs on the
  machine disturb less.
"""

import math
import os
import re
import statistics
import time
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

from bench.lib.echo import serving as echo
from bench.lib.ghz import RECOMMEND, Load, find_ghz
from bench.lib.report import publish, run
from bench.lib.requests import load_requests, write
from bench.lib.stack import Process, serving
from bench.lib.timing import in_turns
from core.bundle import Bundle

SCRAPE_SECONDS: Final = 15.0
"""Between two readings of the metrics, as is usual."""
NORMAL: Final = 1.96
"""Standard deviations on each side that 95% lie within."""
TABLE: Final = (
    ("a gateway with metrics and 1% traces, against one with neither", "", "95% interval"),
    ("calls a second, fewer", "{rate_loss:.1%}", "{rate_loss_low:.1%} to {rate_loss_high:.1%}"),
    (
        "cpu time of a call, more",
        "{cpu_loss:.1%}",
        "{cpu_loss_low:.1%} to {cpu_loss_high:.1%}",
    ),
)


@dataclass(frozen=True)
class Phase:
    """A turn of one gateway."""

    rate: float
    """Answers a second."""
    cpu: float
    """Seconds of processor time a call."""


def measured(gateway: Process, load: Load, after: Callable[[], object]) -> Callable[[], Phase]:
    """Calls a gateway for a phase."""

    def phase() -> Phase:
        before = processor_seconds(gateway.process.pid)
        found = load.run(gateway.address)
        after()
        cpu = processor_seconds(gateway.process.pid) - before
        return Phase(found.answers_per_second, cpu / found.calls)

    return phase


class Scraper:
    """Reads the metrics of a process, as often as Prometheus would.

    Args:
        url: where they are.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._next = 0.0

    def __call__(self) -> None:
        """Reads them, if it is time."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + SCRAPE_SECONDS
            urllib.request.urlopen(self._url).read()  # noqa: S310 - the loopback


def processor_seconds(pid: int) -> float:
    """What a process has taken until now, in user and system time."""
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")


def median_of(values: Sequence[float]) -> tuple[float, float, float]:
    """The median, and the ends of its 95% interval, which are two of the values themselves: the
    ranks that a binomial distribution puts around the middle. Few outliers do not move it."""
    ordered, count = sorted(values), len(values)
    reach = math.ceil(NORMAL * math.sqrt(count) / 2)
    low, high = max(0, count // 2 - reach), min(count - 1, count // 2 + reach)
    return statistics.median(ordered), ordered[low], ordered[high]


def metrics_port(log: Path) -> int:
    """The port that a process says it shows its metrics on."""
    (port,) = re.findall(r'"port": (\d+), .*"event": "metrics"|metrics .*port=(\d+)', _lines(log))
    return int(port[0] or port[1])


def _lines(log: Path) -> str:
    lines = log.read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if "metrics" in line)


def main(
    bundle: Annotated[Path, typer.Option(help="What is served.")] = Path("bundles/ml-100k/current"),
    seconds: Annotated[float, typer.Option(help="Of each phase.")] = 1.0,
    rounds: Annotated[int, typer.Option(help="Of both gateways in turn.")] = 100,
    callers: Annotated[int, typer.Option(help="At a time.")] = 8,
) -> None:
    """Measure what being seen costs a gateway."""
    find_ghz()
    opened = Bundle.open(bundle, verify=False)
    requests = write("telemetry", load_requests(opened)["recommend-embedding"])
    load = Load(RECOMMEND, requests, seconds, callers=callers)
    with ExitStack() as stack:
        candidate = stack.enter_context(serving("candidate", bundle))
        generator = stack.enter_context(serving("generator", bundle))
        environment = {
            "TANDEM_CANDIDATE_TARGET": candidate.address,
            "TANDEM_GENERATOR_TARGET": generator.address,
            "TANDEM_HISTORY": "bundle",
            "TANDEM_LOG_LEVEL": "info",
        }
        collector = stack.enter_context(echo())
        seen = stack.enter_context(
            serving(
                "gateway", bundle, "--metrics-port", "0", "--otlp-endpoint", f"http://{collector}",
                environment=environment,
            )
        )  # fmt: skip
        blind = stack.enter_context(
            serving("gateway", bundle, environment=environment, module="bench.telemetry.blind")
        )
        url = f"http://127.0.0.1:{metrics_port(seen.directory / 'gateway.log')}/metrics"
        turns = in_turns(
            {
                "seen": measured(seen, load, Scraper(url)),
                "blind": measured(blind, load, lambda: None),
            },
            rounds,
        )
    pairs = list(zip(turns.sides["seen"], turns.sides["blind"], strict=True))
    rate = median_of([1 - seen.rate / blind.rate for seen, blind in pairs])
    cpu = median_of([seen.cpu / blind.cpu - 1 for seen, blind in pairs])
    figures = {
        **dict(zip(("rate_loss", "rate_loss_low", "rate_loss_high"), rate, strict=True)),
        **dict(zip(("cpu_loss", "cpu_loss_low", "cpu_loss_high"), cpu, strict=True)),
        **turns.medians("calls_per_second", lambda phase: phase.rate),
        **turns.medians("cpu_ms", lambda phase: phase.cpu * 1e3),
        "rounds": rounds,
    }
    publish(
        "telemetry", figures, TABLE, precision="none", caches="warm", bundle=opened.version,
        load_generator="ghz, on this machine",
    )  # fmt: skip


if __name__ == "__main__":
    run(main)
