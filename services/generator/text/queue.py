"""Continuous batching: texts begin and end between any two steps of those that are written.

One thread steps the model. Whoever comes while there is room begins at the next step; beyond that
callers wait, oldest first, in a queue that is bounded in length and in time. A text gives its room
up before the next step when it has ended, has as many tokens as it may have, is near its deadline,
or its caller has left.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from core.errors import ResourceExhausted, Unavailable
from services.generator.text.batch import TextBatch
from services.generator.text.engine import TextEngine, TextJob
from services.generator.text.places import Event, Finished, Place, Stop
from services.generator.turns import ModelTurns

RETRY_SECONDS: Final = 1.0
"""After which one who found no room is told to come back: about what a text takes."""


@dataclass(frozen=True)
class TextLimits:
    """How many texts there may be."""

    rows: int = 8
    """That are written at a time."""
    queue: int = 32
    """That are prepared or wait; above that, new ones are shed."""
    wait: float = 5.0
    """Seconds after which one that still waits is shed."""


class TextQueue:
    """Writes texts.

    Args:
        engine: of the model; its own.
        turns: at the model.
        limits: how many.
        clock: tells the time in seconds; deadlines are on it too.
    """

    def __init__(
        self,
        engine: TextEngine,
        turns: ModelTurns,
        limits: TextLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.engine = engine
        self._batch = TextBatch(engine, turns, clock)
        self._limits = limits or TextLimits()
        self._clock = clock
        self._changed = threading.Condition()
        # Guarded by `_changed`, as is all that changes below:
        self._waiting: dict[Place, None] = {}
        """In order of arrival."""
        self._closing = False
        self._thread: threading.Thread | None = None

    @property
    def waiting(self) -> int:
        """Texts that are prepared or wait; others may read it at any time."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Texts that are written for somebody; others may read it at any time."""
        return sum(not place.left for place in self._batch.places)

    async def write(
        self, prepare: Callable[[], Awaitable[TextJob]], ends: float
    ) -> AsyncGenerator[int | Finished, None]:
        """Writes a text: yields its tokens as they come, and its end.

        Its place is taken before anything is done, and given up when the iteration ends.

        Args:
            prepare: makes the job.
            ends: by when the caller must have the text, on the clock.

        Raises:
            ResourceExhausted: reason QUEUE_FULL, too many wait; or WAITED_TOO_LONG.
            Unavailable: reason DRAINING, after `close`.
            Exception: what `prepare` raised, or the model.
        """
        loop, events = asyncio.get_running_loop(), asyncio.Queue[Event]()

        def send(event: Event) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(events.put_nowait, event)

        place = self._take(Place(send, self._clock(), ends))
        try:
            self._put(place, await prepare())
            while not isinstance(event := await events.get(), Finished):
                if isinstance(event, Exception):
                    raise event
                yield event
            yield event
        finally:
            self._leave(place)

    async def close(self) -> None:
        """Takes no more from now on, writes what has a place, and ends the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    def _take(self, place: Place) -> Place:
        with self._changed:
            if self._closing:
                raise Unavailable("the server is going away; try another", reason="DRAINING")
            if len(self._waiting) >= self._limits.queue:
                raise ResourceExhausted(
                    f"{len(self._waiting)} texts wait to be written, and no more may",
                    reason="QUEUE_FULL",
                    retry_after=RETRY_SECONDS,
                )
            self._waiting[place] = None
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="tandem-text", daemon=True)
                self._thread.start()
        return place

    def _put(self, place: Place, job: TextJob) -> None:
        with self._changed:
            place.put(job, self._clock())
            self._changed.notify()

    def _leave(self, place: Place) -> None:
        with self._changed:
            place.left = True
            self._waiting.pop(place, None)
            self._changed.notify()

    def _work(self) -> None:
        while (joining := self._next_step()) is not None:
            self._batch.step(joining)

    def _next_step(self) -> list[Place] | None:
        """Blocks until there is something to write: those that begin; None when all is written."""
        with self._changed:
            while True:
                self._drop_late()
                joining = self._joining()
                if joining or self._batch.places:
                    return joining
                if self._closing and not self._waiting:
                    return None
                self._changed.wait()

    def _joining(self) -> list[Place]:
        """The oldest that there is room for, of one version of the catalog; they wait no more."""
        room = self._limits.rows - sum(map(self._batch.goes_on, self._batch.places))
        ready = [place for place in self._waiting if place.is_ready]
        joining = [p for p in ready if p.job.snapshot is ready[0].job.snapshot][:room]
        for place in joining:
            del self._waiting[place]
        return joining

    def _drop_late(self) -> None:
        """Ends what has waited for too long."""
        now = self._clock()
        for place in [place for place in self._waiting if place.is_ready]:
            if now >= place.ends:
                del self._waiting[place]
                place.finish(Stop.DEADLINE, now)
            elif now - place.arrived > self._limits.wait:
                del self._waiting[place]
                place.fail(
                    ResourceExhausted(
                        f"its turn did not come within {self._limits.wait:g} s",
                        reason="WAITED_TOO_LONG",
                        retry_after=RETRY_SECONDS,
                    )
                )
