"""Adaptive batching: calls that come while the model is busy share its next run.

The queue is that of `serving/batch_queue.py`; here is which of the waiting jobs run together. A
batch is as long as its longest prompt, and what is shorter is padded at full cost. Hence a batch
takes the jobs that are nearest in length to its oldest one, while little of it would be padding.
The oldest job is in every next batch, so nothing can be overtaken forever: with k jobs before it, a
job starts after k + 1 batches at the latest.
"""

import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Generic, Protocol, TypeVar

import structlog

from serving.batch_queue import BatchQueue, Place

log = structlog.get_logger()

MAX_PADDING: Final = 0.25
"""The share of a batch's tokens that may be padding."""
MAX_CELLS: Final = 2**21
"""What a batch's prefixes may come to, each compared with all others of its job: two calls of the
1,024 that one pass reads at most. Attention takes some 4 bytes for each, in each head, and logits
4 bytes for each prefix and token of the vocabulary."""


class BatchJob(Protocol):
    """What batching must know about a job."""

    @property
    def group(self) -> Hashable:
        """Only jobs of equal groups may share a batch."""

    @property
    def tokens(self) -> int:
        """The length of the prompt."""

    @property
    def prefixes(self) -> int:
        """How many prefixes of codes the decoder reads at once; 0 where it scores no shortlist."""


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

    def after(self, earlier: "Served[A]") -> "Served[A]":
        """The same answer, after another that did not suffice: what both took."""
        return replace(
            self,
            prepared=earlier.prepared + self.prepared,
            queued=earlier.queued + self.queued,
            ran=earlier.ran + self.ran,
        )


def model_queue(
    run: Callable[[Sequence[J]], Sequence[A]],
    limits: Limits,
    clock: Callable[[], float] = time.perf_counter,
) -> BatchQueue[J, Served[A]]:
    """The queue in front of a model.

    Args:
        run: answers the jobs of one group, in order; blocks. When it fails for several jobs it is
            called for each alone, so that only the one to blame fails.
        limits: how far to go.
        clock: tells the time in seconds.
    """

    def answer(batch: Sequence[Place[J, Served[A]]]) -> None:
        started = clock()
        answers = run([place.job for place in batch])
        if len(answers) != len(batch):
            raise RuntimeError(f"{len(answers)} answers came for {len(batch)} jobs")
        ran = clock() - started
        log.debug("batch", size=len(batch), waiting=queue.ready, ms=round(ran * 1e3, 3))
        for place, found in zip(batch, answers, strict=True):
            prepared, queued = place.since - place.arrived, started - place.since
            place.settle(Served(found, prepared, queued, ran, batch=len(batch)))

    def next_batch(ready: Sequence[Place[J, Served[A]]]) -> Sequence[Place[J, Served[A]]]:
        return [ready[i] for i in choose([place.job for place in ready], limits.batch)]

    queue: BatchQueue[J, Served[A]] = BatchQueue(
        answer,
        next_batch,
        max_waiting=limits.queue,
        reason="QUEUE_FULL",
        waits="calls wait for the model",
        max_wait=limits.wait,
        clock=clock,
    )
    return queue


def choose(
    jobs: Sequence[BatchJob], size: int, padding: float = MAX_PADDING, cells: int = MAX_CELLS
) -> list[int]:
    """Chooses the next batch.

    Args:
        jobs: that wait, oldest first; at least one.
        size: of the batch, at most.
        padding: the share of the batch's tokens that may be padding.
        cells: of the batch, at most, where it is more than one job: jobs times the square of the
            most prefixes that one has, for that is what the memory of a shortlist grows with.

    Returns:
        The positions of the oldest job and of those of its group that are nearest to it in length,
        older ones first where they are equally near.
    """
    oldest = jobs[0]
    chosen, total, longest, most = [0], oldest.tokens, oldest.tokens, oldest.prefixes
    alike = [i for i in range(1, len(jobs)) if jobs[i].group == oldest.group]
    for i in sorted(alike, key=lambda i: abs(jobs[i].tokens - oldest.tokens)):
        if len(chosen) == size:
            break
        wider, deeper = max(longest, jobs[i].tokens), max(most, jobs[i].prefixes)
        together = len(chosen) + 1
        fits = together * deeper**2 <= cells
        if fits and wider * together - total - jobs[i].tokens <= padding * wider * together:
            chosen.append(i)
            total, longest, most = total + jobs[i].tokens, wider, deeper
    return chosen
