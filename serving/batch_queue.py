"""A queue whose work is done in batches, one after another, on a thread of its own.

    place ──▶ put ──▶ chosen together with others ──▶ run ──▶ settled

An idle queue runs what comes at once, alone. What comes while a batch runs waits, and the next
batch takes as much of it as may go together. So batches grow with the load by themselves, and
nothing is held back in the hope of company.

A caller holds a place from its arrival until its batch starts, also while its job is still being
made. Places are bounded by weight; whoever finds no room is told when to come back. A caller that
is cancelled gives its place up, and its job never runs.

The thread takes its next batch by itself, because the event loop has answers to send just then and
the work would wait for it.
"""

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Final, Generic, NoReturn, TypeVar

import structlog

from core.errors import ResourceExhausted, Unavailable

log = structlog.get_logger()

SMOOTHING: Final = 0.1
"""The weight of the newest batch in the average time that a unit of weight takes."""
MIN_RETRY_SECONDS: Final = 0.01
"""What callers are told to wait at least, so that a queue without experience does not say 0."""

J = TypeVar("J")
A = TypeVar("A")


class Place(Generic[J, A]):
    """One caller's place in a queue, and its job once there is one.

    As a context manager it is given up at the end of the block, unless its batch has started.
    """

    job: J
    """Set by `put`."""

    def __init__(self, queue: "BatchQueue[J, A]", weight: int, arrived: float) -> None:
        self.weight = weight
        self.arrived = arrived
        """On the queue's clock."""
        self.since = math.nan
        """When the job was put; NaN before."""
        self.settled = False
        self._queue = queue
        self._outcome: asyncio.Future[A | Exception] = asyncio.get_running_loop().create_future()

    def __enter__(self) -> "Place[J, A]":
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._queue.leave(self)

    @property
    def is_ready(self) -> bool:
        """Whether its job may run."""
        return not math.isnan(self.since)

    @property
    def is_wanted(self) -> bool:
        """Whether its caller still waits."""
        return not self._outcome.done()

    def put(self, job: J) -> None:
        """Lets a job run as soon as the queue comes to it."""
        self._queue.put(self, job)

    async def answer(self) -> A:
        """Waits for the outcome of the job.

        Raises:
            Exception: what the place was settled with.
        """
        outcome = await self._outcome
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def settle(self, outcome: A | Exception) -> None:
        """Answers the caller, from any thread; one that has left is not told."""
        self.settled = True
        self.call_soon(self._settle, outcome)

    def call_soon(self, function: Callable[..., object], *arguments: Any) -> None:
        """Calls a function on the caller's event loop; on none when that is closed."""
        with contextlib.suppress(RuntimeError):
            self._outcome.get_loop().call_soon_threadsafe(function, *arguments)

    def _settle(self, outcome: A | Exception) -> None:
        # An error is a result here: asyncio complains of exceptions that nobody was left to fetch.
        if not self._outcome.done():
            self._outcome.set_result(outcome)


class BatchQueue(Generic[J, A]):
    """Runs jobs in batches.

    Args:
        run: settles each place of a batch; blocks, on the queue's thread. When it raises, each
            place that it left unsettled is run alone, so that only the one to blame fails.
        choose: the next batch, of places that are ready, oldest first; at least one of them.
        max_waiting: the weight of all places together. One that is heavier than that is let in
            while no other waits.
        reason: of the error where that is exceeded, such as `QUEUE_FULL`.
        waits: what waits and for what, for its message: "calls wait for the model".
        max_wait: seconds after which a job that still waits is shed, once the batch before it ends.
        clock: tells the time in seconds.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Place[J, A]]], None],
        choose: Callable[[Sequence[Place[J, A]]], Sequence[Place[J, A]]],
        *,
        max_waiting: int,
        reason: str,
        waits: str,
        max_wait: float = math.inf,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._run = run
        self._choose = choose
        self._max_waiting = max_waiting
        self._reason = reason
        self._waits = waits
        self._max_wait = max_wait
        self._clock = clock
        self._changed = threading.Condition()
        # Guarded by `_changed`, as is all that changes below:
        self._places: dict[Place[J, A], None] = {}
        """In order of arrival."""
        self.waiting = 0
        """The weight of all places; others may read it at any time."""
        self._seconds = 0.0
        """That a unit of weight takes, on average."""
        self._closing = False
        self._thread: threading.Thread | None = None
        """From the first place on."""

    def place(self, weight: int = 1) -> Place[J, A]:
        """Takes a place, for a job that is put into it later.

        Raises:
            ResourceExhausted: too much waits, with the queue's reason.
            Unavailable: reason DRAINING, after `close`.
        """
        place = Place(self, weight, self._clock())
        with self._changed:
            if self._closing:
                raise Unavailable("the server is going away; try another", reason="DRAINING")
            if self._places and self.waiting + weight > self._max_waiting:
                raise ResourceExhausted(
                    f"{self.waiting} {self._waits}, and no more than {self._max_waiting} may",
                    reason=self._reason,
                    retry_after=self._retry_after(),
                )
            self._places[place] = None
            self.waiting += weight
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._work, name="tandem-batches", daemon=True
                )
                self._thread.start()
        return place

    async def submit(self, job: J, weight: int = 1) -> A:
        """Answers a job; when the caller is cancelled before the job runs, it never does.

        Raises:
            ResourceExhausted: as `place`; or it waited for longer than it may, reason
                WAITED_TOO_LONG.
            Unavailable: as `place`.
            Exception: what the job was settled with.
        """
        with self.place(weight) as place:
            place.put(job)
            return await place.answer()

    async def submit_all(self, jobs: Sequence[J]) -> list[A]:
        """Answers jobs of weight 1, in order, whichever batches they run in.

        Raises:
            Exception: as `submit`, for the first job that fails; those that wait never run.
        """
        with ExitStack() as stack:
            places = [stack.enter_context(self.place()) for _ in jobs]
            for place, job in zip(places, jobs, strict=True):
                place.put(job)
            return [await place.answer() for place in places]

    @property
    def ready(self) -> int:
        """How many jobs are ready to run."""
        with self._changed:
            return sum(place.is_ready for place in self._places)

    def put(self, place: Place[J, A], job: J) -> None:
        """See `Place.put`."""
        with self._changed:
            place.job, place.since = job, self._clock()
            self._changed.notify()

    def leave(self, place: Place[J, A]) -> None:
        """Gives a place up, if it is still held."""
        with self._changed:
            if place in self._places:
                self._remove(place)
                self._changed.notify()  # this may have been the last, which closing waits for

    async def close(self) -> None:
        """Takes no more from now on, runs what has a place, and ends the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)
        # What it belongs to is free at once: a cycle would wait for the garbage collector, which
        # never comes to what a server has frozen.
        self._run = self._choose = nothing_more

    def _work(self) -> None:
        while batch := self._next_batch():
            self._run_batch(batch)

    def _next_batch(self) -> Sequence[Place[J, A]]:
        """Blocks until there is one; empty when there will be none any more."""
        with self._changed:
            while True:
                self._drop_unwanted()
                if ready := [place for place in self._places if place.is_ready]:
                    batch = self._choose(ready)
                    for place in batch:
                        self._remove(place)
                    return batch
                if self._closing and not self._places:
                    return ()
                self._changed.wait()

    def _drop_unwanted(self) -> None:
        """Removes what callers have left, and sheds what has waited for too long."""
        now = self._clock()
        for place in list(self._places):
            late = place.is_ready and now - place.arrived > self._max_wait
            if late or not place.is_wanted:
                self._remove(place)
            if late:
                place.settle(
                    ResourceExhausted(
                        f"its turn did not come within {self._max_wait:g} s",
                        reason="WAITED_TOO_LONG",
                        retry_after=self._retry_after(),
                    )
                )

    def _remove(self, place: Place[J, A]) -> None:
        del self._places[place]
        self.waiting -= place.weight

    def _retry_after(self) -> float:
        """When what waits will have run, as far as the past tells."""
        return max(MIN_RETRY_SECONDS, self.waiting * self._seconds)

    def _run_batch(self, batch: Sequence[Place[J, A]]) -> None:
        started = self._clock()
        try:
            self._run(batch)
        except Exception as error:  # noqa: BLE001 - it belongs to whoever waits for the answer
            unsettled = [place for place in batch if not place.settled]
            if len(batch) == 1:
                for place in unsettled:
                    place.settle(error)
                return
            log.warning("batch failed, runs one by one", size=len(batch), error=repr(error))
            for place in unsettled:
                self._run_batch([place])
            return
        self._learn((self._clock() - started) / max(1, sum(place.weight for place in batch)))

    def _learn(self, seconds: float) -> None:
        with self._changed:
            known = self._seconds or seconds
            self._seconds = known + SMOOTHING * (seconds - known)


def nothing_more(_: object) -> NoReturn:
    """Stands in for what a closed queue called."""
    raise RuntimeError("the queue is closed")


def oldest(max_weight: int) -> Callable[[Sequence[Place[J, A]]], Sequence[Place[J, A]]]:
    """Batches of the oldest places, of some weight together at most; a heavier one runs alone."""

    def choose(ready: Sequence[Place[J, A]]) -> Sequence[Place[J, A]]:
        weight = 0
        for count, place in enumerate(ready):
            weight += place.weight
            if count and weight > max_weight:
                return ready[:count]
        return ready

    return choose
