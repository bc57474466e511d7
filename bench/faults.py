"""The gateway when services are killed, stopped or late, on a bundle of one's own.

    python -m bench.faults --bundle bundles/ml-100k/current

The services and ghz are processes of this machine. Callers go on calling while a service is killed
(SIGKILL) and started again, or stopped (SIGSTOP) and let go. For a service that is late, its calls
pass through this process, which delays some of them and counts all.

- `answered_<fault>`: the share of calls that were answered, completely or degraded;
  `recovery_s_<fault>`: seconds from when the service serves again until an answer lacks nothing.
- `hedge_p99_ratio`: with 5% of the searches 500 ms late, the p99 of `Recommend` without hedging
  over that with; `hedge_p99_ms_nothing_late` is what it is when nothing is late, and
  `hedge_extra_calls` the share of searches that hedging adds. All are medians over rounds.
"""

import random
import signal
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import grpc
import typer

from bench.lib.echo import EveryMethod
from bench.lib.ghz import RECOMMEND, Load, find_ghz
from bench.lib.report import publish, run
from bench.lib.requests import load_requests, write
from bench.lib.stack import Process, serving
from core.bundle import Bundle
from tandem import Client

CALLERS: Final = 8
HEDGED_CALLERS: Final = 4
"""So few that what is late is late by intention, and not because the machine is busy."""
HEDGING_ROUNDS: Final = 3
LATE_EVERY: Final = 20
LATE_SECONDS: Final = 0.5
RECOVERY_SECONDS: Final = 30.0

Figures = dict[str, float]


class Obstacle:
    """Passes searches on; delays some, and counts all."""

    def __init__(self, target: str) -> None:
        self.calls = 0
        self.delays = False
        self._late = _one_of(LATE_EVERY)
        self._target = grpc.insecure_channel(target)

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Yields the address."""
        with ThreadPoolExecutor(4 * HEDGED_CALLERS) as threads, self._target:
            server: Any = grpc.server(threads)
            server.add_generic_rpc_handlers((EveryMethod(self._respond),))
            port = server.add_insecure_port("127.0.0.1:0")
            server.start()
            try:
                yield f"127.0.0.1:{port}"
            finally:
                server.stop(None).wait()

    def _respond(self, method: str) -> Any:
        forward: Any = self._target.unary_unary(method)

        def search(request: bytes, context: grpc.ServicerContext) -> bytes:
            self.calls += 1
            if self.delays and next(self._late):
                time.sleep(LATE_SECONDS)
            answer: bytes = forward(request, timeout=context.time_remaining())
            return answer

        return search if method.endswith("/Search") else None


def _one_of(count: int) -> Iterator[bool]:
    """True once, somewhere, in each so many."""
    rng = random.Random(0)  # noqa: S311 - no secret depends on it
    while True:
        late = rng.randrange(count)
        yield from (place == late for place in range(count))


class Bench:
    """The two services, and what is asked of gateways in front of them."""

    def __init__(self, bundle: Path, seconds: float, opened: ExitStack) -> None:
        requests = load_requests(Bundle.open(bundle, verify=False))
        self._bundle = bundle
        self.user = requests["recommend-rerank"][0]["user_id"]
        self.rerank = write("recommend-rerank", requests["recommend-rerank"])
        strict = [
            request | {"forbid_degraded": True} for request in requests["recommend-embedding"]
        ]
        self.embedding = write("strict-recommend-embedding", strict)
        self.seconds = seconds
        self.candidate, self.generator = (
            opened.enter_context(serving(name, bundle)) for name in ("candidate", "generator")
        )

    def gateway(self, *candidates: str, **environment: str) -> AbstractContextManager[Process]:
        """A gateway of these candidates and the generator."""
        targets = {
            "TANDEM_CANDIDATE_TARGET": ",".join(candidates),
            "TANDEM_GENERATOR_TARGET": self.generator.address,
            "TANDEM_HISTORY": "bundle",
        }
        return serving("gateway", self._bundle, environment={**targets, **environment})


def measure_faults(bench: Bench) -> Figures:
    """Each service killed and stopped under load."""
    figures: Figures = {}
    with bench.gateway(bench.candidate.address) as gateway:
        for victim in (bench.candidate, bench.generator):
            for fault, happen, mend in (
                ("killed", victim.end, victim.start),
                (
                    "stopped",
                    partial(victim.send, signal.SIGSTOP),
                    partial(victim.send, signal.SIGCONT),
                ),
            ):
                name = f"{victim.name}_{fault}"
                found = _measure_fault(bench, gateway, happen, mend)
                figures[f"answered_{name}"], figures[f"recovery_s_{name}"] = found
    return figures


def _measure_fault(bench: Bench, gateway: Process, happen: Any, mend: Any) -> tuple[float, float]:
    """The share of calls that were answered, and the seconds until an answer lacks nothing."""
    load = Load(RECOMMEND, bench.rerank, 3 * bench.seconds, callers=CALLERS)
    with ThreadPoolExecutor(1) as callers:
        calling = callers.submit(load.run, gateway.address)
        time.sleep(bench.seconds)
        happen()
        time.sleep(bench.seconds)
        mend()
        recovery = _seconds_until_whole(gateway.address, bench.user)
        found = calling.result()
    return len(found.ms.get("OK", ())) / found.calls, recovery


def _seconds_until_whole(address: str, user: str) -> float:
    began = time.monotonic()
    with Client(address) as client:
        while client.recommend(user, strategy="rerank").degraded:
            if time.monotonic() > began + RECOVERY_SECONDS:
                return float("inf")
    return time.monotonic() - began


def measure_hedging(bench: Bench) -> Figures:
    """The same late searches, without and with hedging."""
    quiet, without, _ = _measure_late(bench, "0")
    quiet, hedged, extra = _measure_late(bench, "0.05")
    return {
        "hedge_p99_ms_nothing_late": quiet,
        "hedge_p99_ms_without": without,
        "hedge_p99_ms_with": hedged,
        "hedge_p99_ratio": without / hedged,
        "hedge_extra_calls": extra,
    }


def _measure_late(bench: Bench, ratio: str) -> tuple[float, float, float]:
    """P99 in ms when nothing is late and when some searches are, and searches beyond one a call."""
    load = partial(Load, RECOMMEND, bench.embedding, callers=HEDGED_CALLERS)
    obstacles = [Obstacle(bench.candidate.address) for _ in range(2)]
    with ExitStack() as opened:
        addresses = [opened.enter_context(obstacle.serving()) for obstacle in obstacles]
        gateway = opened.enter_context(bench.gateway(*addresses, TANDEM_HEDGE_RATIO=ratio))
        quiet = load(bench.seconds).run(gateway.address)
        for obstacle in obstacles:
            obstacle.delays = True
        load(2 * bench.seconds).run(gateway.address)  # it learns what late is
        before = sum(obstacle.calls for obstacle in obstacles)
        found = load(3 * bench.seconds).run(gateway.address)
        searches = sum(obstacle.calls for obstacle in obstacles) - before
    return quiet.percentile(99), found.percentile(99), searches / found.calls - 1.0


def main(
    bundle: Annotated[Path, typer.Option(help="What is served.")] = Path("bundles/ml-100k/current"),
    seconds: Annotated[float, typer.Option(help="Of each phase.")] = 5.0,
) -> None:
    """Measure the gateway while services fail."""
    find_ghz()
    with ExitStack() as opened:
        bench = Bench(bundle, seconds, opened)
        figures = measure_faults(bench)
        rounds = [measure_hedging(bench) for _ in range(HEDGING_ROUNDS)]
    figures |= {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
    publish("faults", figures, load_generator="ghz, on this machine")


if __name__ == "__main__":
    run(main)
