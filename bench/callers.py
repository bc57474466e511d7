"""Callers of a gRPC method, in a process of their own so that nothing else holds them up.

Closed-loop callers send their next call when they have the answer to their last: they say how much
can be answered. An open-loop caller sends calls at a rate, whatever becomes of them, as a crowd
does: it says what happens when that is more than can be answered.
"""

import asyncio
import itertools
import multiprocessing
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import grpc

from bench.open_loop import OpenLoop
from bench.outcome import PATIENCE_SECONDS, RECOMMEND, Load, Outcome
from tandem import errors
from tandem.v1 import recommendation_service_pb2 as pb
from tandem.v1 import recommendation_service_pb2_grpc as pb_grpc

IN_HAND: Final = 256
"""Requests of a stream that wait for an answer; else small ones fill the buffers by thousands."""


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
    return OpenLoop(load).run() if load.rate else asyncio.run(_closed_loop(load))


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


@asynccontextmanager
async def _connected(load: Load) -> AsyncIterator[Callable[[Outcome], Any]]:
    """Yields a function that sends the next call; it returns how long its caller should pause."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    count = min(load.callers, load.connections)
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
        answers = pb_grpc.RecommendationServiceStub(channel).BatchRecommend(send())
        try:
            async for answer in answers:
                room.release()
                _note(outcome, answer)
        except grpc.aio.AioRpcError as error:
            outcome.failed[error.code().name] += 1
        outcome.seconds = time.perf_counter() - started
    return outcome


def _note(outcome: Outcome, answer: pb.BatchRecommendResponse) -> None:
    if answer.HasField("error"):
        outcome.failed[errors.from_status(answer.error).reason] += 1
    elif answer.response.degraded:
        outcome.degraded += 1
    else:
        outcome.accepted.append(0.0)
