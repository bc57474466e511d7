"""The gateway under load, on a bundle of one's own: what a call costs, and what overload does.

    python -m bench.gateway --bundle bundles/ml-100k/current

The three services, a bare echo server and the callers are processes of this machine and share its
cores. What is compared takes turns, so that a machine that drifts slows both; a ratio is the median
over rounds, and a percentile that of all rounds together. Goodput counts answers that are complete
and come within two seconds.

- `recommend_vs_echo`: calls a second of embedding-only `Recommend`, over those of a bare grpc.aio
  server that takes and gives messages of the same sizes.
- `proxy_vs_echo`: the same of a bare proxy in front of such a server: two hops, and nothing done.
- `overhead_p50_ms`, `overhead_p99_ms`: what one caller waits for beyond the calls that the gateway
  makes for it. It includes the way from the caller to the gateway and back.
- `goodput_ratio_2x`, `goodput_ratio_5x`: goodput at two and at five times the load that the stack
  sustains, over the best of the round at any load.
- `reject_p99_ms`, `accepted_p99_ratio_5x`: at five times that load, how long a refusal takes; and
  how long an answer does, compared with calls that come at the rate that is sustained.
- `batch_vs_unary`: a stream of `BatchRecommend` over the best number of unary callers.
- `one_connection_refused`: of the calls of 80 callers on one connection without retries, how many
  gRPC refuses, which has a limit of calls on a connection.
- `neighbor_p99_ratio`: the latency of one caller beside a client that opens and resets
  `resets_per_second` calls, compared with the same caller alone.
"""

import argparse
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from bench import echo
from bench.callers import Crowd, crowd
from bench.load import serve_all
from bench.load_data import DATA, load_requests
from bench.outcome import Load, Outcome, percentile, together
from bench.report import environment, write_report
from bench.resets import resetting
from core.bundle import Bundle
from tandem.v1 import recommendation_service_pb2 as pb

ROUNDS: Final = 5
CALLERS: Final = (1, 8, 32, 128)
ECHO_CALLERS: Final = 32
ONE_CONNECTION_CALLERS: Final = 80
OVERLOADS: Final = (1, 2, 5)


@dataclass(frozen=True)
class Bench:
    """What every measurement needs."""

    crowd: Crowd
    gateway: str
    """Its address."""
    users: Sequence[str]
    seconds: float
    console: Console

    def load(self, strategy: str, **fields: Any) -> Load:
        """Calls of `Recommend` for the bundle's users."""
        value = pb.Strategy.Value(f"STRATEGY_{strategy.upper()}")
        requests = [
            pb.RecommendRequest(
                user_id=user, strategy=value, forbid_degraded=True
            ).SerializeToString()
            for user in self.users
        ]
        load = {"address": self.gateway, "seconds": self.seconds, **fields}
        return Load(requests=requests, **load)

    def turns(self, *runs: Callable[[], Outcome]) -> list[list[Outcome]]:
        """Runs all of them in each round, after having warmed them."""
        for run in runs:
            run()
        return [[run() for run in runs] for _ in range(ROUNDS)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures all, prints tables and writes `build/bench/gateway.json`."""
    options = _parse(arguments)
    bundle = Bundle.open(options.bundle, verify=False)
    users = [request["user_id"] for request in load_requests(bundle)["recommend-rerank"]]
    console = Console()
    DATA.mkdir(parents=True, exist_ok=True)
    with crowd() as people, serve_all(options.bundle) as address:
        bench = Bench(people, address, users, options.seconds, console)
        figures = measure_echo(bench) | measure_overhead(bench)
        figures |= measure_callers(bench)
        callers = int(figures["sustained_callers"])
        figures |= measure_overload(bench, callers, figures["sustained_calls_per_second"])
        figures |= measure_batch(bench, callers)
        figures |= measure_one_connection(bench) | measure_resets(bench)
    facts = environment() | {"bundle": bundle.version, "load_generator": "on this machine"}
    console.print(_summary(figures))
    console.print(f"written to {write_report('gateway', figures, facts)}")
    return 0


def measure_echo(bench: Bench) -> dict[str, float]:
    """Compares embedding-only `Recommend` with a bare server."""
    seconds = bench.seconds / ROUNDS
    recommend = bench.load("embedding", seconds=seconds, callers=ECHO_CALLERS)
    sample = bench.crowd.call(recommend)
    request_bytes = round(statistics.fmean(map(len, recommend.requests)))
    request = echo.request(request_bytes, sample.response_bytes)
    with echo.serving() as address, echo.serving(address) as proxy:
        bare, through = (
            Load(server, [request], seconds, echo.METHOD, callers=ECHO_CALLERS)
            for server in (address, proxy)
        )
        rounds = bench.turns(
            *(partial(bench.crowd.call, load) for load in (bare, through, recommend))
        )
    return {
        "recommend_vs_echo": statistics.median(c.rate / a.rate for a, _, c in rounds),
        "proxy_vs_echo": statistics.median(b.rate / a.rate for a, b, _ in rounds),
        "echo_calls_per_second": statistics.median(a.rate for a, _, _ in rounds),
        "proxy_calls_per_second": statistics.median(b.rate for _, b, _ in rounds),
        "embedding_calls_per_second": statistics.median(c.rate for _, _, c in rounds),
    }


def measure_overhead(bench: Bench) -> dict[str, float]:
    """What one caller waits for beyond the gateway's own calls."""
    load = bench.load("rerank", callers=1)
    bench.crowd.call(load)
    outcome = bench.crowd.call(load)
    return {
        "overhead_p50_ms": percentile(outcome.own, 50),
        "overhead_p99_ms": percentile(outcome.own, 99),
    }


def measure_callers(bench: Bench) -> dict[str, float]:
    """Full `Recommend` from more and more callers."""
    columns = ("calls/s", "p50 ms", "p99 ms", "history", "search", "rerank", "blend")
    table = Table(
        "callers", *columns, "shed", "other", title="full Recommend; stages at p50, in ms", box=None
    )
    figures: dict[str, float] = {}
    rates: dict[int, float] = {}
    for callers in CALLERS:
        load = bench.load("rerank", callers=callers)
        outcome = bench.crowd.call(load)
        rates[callers] = outcome.rate
        figures |= {
            f"recommend_{callers}_callers_calls_per_second": outcome.rate,
            f"recommend_{callers}_callers_p50_ms": outcome.p(50),
            f"recommend_{callers}_callers_p99_ms": outcome.p(99),
        }
        stages = {name: outcome.stages.get(name, []) for name in columns[3:]}
        for name, times in stages.items():
            for percent in (50, 99):
                key = f"recommend_{callers}_callers_{name}_p{percent}_ms"
                figures[key] = percentile(times, percent)
        cells = (f"{percentile(times, 50):.2f}" for times in stages.values())
        whole = (f"{outcome.rate:.0f}", f"{outcome.p(50):.1f}", f"{outcome.p(99):.1f}")
        shed = str(len(outcome.rejected))
        table.add_row(str(callers), *whole, *cells, shed, _others(outcome))
    bench.console.print(table)
    figures["sustained_callers"] = best = max(rates, key=rates.__getitem__)
    figures["sustained_calls_per_second"] = rates[best]
    return figures


def measure_overload(bench: Bench, callers: int, sustained: float) -> dict[str, float]:
    """Calls at a rate that the stack can sustain, and at several times as many.

    Args:
        bench: see there.
        callers: the closed-loop ones that get the most answers.
        sustained: calls a second that they make.
    """
    seconds = 2 * bench.seconds / ROUNDS
    best = bench.load("rerank", callers=callers, seconds=seconds)
    loads = [bench.load("rerank", rate=n * sustained, seconds=seconds) for n in OVERLOADS]
    rounds = bench.turns(*(partial(bench.crowd.call, load) for load in (best, *loads)))
    outcomes = [together(turns) for turns in zip(*rounds, strict=True)][1:]
    bench.console.print(_overload_table(loads, outcomes))
    once, _, five_times = outcomes
    return {
        f"goodput_ratio_{times}x": statistics.median(
            turns[place].rate / max(turn.rate for turn in turns) for turns in rounds
        )
        for place, times in enumerate(OVERLOADS, start=1)
        if times > 1
    } | {
        "reject_p99_ms": percentile(five_times.rejected, 99),
        "accepted_p99_ratio_5x": five_times.p(99) / once.p(99),
    }


def _overload_table(loads: Sequence[Load], outcomes: Sequence[Outcome]) -> Table:
    columns = ("offered/s", "goodput/s", "p50 ms", "p99 ms", "shed/s", "shed p99 ms", "other")
    table = Table("load", *columns, title="overload", box=None)
    for times, load, outcome in zip(OVERLOADS, loads, outcomes, strict=True):
        table.add_row(
            f"{times}x", f"{load.rate:.0f}", f"{outcome.rate:.0f}",
            f"{outcome.p(50):.0f}", f"{outcome.p(99):.0f}",
            f"{len(outcome.rejected) / outcome.seconds:.0f}",
            f"{percentile(outcome.rejected, 99):.1f}",
            _others(outcome),
        )  # fmt: skip
    return table


def _others(outcome: Outcome) -> str:
    """The calls that ended neither with an answer nor with a refusal."""
    others = outcome.failed + Counter({"degraded": outcome.degraded})
    return ", ".join(f"{count} {what}" for what, count in others.items()) or "none"


def measure_batch(bench: Bench, callers: int) -> dict[str, float]:
    """Compares a stream with the number of unary callers that does best."""
    unary = bench.load("rerank", seconds=bench.seconds / ROUNDS, callers=callers)
    rounds = bench.turns(lambda: bench.crowd.call(unary), lambda: bench.crowd.batch(unary))
    return {
        "batch_vs_unary": statistics.median(b.rate / a.rate for a, b in rounds),
        "batch_per_second": statistics.median(b.rate for _, b in rounds),
    }


def measure_one_connection(bench: Bench) -> dict[str, float]:
    """What becomes of an honest crowd that brings everything over one connection."""
    callers = ONE_CONNECTION_CALLERS
    outcome = bench.crowd.call(bench.load("embedding", callers=callers, connections=1))
    refused = outcome.failed["UNAVAILABLE"]
    calls = len(outcome.accepted) + len(outcome.rejected) + outcome.failed.total()
    return {"one_connection_refused": refused / calls}


def measure_resets(bench: Bench) -> dict[str, float]:
    """What a caller notices of a neighbor that opens calls and resets them at once."""
    load = bench.load("embedding", callers=1, seconds=2 * bench.seconds / ROUNDS)
    alone, beside, per_second = [], [], []
    for _ in range(ROUNDS):
        alone.append(bench.crowd.call(load))
        with resetting(bench.gateway) as resets:
            beside.append(bench.crowd.call(load))
        per_second.append(resets.per_second)
    return {
        "neighbor_p99_ratio": together(beside).p(99) / together(alone).p(99),
        "resets_per_second": statistics.median(per_second),
    }


def _summary(figures: dict[str, float]) -> Table:
    """The figures that stand for the others."""
    table = Table("", "", box=None, show_header=False)
    table.columns[1].justify = "right"
    for name, value in figures.items():
        if not name.startswith("recommend_") or name == "recommend_vs_echo":
            table.add_row(name, f"{value:,.2f}")
    return table


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.gateway",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--bundle", type=Path, default=Path("bundles/ml-100k/current"))
    parser.add_argument("--seconds", type=float, default=10.0, help="for each measurement")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
