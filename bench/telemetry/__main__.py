"""What it costs a gateway to be seen, on a bundle of one's own.

    python -m bench.telemetry --bundle bundles/ml-100k/current

Two gateways in front of one candidate and one generator are called in turns by ghz: one with its
metrics, which are read every 15 s, and 1% of the traces on their way to a collector; and one
that tells of nothing (`bench.telemetry.blind`). Embedding-only `Recommend`, the shortest of them,
is where the cost shows most.

- `rate_loss`: the share of the calls a second that being seen takes, and half the width of its 95%
  interval, from the ratios of rounds.
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
"""Standard errors on each side of a mean that 95% lie within."""
TABLE: Final = (
    ("a gateway with metrics and 1% traces, against one with neither", "", "± (95%)"),
    ("calls a second, fewer", "{rate_loss:.1%}", "{rate_loss_half_width:.1%}"),
    ("processor time of a call, more", "{cpu_loss:.1%}", "{cpu_loss_half_width:.1%}"),
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


def loss(seen: Sequence[float], blind: Sequence[float]) -> tuple[float, float]:
    """By how much the first is lower in a round, and half the width of the interval of that."""
    ratios = [math.log(one / other) for one, other in zip(seen, blind, strict=True)]
    error = statistics.stdev(ratios) / math.sqrt(len(ratios))
    return 1 - math.exp(statistics.mean(ratios)), NORMAL * error


def metrics_port(log: Path) -> int:
    """The port that a process says it shows its metrics on."""
    (port,) = re.findall(r'"port": (\d+), .*"event": "metrics"|metrics .*port=(\d+)', _lines(log))
    return int(port[0] or port[1])


def _lines(log: Path) -> str:
    lines = log.read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if "metrics" in line)


def main(
    bundle: Annotated[Path, typer.Option(help="What is served.")] = Path("bundles/ml-100k/current"),
    seconds: Annotated[float, typer.Option(help="Of each phase.")] = 2.0,
    rounds: Annotated[int, typer.Option(help="Of both gateways in turn.")] = 20,
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
    phases = turns.sides
    rate, rate_width = loss(*([phase.rate for phase in phases[s]] for s in ("seen", "blind")))
    cpu, cpu_width = loss(*([phase.cpu for phase in phases[s]] for s in ("blind", "seen")))
    figures = {
        "rate_loss": rate,
        "rate_loss_half_width": rate_width,
        "cpu_loss": 1 / (1 - cpu) - 1,
        "cpu_loss_half_width": cpu_width,
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
