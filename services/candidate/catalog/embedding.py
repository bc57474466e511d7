"""Embedding the texts of many callers in batches, on a thread of its own.

Whoever sends one text while another sends a thousand does not wait for the thousand: each batch
takes some of every caller's. Searches have the other threads.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from services.candidate.index.flat import Vector
from serving.workers import Workers

BATCH: Final = 32
"""Texts in a batch, at most: some tenths of a second with a small model on one core."""
AHEAD: Final = 2
"""Batches that are made up at a time: the thread goes from one to the next without a pause."""


class _Job:
    """The texts of one caller, the shortest first, so that those of a batch are alike."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.result: asyncio.Future[Vector] = asyncio.get_running_loop().create_future()
        self._texts = texts
        self._left = deque(sorted(range(len(texts)), key=lambda i: len(texts[i])))
        self._vectors: dict[int, Vector] = {}

    @property
    def left(self) -> int:
        """Texts that are not taken yet."""
        return len(self._left)

    def take(self, count: int) -> list[int]:
        return [self._left.popleft() for _ in range(min(count, self.left))]

    def text(self, place: int) -> str:
        return self._texts[place]

    def put(self, place: int, vector: Vector) -> None:
        self._vectors[place] = vector
        if len(self._vectors) == len(self._texts) and not self.result.done():
            self.result.set_result(np.stack([self._vectors[i] for i in range(len(self._texts))]))

    def fail(self, error: BaseException) -> None:
        self._left.clear()
        if not self.result.done():
            self.result.set_exception(error)


class TextBatches:
    """Embeds texts.

    Args:
        embed: makes float32 [texts, dimension] of a batch; blocks.
    """

    def __init__(self, embed: Callable[[Sequence[str]], Vector]) -> None:
        self._embed = embed
        self._thread = Workers(1)
        self._jobs: deque[_Job] = deque()
        self._running: list[asyncio.Task[None]] = []

    async def embed(self, texts: Sequence[str]) -> Vector:
        """The vectors of texts, at least one: float32 [texts, dimension]."""
        job = _Job(texts)
        self._jobs.append(job)
        self._running = [running for running in self._running if not running.done()]
        if len(self._running) < AHEAD:
            self._running.append(asyncio.create_task(self._run()))
        return await job.result

    def close(self) -> None:
        """Drops what waits, and waits for what runs."""
        for running in self._running:
            running.cancel()
        self._thread.close()

    async def _run(self) -> None:
        while batch := self._next():
            texts = [job.text(place) for job, place in batch]
            try:
                vectors = await self._thread.run(self._embed, texts)
            except Exception as error:  # noqa: BLE001 - raised where the texts came from
                for job, _ in batch:
                    job.fail(error)
                continue
            for (job, place), vector in zip(batch, vectors, strict=True):
                job.put(place, vector)

    def _next(self) -> list[tuple[_Job, int]]:
        """Texts of every job in turn. Callers who have left are left out."""
        self._jobs = deque(job for job in self._jobs if job.left and not job.result.done())
        batch: list[tuple[_Job, int]] = []
        while self._jobs and len(batch) < BATCH:
            job = self._jobs.popleft()
            share = max(1, (BATCH - len(batch)) // (len(self._jobs) + 1))
            batch += [(job, place) for place in job.take(share)]
            if job.left:
                self._jobs.append(job)
        return batch
