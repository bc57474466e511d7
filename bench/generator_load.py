"""Load on the generator service: what batching brings when callers come at the same time.

Two servers of the same bundle, one that batches and one that does not, are real processes on this
machine, called over gRPC. They take turns, so that a drifting machine slows both; the gain is the
median over rounds of the ratio of one round's calls per second.

Callers are closed-loop: each sends its next call when it has an answer. They share the machine with
the server, whose figures would be better without them.
"""

import asyncio
import itertools
import statistics
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import grpc
import numpy as np
from rich.console import Console
from rich.table import Table

from bench.service import serving
from core.bundle import Bundle
from tandem.v1 import generator_service_pb2 as pb
from tandem.v1 import generator_service_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from tandem.v1.generator_service_pb2_grpc import GeneratorServiceAsyncStub as Stub

REQUESTS: Final = 512
ROUNDS: Final = 5
_PATIENT: Final = ("--max-queue", "1024", "--max-queue-ms", "60000")
"""Nothing is shed: the callers are as many as they are, and wait."""


@dataclass(frozen=True)
class Load:
    """What concurrent callers saw of one server. Times are in milliseconds."""

    callers: int
    calls: int
    calls_per_second: float
    p50_ms: float
    p99_ms: float
    mean_queue_ms: float
    p99_queue_ms: float
    mean_batch: float
    """The size of the batch that a call was in, on average over calls."""


@dataclass(frozen=True)
class Comparison:
    """A server that batches beside one that runs calls one at a time."""

    callers: int
    one_at_a_time: Load
    batched: Load
    gain: float
    """The median over rounds of the ratio of their calls per second."""


@dataclass(frozen=True)
class _Call:
    ms: float
    queue_ms: float
    batch: int


@dataclass(frozen=True)
class _Turn:
    seconds: float
    calls: Sequence[_Call]

    @property
    def rate(self) -> float:
        return len(self.calls) / self.seconds


def measure_load(bundle: Path, seconds: float, *, threads: int = 0) -> dict[str, float]:
    """Compares the servers under 1 and under 32 callers, and prints a table.

    Args:
        bundle: the directory of a whole bundle.
        seconds: of each load, over all rounds.
        threads: of each server; 0 means one per core.

    Returns:
        Flat, named figures.
    """
    comparisons = compare_batching(bundle, threads=threads, seconds=seconds / ROUNDS)
    columns = ("calls/s", "p50 ms", "p99 ms", "queue ms", "queue p99", "batch")
    table = Table("callers", *columns, box=None, header_style="bold")
    figures: dict[str, float] = {}
    for comparison in comparisons:
        callers = f"{comparison.callers}_callers"
        for name in ("one_at_a_time", "batched"):
            load: Load = getattr(comparison, name)
            values = {field: value for field, value in asdict(load).items() if field != "callers"}
            figures |= {f"{callers}_{name}_{field}": value for field, value in values.items()}
            cells = [f"{value:.1f}" for field, value in values.items() if field != "calls"]
            table.add_row(f"{comparison.callers}, {name.replace('_', ' ')}", *cells)
        figures[f"throughput_gain_{callers}"] = comparison.gain
    Console().print(table)
    return figures


def compare_batching(
    bundle: Path,
    *,
    threads: int = 0,
    max_batch: int = 8,
    callers: Sequence[int] = (1, 32),
    seconds: float = 2.0,
    rounds: int = ROUNDS,
) -> list[Comparison]:
    """Measures `Generate` with and without batching, for each number of callers.

    Args:
        bundle: the directory of a whole bundle; its generator is served.
        threads: of each server; 0 means one per core.
        max_batch: of the server that batches.
        callers: how many call at the same time.
        seconds: that a turn lasts.
        rounds: turns of each server.

    Raises:
        ProcessEndedError: a server did not start.
        grpc.RpcError: a call failed.
    """
    requests = mixed_requests(Bundle.open(bundle, verify=False))
    return asyncio.run(_compare(bundle, requests, threads, max_batch, callers, seconds, rounds))


def mixed_requests(
    bundle: Bundle, count: int = REQUESTS, seed: int = 0
) -> list[pb.GenerateRequest]:
    """Random histories of every length that the bundle's prompts have room for."""
    rng = np.random.default_rng(seed)
    longest = bundle.manifest.generator.max_history
    requests = []
    for length in rng.integers(1, longest + 1, count):
        history = bundle.catalog.ids(rng.integers(0, len(bundle.catalog), length).tolist())
        requests.append(pb.GenerateRequest(context=pb.UserContext(history_item_ids=history)))
    return requests


async def _compare(
    bundle: Path,
    requests: Sequence[pb.GenerateRequest],
    threads: int,
    max_batch: int,
    callers: Sequence[int],
    seconds: float,
    rounds: int,
) -> list[Comparison]:
    async with AsyncExitStack() as servers:
        one = await servers.enter_async_context(_server(bundle, threads, max_batch=1))
        many = await servers.enter_async_context(_server(bundle, threads, max_batch=max_batch))
        comparisons = []
        for count in callers:
            for stub in (one, many):
                await _turn(stub, itertools.cycle(requests), count, seconds / 10)  # warm
            pairs = [
                [
                    await _turn(stub, itertools.cycle(requests), count, seconds)
                    for stub in (one, many)
                ]
                for _ in range(rounds)
            ]
            alone, batched = zip(*pairs, strict=True)
            gain = statistics.median(b.rate / a.rate for a, b in zip(alone, batched, strict=True))
            comparisons.append(Comparison(count, _load(count, alone), _load(count, batched), gain))
        return comparisons


@asynccontextmanager
async def _server(bundle: Path, threads: int, *, max_batch: int) -> AsyncIterator["Stub"]:
    flags = ["--threads", str(threads), "--max-batch", str(max_batch), *_PATIENT]
    async with (
        serving("generator", bundle, *flags) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        yield pb_grpc.GeneratorServiceStub(channel)


async def _turn(
    stub: "Stub", requests: Iterator[pb.GenerateRequest], callers: int, seconds: float
) -> _Turn:
    """Calls a server from so many callers for so long; calls under way at the end are awaited."""
    calls: list[_Call] = []
    started = time.perf_counter()

    async def call_on() -> None:
        while time.perf_counter() < started + seconds:
            calls.append(await _call(stub, next(requests)))

    await asyncio.gather(*(call_on() for _ in range(callers)))
    return _Turn(time.perf_counter() - started, calls)


async def _call(stub: "Stub", request: pb.GenerateRequest) -> _Call:
    started = time.perf_counter()
    response = await stub.Generate(request)
    ms = (time.perf_counter() - started) * 1e3
    (queue,) = (timing for timing in response.timings if timing.stage == "queue")
    return _Call(ms, queue.duration.ToNanoseconds() / 1e6, response.batch_size)


def _load(callers: int, turns: Sequence[_Turn]) -> Load:
    calls = [call for turn in turns for call in turn.calls]
    ms = np.array([call.ms for call in calls])
    queue_ms = np.array([call.queue_ms for call in calls])
    return Load(
        callers=callers,
        calls=len(calls),
        calls_per_second=len(calls) / sum(turn.seconds for turn in turns),
        p50_ms=float(np.percentile(ms, 50)),
        p99_ms=float(np.percentile(ms, 99)),
        mean_queue_ms=float(queue_ms.mean()),
        p99_queue_ms=float(np.percentile(queue_ms, 99)),
        mean_batch=statistics.fmean(call.batch for call in calls),
    )
