"""Adaptive batching: calls that come while the model is busy share its next run.

    submit ──▶ prepared on a worker thread ──▶ queued ──▶ run on the one inference thread

An idle model never waits: what comes first runs at once, alone. What comes meanwhile queues, and
when the model is free again the oldest job is next, together with those that it may share a batch
with. So batches grow with the load by themselves; nothing is held back in the hope of company.

A batch is as long as its longest prompt, and what is shorter is padded at full cost. Hence a batch
takes the jobs that are nearest in length to its oldest one, while little of it would be padding.
The oldest job is in every next batch, so nothing can be overtaken forever: with k jobs before it, a
job starts after k + 1 batches at the latest.

The inference thread takes its next batch by itself, for the event loop has answers to send just
then, and the model would wait for it.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

import structlog

from core.errors import ResourceExhausted, Unavailable
from serving.workers import Workers

log = structlog.get_logger()

MAX_PADDING: Final = 0.25
"""The share of a batch's tokens that may be padding."""
PREPARERS: Final = 2
"""Threads that prepare: a slow job, such as a filter over a large catalog, holds up no other."""
SMOOTHING: Final = 0.1
"""The weight of the newest batch in the average time that a job takes."""


class BatchJob(Protocol):
    """What batching must know about a job."""

    @property
    def group(self) -> Hashable:
        """Only jobs of equal groups may share a batch."""

    @property
    def tokens(self) -> int:
        """The length of the prompt."""


J = TypeVar("J", bound=BatchJob)
A = TypeVar("A")


@dataclass(frozen=True)
class Limits:
    """How far batching may go."""

    batch: int = 8
    """Jobs that run together."""
    queue: int = 128
    """Jobs that are prepared or wait; above that, new ones are shed."""
    wait: float = 1.0
    """Seconds after which a job that still waits is shed, once the batch before it ends."""


@dataclass(frozen=True)
class Served(Generic[A]):
    """An answer, and what it took. Times are in seconds."""

    answer: A
    prepared: float
    """From the arrival until the job was ready."""
    queued: float
    """From then until its batch started."""
    ran: float
    """How long the batch ran."""
    batch: int
    """How many jobs it had."""


@dataclass(frozen=True, eq=False)
class _Place(Generic[A]):
    """A place in the queue, held from a job's arrival until it runs or leaves."""

    arrived: float
    future: "asyncio.Future[Served[A] | Exception]"

    def settle(self, outcome: Served[A] | Exception) -> None:
        """Answers from any thread; whoever left is not told."""
        self.future.get_loop().call_soon_threadsafe(self._settle, outcome)

    def _settle(self, outcome: Served[A] | Exception) -> None:
        if not self.future.done():
            self.future.set_result(outcome)


@dataclass(frozen=True)
class _Waiting(Generic[J, A]):
    """A job that is ready to run."""

    place: _Place[A]
    job: J
    since: float


class Batcher(Generic[J, A]):
    """Runs jobs in batches, on a thread of its own.

    Args:
        run: answers the jobs of one group, in order; blocks. When it fails for several jobs it is
            called for each alone, so that only the one to blame fails.
        limits: how far to go.
        clock: tells the time in seconds.
    """

    def __init__(
        self,
        run: Callable[[Sequence[J]], Sequence[A]],
        limits: Limits,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._run = run
        self.limits = limits
        self._clock = clock
        self._preparers = Workers(PREPARERS)
        self._changed = threading.Condition()
        # Guarded by `_changed`, as is all that changes below:
        self._places: dict[_Place[A], _Waiting[J, A] | None] = {}
        """In order of arrival; None while the job is being prepared."""
        self._seconds_per_job = 0.0
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="tandem-inference", daemon=True)
        self._thread.start()

    async def submit(self, prepare: Callable[[], J]) -> Served[A]:
        """Prepares a job and answers it.

        When the caller is cancelled before the job runs, the job leaves the queue and never does.

        Args:
            prepare: makes the job; called on a worker thread.

        Raises:
            ResourceExhausted: reason QUEUE_FULL, before anything was done; or WAITED_TOO_LONG.
            Unavailable: reason DRAINING, after `close`.
            Exception: whatever `prepare` or `run` raised for this job.
        """
        place = self._enter()
        try:
            job = await self._preparers.run(prepare)
            with self._changed:
                self._places[place] = _Waiting(place, job, self._clock())
                self._changed.notify()
            outcome = await place.future
        finally:
            self._leave(place)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    @property
    def waiting(self) -> int:
        """How many jobs are ready to run and wait for the model."""
        with self._changed:
            return sum(waiting is not None for waiting in self._places.values())

    async def close(self) -> None:
        """Takes no more jobs, answers those that it has, and ends its threads."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        await asyncio.to_thread(self._thread.join)
        self._preparers.close()

    def _enter(self) -> _Place[A]:
        place: _Place[A] = _Place(self._clock(), asyncio.get_running_loop().create_future())
        with self._changed:
            if self._closing:
                raise Unavailable("the server is going away; try another", reason="DRAINING")
            if len(self._places) >= self.limits.queue:
                raise ResourceExhausted(
                    f"{self.limits.queue} calls wait for the model, and no more may",
                    reason="QUEUE_FULL",
                    retry_after=self._retry_after(),
                )
            self._places[place] = None
        return place

    def _leave(self, place: _Place[A]) -> None:
        with self._changed:
            self._places.pop(place, None)
            if self._closing:
                self._changed.notify()  # this may have been the last

    def _retry_after(self) -> float:
        """When what is queued will have run, as far as the past tells."""
        return len(self._places) * self._seconds_per_job

    def _work(self) -> None:
        while batch := self._next_batch():
            self._run_batch(batch)

    def _next_batch(self) -> list[_Waiting[J, A]]:
        """Blocks until there is one; empty when there will be none any more."""
        with self._changed:
            while True:
                self._shed_late()
                ready = [waiting for waiting in self._places.values() if waiting is not None]
                if ready:
                    chosen = choose([waiting.job for waiting in ready], self.limits.batch)
                    batch = [ready[i] for i in chosen]
                    for waiting in batch:
                        del self._places[waiting.place]
                    return batch
                if self._closing and not self._places:
                    return []
                self._changed.wait()

    def _shed_late(self) -> None:
        now = self._clock()
        for waiting in list(self._places.values()):
            if waiting is not None and now - waiting.place.arrived > self.limits.wait:
                del self._places[waiting.place]
                late = ResourceExhausted(
                    f"the model was not free within {self.limits.wait:g} s",
                    reason="WAITED_TOO_LONG",
                    retry_after=self._retry_after(),
                )
                waiting.place.settle(late)

    def _run_batch(self, batch: Sequence[_Waiting[J, A]]) -> None:
        started = self._clock()
        try:
            answers = self._answers([waiting.job for waiting in batch])
        except Exception as error:  # noqa: BLE001 - it belongs to whoever waits for the answer
            if len(batch) == 1:
                batch[0].place.settle(error)
                return
            log.warning("batch failed, runs one by one", size=len(batch), error=repr(error))
            for waiting in batch:
                self._run_batch([waiting])
            return
        ran = self._clock() - started
        self._learn(ran / len(batch))
        log.debug("batch", size=len(batch), waiting=self.waiting, ms=round(ran * 1e3, 3))
        for waiting, answer in zip(batch, answers, strict=True):
            since, arrived = waiting.since, waiting.place.arrived
            times = {"prepared": since - arrived, "queued": started - since, "ran": ran}
            waiting.place.settle(Served(answer, **times, batch=len(batch)))

    def _answers(self, jobs: Sequence[J]) -> Sequence[A]:
        answers = self._run(jobs)
        if len(answers) != len(jobs):
            raise RuntimeError(f"{len(answers)} answers came for {len(jobs)} jobs")
        return answers

    def _learn(self, seconds_per_job: float) -> None:
        with self._changed:
            known = self._seconds_per_job or seconds_per_job
            self._seconds_per_job = known + SMOOTHING * (seconds_per_job - known)


def choose(jobs: Sequence[BatchJob], size: int, padding: float = MAX_PADDING) -> list[int]:
    """Chooses the next batch.

    Args:
        jobs: that wait, oldest first; at least one.
        size: of the batch, at most.
        padding: the share of the batch's tokens that may be padding.

    Returns:
        The positions of the oldest job and of those of its group that are nearest to it in length,
        older ones first where they are equally near.
    """
    oldest = jobs[0]
    chosen, total, longest = [0], oldest.tokens, oldest.tokens
    alike = [i for i in range(1, len(jobs)) if jobs[i].group == oldest.group]
    for i in sorted(alike, key=lambda i: abs(jobs[i].tokens - oldest.tokens)):
        if len(chosen) == size:
            break
        wider = max(longest, jobs[i].tokens)
        computed = wider * (len(chosen) + 1)
        if computed - total - jobs[i].tokens <= padding * computed:
            chosen.append(i)
            total, longest = total + jobs[i].tokens, wider
    return chosen
