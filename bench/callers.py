"""Callers of a gRPC method, in a process of their own so that nothing else holds them up.

Closed-loop callers send their next call when they have the answer to their last: they say how much
can be answered. An open-loop caller sends calls at a rate, whatever becomes of them, as a crowd
does: it says what happens when that is more than can be answered.
"""

import asyncio
import itertools
import multiprocessing
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
import numpy as np

from tandem import errors
from tandem.v1 import recommendation_service_pb2 as pb
from tandem.v1 import recommendation_service_pb2_grpc as pb_grpc

RECOMMEND: Final = "/tandem.v1.RecommendationService/Recommend"
CONNECTIONS: Final = 4
IN_HAND: Final = 256
"""Requests of a stream that wait for an answer; else small ones fill the buffers by thousands."""
PATIENCE_SECONDS: Final = 2.0
"""A call's deadline: an answer after it is none."""


@dataclass(frozen=True)
class Load:
    """What is to be called."""

    address: str
    requests: Sequence[bytes]
    """Sent in turn."""
    seconds: float
    method: str = RECOMMEND
    callers: int = 0
    """Closed-loop ones."""
    rate: float = 0.0
    """Calls a second of an open-loop one; the intervals are random, as a crowd's (Poisson)."""


@dataclass
class Outcome:
    """What came of it. Times are in milliseconds."""

    seconds: float = 0.0
    accepted: list[float] = field(default_factory=list)
    """Of calls that were answered in full."""
    rejected: list[float] = field(default_factory=list)
    """Of calls that were shed."""
    stages: dict[str, list[float]] = field(default_factory=dict)
    own: list[float] = field(default_factory=list)
    """What each call took beyond its downstream calls: here, on the way, and in the gateway."""
    degraded: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    """Calls that ended otherwise, by canonical code."""
    response_bytes: int = 0
    late_ms: float = 0.0
    """How far an open-loop caller was behind at its worst: it could not keep the rate."""

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.accepted) / self.seconds

    def p(self, percent: float) -> float:
        """A percentile of the times of accepted calls."""
        return percentile(self.accepted, percent)

    def note(self, response: bytes, ms: float) -> None:
        """Takes an answer in."""
        self.response_bytes = len(response)
        answer = pb.RecommendResponse.FromString(response)
        if answer.degraded:
            self.degraded += 1
            return
        self.accepted.append(ms)
        stages = {t.stage: t.duration.ToNanoseconds() / 1e6 for t in answer.timings}
        for stage, stage_ms in stages.items():
            self.stages.setdefault(stage, []).append(stage_ms)
        self.own.append(ms - sum(stages.get(stage, 0.0) for stage in ("search", "rerank")))


def percentile(values: Sequence[float], percent: float) -> float:
    """NaN for none."""
    return float(np.percentile(values, percent)) if values else float("nan")


class Crowd:
    """Runs loads in a process of its own."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool = pool

    def call(self, load: Load) -> Outcome:
        """Sends calls as the load says."""
        return self._pool.submit(_run, load).result()

    def batch(self, load: Load) -> Outcome:
        """Streams requests over one `BatchRecommend` for as long; `callers` has no meaning."""
        return self._pool.submit(_run_batch, load).result()


@contextmanager
def crowd() -> Iterator[Crowd]:
    """Starts the process, and ends it."""
    context = multiprocessing.get_context("spawn")  # gRPC does not survive a fork
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        yield Crowd(pool)


def _run(load: Load) -> Outcome:
    return asyncio.run(_open_loop(load) if load.rate else _closed_loop(load))


def _run_batch(load: Load) -> Outcome:
    return asyncio.run(_stream(load))


async def _closed_loop(load: Load) -> Outcome:
    outcome = Outcome()
    async with _connected(load) as send:
        started = time.perf_counter()

        async def call_on() -> None:
            while time.perf_counter() < started + load.seconds:
                if pause := await send(outcome):
                    await asyncio.sleep(pause)

        await asyncio.gather(*(call_on() for _ in range(load.callers)))
        outcome.seconds = time.perf_counter() - started
    return outcome


async def _open_loop(load: Load) -> Outcome:
    outcome, tasks = Outcome(seconds=load.seconds), set()
    rng = random.Random(0)  # noqa: S311 - no secret depends on it
    async with _connected(load) as send:
        started = time.perf_counter()
        due = started
        while due < started + load.seconds:
            now = time.perf_counter()
            if due > now:
                await asyncio.sleep(due - now)
            else:
                outcome.late_ms = max(outcome.late_ms, (now - due) * 1e3)
            task = asyncio.create_task(send(outcome))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            due += rng.expovariate(load.rate)
        await asyncio.gather(*tasks)
    return outcome


@asynccontextmanager
async def _connected(load: Load) -> AsyncIterator[Callable[[Outcome], Any]]:
    """Yields a function that sends the next call; it returns how long its caller should pause."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    count = min(load.callers or CONNECTIONS, CONNECTIONS)
    channels = [grpc.aio.insecure_channel(load.address, options) for _ in range(count)]
    methods: Iterator[Any] = itertools.cycle([c.unary_unary(load.method) for c in channels])
    requests = itertools.cycle(load.requests)

    async def send(outcome: Outcome) -> float:
        started = time.perf_counter()
        try:
            response = await next(methods)(next(requests), timeout=PATIENCE_SECONDS)
        except grpc.aio.AioRpcError as error:
            return _failed(outcome, error, (time.perf_counter() - started) * 1e3)
        ms = (time.perf_counter() - started) * 1e3
        if load.method == RECOMMEND:
            outcome.note(response, ms)
        else:
            outcome.accepted.append(ms)
        return 0.0

    try:
        await asyncio.gather(*(channel.channel_ready() for channel in channels))
        yield send
    finally:
        for channel in channels:
            await channel.close()


def _failed(outcome: Outcome, error: grpc.aio.AioRpcError, ms: float) -> float:
    if error.code() != grpc.StatusCode.RESOURCE_EXHAUSTED:
        outcome.failed[error.code().name] += 1
        return 0.0
    outcome.rejected.append(ms)
    return errors.from_rpc(error).retry_after or 0.0


async def _stream(load: Load) -> Outcome:
    outcome, room = Outcome(), asyncio.Semaphore(IN_HAND)
    requests = itertools.cycle(map(pb.RecommendRequest.FromString, load.requests))

    async def send() -> AsyncIterator[pb.BatchRecommendRequest]:
        end = time.perf_counter() + load.seconds
        while time.perf_counter() < end:
            await room.acquire()
            yield pb.BatchRecommendRequest(request=next(requests))

    async with grpc.aio.insecure_channel(load.address) as channel:
        await channel.channel_ready()
        started = time.perf_counter()
        async for answer in pb_grpc.RecommendationServiceStub(channel).BatchRecommend(send()):
            room.release()
            if answer.HasField("error"):
                outcome.failed[answer.error.reason] += 1
            elif answer.response.degraded:
                outcome.degraded += 1
            else:
                outcome.accepted.append(0.0)
        outcome.seconds = time.perf_counter() - started
    return outcome
