"""The gateway when services are killed, stopped, late or failing, on a bundle of one's own.

    python -m bench.gateway_faults --bundle bundles/ml-100k/current

The three services are real processes of this machine. Callers go on calling while a service is
killed (SIGKILL) and started again, or stopped (SIGSTOP) and let go. For a service that is late or
fails, its calls pass through this process, which delays or refuses some of them and counts all.

- `answered_<fault>`: the share of calls that were answered; `degraded_<fault>` of those that say
  that they lack something; `recovery_s_<fault>`: seconds from when the service serves again until
  the last answer that lacks it.
- `hedge_p99_ratio`: with 5% of the searches 500 ms late, the p99 of `Recommend` without hedging
  over that with, which is at best twice what it is when nothing is late,
  `hedge_p99_ms_nothing_late`; `hedge_extra_calls`: the share of searches that hedging adds. All
  of these are medians over rounds.
- `storm_attempts_per_call`: searches for each call while every search is `UNAVAILABLE`.
"""

import argparse
import asyncio
import itertools
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench.report import environment, write_report
from core.bundle import Bundle
from tandem.v1 import recommendation_service_pb2 as pb
from tandem.v1 import recommendation_service_pb2_grpc as pb_grpc

CALLERS: Final = 8
HEDGED_CALLERS: Final = 4
"""So few that what is late is late by intention, and not because the machine is busy."""
TIMEOUT_SECONDS: Final = 2.0
HEDGING_ROUNDS: Final = 3
START_SECONDS: Final = 60.0
LATE_EVERY: Final = 20
LATE_SECONDS: Final = 0.5


@dataclass
class Process:
    """One service of the stack; it keeps its port when it is started again."""

    name: str
    directory: Path
    bundle: Path
    environment: dict[str, str] = field(default_factory=dict)
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"

    async def start(self) -> "Process":
        """Starts it and waits until it serves."""
        port_file = self.directory / f"{self.name}.port"
        port_file.unlink(missing_ok=True)
        flags = ["--bundle", self.bundle, "--port", self.port, "--port-file", port_file]
        command = [sys.executable, "-m", "cli.main", "serve", self.name, *map(str, flags)]
        with (self.directory / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(  # noqa: ASYNC220 - nothing else has begun
                command, stderr=log, env={**os.environ, **self.environment}
            )
        async with asyncio.timeout(START_SECONDS):
            while not port_file.exists():  # noqa: ASYNC110 - another process makes it
                await asyncio.sleep(0.01)
            self.port = int(port_file.read_text(encoding="ascii"))
            async with grpc.aio.insecure_channel(self.address) as channel:
                watch = health_pb2_grpc.HealthStub(channel).Watch
                async for response in watch(health_pb2.HealthCheckRequest()):
                    if response.status == health_pb2.HealthCheckResponse.SERVING:
                        break
        return self

    def send(self, number: signal.Signals) -> None:
        """Sends a signal."""
        if self.process is not None:
            self.process.send_signal(number)

    def end(self) -> None:
        """Leaves nothing behind."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


class Obstacle:
    """Passes calls of a service on; delays or refuses some, and counts all."""

    def __init__(self, target: str) -> None:
        self.calls = 0
        self.delays = False
        self.refuses = False
        self._late = _one_of(LATE_EVERY)
        self._channel = grpc.aio.insecure_channel(target)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Yields the address."""
        server = grpc.aio.server()
        search: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(
            self._search
        )
        handler = grpc.method_handlers_generic_handler(
            "tandem.v1.CandidateService", {"Search": search}
        )
        server.add_generic_rpc_handlers((handler,))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            await server.stop(None)
            await self._channel.close()

    async def _search(self, request: bytes, context: Any) -> Any:
        self.calls += 1
        if self.refuses:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "refused")
        if self.delays and next(self._late):
            await asyncio.sleep(LATE_SECONDS)
        method: Any = self._channel.unary_unary("/tandem.v1.CandidateService/Search")
        return await method(request, timeout=context.time_remaining())


def _one_of(count: int) -> Iterator[bool]:
    """True once, somewhere, in each so many."""
    rng = random.Random(0)  # noqa: S311 - no secret depends on it
    while True:
        late = rng.randrange(count)
        yield from (place == late for place in range(count))


@dataclass
class Calls:
    """What became of calls, one entry for each."""

    ended: list[float] = field(default_factory=list)
    ms: list[float] = field(default_factory=list)
    outcomes: list[str] = field(default_factory=list)
    """`full`, `degraded`, or the code of an error."""

    def share(self, *outcomes: str) -> float:
        """How many of the calls ended so."""
        return sum(outcome in outcomes for outcome in self.outcomes) / len(self.outcomes)

    def last(self, outcome: str) -> float:
        """When a call last ended so; 0 for never."""
        pairs = zip(self.ended, self.outcomes, strict=True)
        return max((at for at, ended in pairs if ended == outcome), default=0.0)


@asynccontextmanager
async def calling(
    address: str,
    users: Sequence[str],
    strategy: pb.Strategy.ValueType,
    callers: int = CALLERS,
) -> AsyncIterator[Calls]:
    """Callers that each send their next call when they have the answer to their last."""
    calls, over, turns = Calls(), asyncio.Event(), itertools.cycle(users)

    async def call_on(stub: "pb_grpc.RecommendationServiceAsyncStub") -> None:
        while not over.is_set():
            request = pb.RecommendRequest(user_id=next(turns), strategy=strategy)
            started = time.monotonic()
            try:
                answer = await stub.Recommend(request, timeout=TIMEOUT_SECONDS)
                outcome = "degraded" if answer.degraded else "full"
            except grpc.aio.AioRpcError as error:
                outcome = error.code().name
            ended = time.monotonic()
            calls.ended.append(ended)
            calls.ms.append((ended - started) * 1e3)
            calls.outcomes.append(outcome)

    async with grpc.aio.insecure_channel(address) as channel, asyncio.TaskGroup() as group:
        stub: Any = pb_grpc.RecommendationServiceStub(channel)
        for _ in range(callers):
            group.create_task(call_on(stub))
        try:
            yield calls
        finally:
            over.set()


@dataclass
class Bench:
    """What every measurement needs."""

    directory: Path
    bundle: Path
    users: Sequence[str]
    seconds: float
    opened: AsyncExitStack

    async def process(self, name: str, **environment: str) -> Process:
        """A service that runs until the end."""
        process = Process(name, self.directory, self.bundle, environment)
        self.opened.callback(process.end)
        return await process.start()

    async def gateway(self, candidates: str, generators: str, **environment: str) -> Process:
        """A gateway of these services."""
        targets = {"TANDEM_CANDIDATE_TARGET": candidates, "TANDEM_GENERATOR_TARGET": generators}
        return await self.process("gateway", TANDEM_HISTORY="bundle", **targets, **environment)


async def faults(bench: Bench, candidate: Process, generator: Process) -> dict[str, float]:
    """Each service killed and stopped under load."""
    figures: dict[str, float] = {}
    gateway = await bench.gateway(candidate.address, generator.address)
    for victim, kill in itertools.product((candidate, generator), (True, False)):
        name = f"{victim.name}_{'killed' if kill else 'stopped'}"
        async with calling(gateway.address, bench.users, pb.STRATEGY_RERANK) as calls:
            await asyncio.sleep(bench.seconds)
            victim.send(signal.SIGKILL if kill else signal.SIGSTOP)
            await asyncio.sleep(bench.seconds)
            if kill:
                victim.end()
                await victim.start()
            else:
                victim.send(signal.SIGCONT)
            back = time.monotonic()
            await asyncio.sleep(bench.seconds + 5.0)
        figures[f"answered_{name}"] = calls.share("full", "degraded")
        figures[f"degraded_{name}"] = calls.share("degraded")
        figures[f"recovery_s_{name}"] = max(0.0, calls.last("degraded") - back)
    gateway.end()
    return figures


async def hedging(bench: Bench, candidate: Process, generator: Process) -> dict[str, float]:
    """The same late searches, without and with hedging."""
    quiet, p99, per_call = [], [], []
    search = partial(
        calling, users=bench.users, strategy=pb.STRATEGY_EMBEDDING, callers=HEDGED_CALLERS
    )
    for ratio in ("0", "0.05"):
        async with AsyncExitStack() as opened:
            obstacles = [Obstacle(candidate.address) for _ in range(2)]
            addresses = [await opened.enter_async_context(o.serving()) for o in obstacles]
            gateway = await bench.gateway(
                ",".join(addresses), generator.address, TANDEM_HEDGE_RATIO=ratio
            )
            async with search(gateway.address) as calls:
                await asyncio.sleep(bench.seconds)
            quiet.append(float(np.percentile(calls.ms, 99)))
            for obstacle in obstacles:
                obstacle.delays = True
            async with search(gateway.address):
                await asyncio.sleep(2 * bench.seconds)  # it learns what late is
            before = sum(o.calls for o in obstacles)
            async with search(gateway.address) as calls:
                await asyncio.sleep(3 * bench.seconds)
            p99.append(float(np.percentile(calls.ms, 99)))
            searches = sum(o.calls for o in obstacles) - before
            per_call.append(searches / len(calls.outcomes))
            gateway.end()
    return {
        "hedge_p99_ms_nothing_late": quiet[1],
        "hedge_p99_ms_without": p99[0],
        "hedge_p99_ms_with": p99[1],
        "hedge_p99_ratio": p99[0] / p99[1],
        "hedge_extra_calls": per_call[1] / per_call[0] - 1.0,
    }


async def storm(bench: Bench, candidate: Process, generator: Process) -> dict[str, float]:
    """Every search refused."""
    obstacle = Obstacle(candidate.address)
    obstacle.refuses = True
    async with obstacle.serving() as address:
        gateway = await bench.gateway(address, generator.address, TANDEM_WARM_UP_SECONDS="0")
        async with calling(gateway.address, bench.users, pb.STRATEGY_RERANK) as calls:
            await asyncio.sleep(bench.seconds)
        gateway.end()
    return {
        "storm_attempts_per_call": obstacle.calls / len(calls.outcomes),
        "storm_answered": calls.share("full", "degraded"),
    }


async def measure(bundle: Path, seconds: float, directory: Path) -> dict[str, float]:
    """Everything, one after another."""
    users = list(Bundle.open(bundle, verify=False).histories.user_index)[:200]
    async with AsyncExitStack() as opened:
        bench = Bench(directory, bundle, users, seconds, opened)
        candidate, generator = await bench.process("candidate"), await bench.process("generator")
        found = [
            await measured(bench, candidate, generator)
            for measured in track(
                (faults, storm, *[hedging] * HEDGING_ROUNDS), "Measuring", transient=True
            )
        ]
    figures: dict[str, float] = {}
    for name in dict.fromkeys(itertools.chain.from_iterable(found)):
        figures[name] = median(each[name] for each in found if name in each)
    return figures


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints the table and writes `build/bench/gateway_faults.json`."""
    parser = argparse.ArgumentParser(prog="python -m bench.gateway_faults", description=__doc__)
    parser.add_argument("--bundle", type=Path, default=Path("bundles/ml-100k/current"))
    parser.add_argument("--seconds", type=float, default=5.0, help="of each phase")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as directory:
        figures = asyncio.run(measure(options.bundle, options.seconds, Path(directory)))
    table = Table("figure", box=None, header_style="bold")
    table.add_column("", justify="right")
    for name, value in figures.items():
        table.add_row(name, f"{value:.4f}")
    console = Console()
    console.print(table)
    console.print(f"written to {write_report('gateway_faults', figures, environment())}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
