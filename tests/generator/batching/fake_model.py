"""A model that batching can be tested with: it answers with names, when it is let to."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from services.generator.batching import Limits, Served, model_queue
from serving.batch_queue import BatchQueue

PATIENCE = 30.0
"""Seconds after which a test gives up; nothing is expected to take that long."""


@dataclass(frozen=True)
class FakeJob:
    name: int
    group: str = "a"
    tokens: int = 10
    prefixes: int = 0
    broken: bool = False


@dataclass
class FakeModel:
    """Answers with the jobs' names. A run goes on when it is let to, a second one at once."""

    held: bool = True
    runs: list[list[FakeJob]] = field(default_factory=list)
    started: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    let: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    now: float = 0.0
    """The time, which stands still unless a test moves it."""

    def run(self, jobs: Sequence[FakeJob]) -> list[str]:
        again = any(jobs[0] is job for run in self.runs for job in run)
        self.runs.append(list(jobs))
        if self.held and not again:
            self.started.release()
            assert self.let.acquire(timeout=PATIENCE)
        if broken := [job.name for job in jobs if job.broken]:
            raise ValueError(f"cannot answer {broken}")
        return [f"answer {job.name}" for job in jobs]

    def clock(self) -> float:
        return self.now

    def names(self) -> list[list[int]]:
        return [[job.name for job in jobs] for jobs in self.runs]

    async def until_started(self) -> None:
        assert await asyncio.to_thread(self.started.acquire, timeout=PATIENCE)


Tasks = list["asyncio.Task[Served[str]]"]
FakeQueue = BatchQueue[FakeJob, Served[str]]


@asynccontextmanager
async def batching(model: FakeModel, limits: Limits) -> AsyncIterator[FakeQueue]:
    queue = model_queue(model.run, limits, model.clock)
    try:
        yield queue
    finally:
        model.held = False
        model.let.release(1_000)
        await queue.close()


def submit(queue: FakeQueue, *jobs: FakeJob) -> Tasks:
    return [asyncio.create_task(queue.submit(job)) for job in jobs]


async def until_waiting(queue: FakeQueue, jobs: int) -> None:
    """Lets the event loop turn until so many jobs are ready and wait."""
    async with asyncio.timeout(PATIENCE):
        while queue.ready != jobs:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0)


async def occupy(queue: FakeQueue, model: FakeModel, *waiting: FakeJob) -> Tasks:
    """Keeps the model busy with job 0 while others come to wait."""
    tasks = submit(queue, FakeJob(0))
    await model.until_started()
    tasks += submit(queue, *waiting)
    await until_waiting(queue, len(waiting))
    return tasks
