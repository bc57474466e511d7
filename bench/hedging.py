"""What hedging saves where a few searches are late, on a bundle of one's own.

    python -m bench.hedging --bundle bundles/ml-100k/current

The services and ghz are processes of this machine. Searches pass through this process, which delays
one of twenty by 500 ms, and counts all.

- `hedge_p99_ratio`: the p99 of embedding-only `Recommend` without hedging over that with;
  `hedge_p99_ms_nothing_late` is what it is when nothing is late.
- `hedge_extra_calls`: the share of searches that hedging adds. All are medians over rounds.
"""

import random
import statistics
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import grpc
import typer

from bench.lib.echo import EveryMethod
from bench.lib.ghz import RECOMMEND, Load, find_ghz
from bench.lib.report import publish, run
from bench.lib.requests import load_requests, write
from bench.lib.stack import serving
from core.bundle import Bundle

CALLERS: Final = 4
"""So few that what is late is late by intention, and not because the machine is busy."""
ROUNDS: Final = 1
LATE_EVERY: Final = 20
LATE_SECONDS: Final = 0.5

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
        with ThreadPoolExecutor(4 * CALLERS) as threads, self._target:
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


def measure_hedging(
    bundle: Path, targets: Mapping[str, str], requests: Path, seconds: float
) -> Figures:
    """The same late searches, without and with hedging.

    Args:
        bundle: what is served.
        targets: the addresses of `candidate` and `generator`.
        requests: of `Recommend`.
        seconds: of each phase.
    """
    measured = partial(_measure_late, bundle, targets, requests, seconds)
    _, without, _ = measured("0")
    quiet, hedged, extra = measured("0.05")
    return {
        "hedge_p99_ms_nothing_late": quiet,
        "hedge_p99_ms_without": without,
        "hedge_p99_ms_with": hedged,
        "hedge_p99_ratio": without / hedged,
        "hedge_extra_calls": extra,
    }


def _measure_late(
    bundle: Path, targets: Mapping[str, str], requests: Path, seconds: float, ratio: str
) -> tuple[float, float, float]:
    """P99 in ms when nothing is late and when some searches are, and searches beyond one a call."""
    load = partial(Load, RECOMMEND, requests, callers=CALLERS)
    obstacles = [Obstacle(targets["candidate"]) for _ in range(2)]
    with ExitStack() as opened:
        environment = {
            "TANDEM_CANDIDATE_TARGET": ",".join(
                opened.enter_context(o.serving()) for o in obstacles
            ),
            "TANDEM_GENERATOR_TARGET": targets["generator"],
            "TANDEM_HISTORY": "bundle",
            "TANDEM_HEDGE_RATIO": ratio,
        }
        gateway = opened.enter_context(serving("gateway", bundle, environment=environment))
        quiet = load(seconds).run(gateway.address)
        for obstacle in obstacles:
            obstacle.delays = True
        load(2 * seconds).run(gateway.address)  # it learns what late is
        before = sum(obstacle.calls for obstacle in obstacles)
        found = load(3 * seconds).run(gateway.address)
        searches = sum(obstacle.calls for obstacle in obstacles) - before
    return quiet.percentile(99), found.percentile(99), searches / found.calls - 1.0


TABLE: Final = (
    ("one search of twenty 500 ms late", "without hedging", "with"),
    ("p99 of `Recommend`, ms", "{hedge_p99_ms_without:.0f}", "{hedge_p99_ms_with:.0f}"),
    ("searches more", "", "{hedge_extra_calls:.1%}"),
)


def main(
    bundle: Annotated[Path, typer.Option(help="What is served.")] = Path("bundles/ml-100k/current"),
    seconds: Annotated[float, typer.Option(help="Of each phase.")] = 3.0,
) -> None:
    """Measure hedging."""
    find_ghz()
    opened = Bundle.open(bundle, verify=False)
    requests = write("hedging", load_requests(opened)["recommend-embedding"])
    with serving("candidate", bundle) as candidate, serving("generator", bundle) as generator:
        targets = {"candidate": candidate.address, "generator": generator.address}
        rounds = [measure_hedging(bundle, targets, requests, seconds) for _ in range(ROUNDS)]
    figures = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
    publish(
        "hedging", figures, TABLE, precision="none", caches="warm", bundle=opened.version,
        load_generator="ghz, on this machine",
    )  # fmt: skip


if __name__ == "__main__":
    run(main)
