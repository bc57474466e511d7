"""How many calls are worked on at a time, and which are turned away.

More calls in flight than keep the services busy make nothing faster: each only takes longer. So
there is a limit; beyond it a call waits for its turn if that is near, and is otherwise turned away
at once, with the time after which there will be room. Nobody is turned away after having waited.
By Little's law the calls in flight, over the seconds that each takes, are the calls that end in a
second: that is how near a turn is.

`retry_after` decides, once for each call: the server asks it before it reads the call, which makes
a refusal cheap. Whoever is let in gets a turn. A call that is still being read is not counted: who
announces a call and never sends it would hold a place for ever. So a call whose message comes late
may wait longer than was foreseen; those that come meanwhile are refused.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Final

from serving.boundary.shedding import overloaded

FIRST_GUESS_SECONDS: Final = 0.05
"""How long a call takes, as long as none has ended."""
SMOOTHING: Final = 0.05
"""What the newest call counts in the mean: about twenty calls are remembered."""

Turn = asyncio.Future[None]


class Admission:
    """Lets calls in.

    Args:
        limit: calls that are worked on at a time, at least 1.
        max_wait: seconds that a call may have to wait for its turn, as far as one can tell.
    """

    def __init__(self, limit: int, max_wait: float) -> None:
        self._limit = limit
        self._max_wait = max_wait
        self._running = 0
        self._calls: deque[Turn] = deque()
        self._bulk: deque[Turn] = deque()
        self._seconds = FIRST_GUESS_SECONDS

    @property
    def running(self) -> int:
        """Calls that are worked on."""
        return self._running

    @property
    def waiting(self) -> int:
        """Calls that wait for their turn."""
        return len(self._calls) + len(self._bulk)

    @property
    def expected_wait(self) -> float:
        """Seconds until it would be the turn of a call that came now."""
        if self._running < self._limit:
            return 0.0
        return (len(self._calls) + 1) * self._seconds / self._limit

    def retry_after(self) -> float | None:
        """The seconds after which to try again, when the turn of a call would come too late; else
        None."""
        wait = self.expected_wait
        return wait if wait > self._max_wait else None

    @asynccontextmanager
    async def call(self) -> AsyncIterator[None]:
        """The time that is worked on a call of somebody who waits for it."""
        async with self._turn(self._calls):
            yield

    @asynccontextmanager
    async def bulk(self) -> AsyncIterator[None]:
        """The time that is worked on a request that has time: it waits until no call does."""
        async with self._turn(self._bulk):
            yield

    async def room(self) -> None:
        """Waits until no call does, as bulk does, and takes no turn: for work that nobody waits for
        and that may hang."""
        if self._running >= self._limit:
            await self._wait(self._bulk)
            self._pass_on()

    @asynccontextmanager
    async def _turn(self, queue: deque[Turn]) -> AsyncIterator[None]:
        if self._running < self._limit:
            self._running += 1
        else:
            await self._wait(queue)
        started = time.perf_counter()
        try:
            yield
        finally:
            self._seconds += SMOOTHING * (time.perf_counter() - started - self._seconds)
            self._pass_on()

    async def _wait(self, queue: deque[Turn]) -> None:
        turn: Turn = asyncio.get_running_loop().create_future()
        queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                with suppress(ValueError):  # it was passed over
                    queue.remove(turn)
            else:
                self._pass_on()  # it got its turn, and was cancelled before it could know
            raise

    def _pass_on(self) -> None:
        """Gives a turn that is over to whoever is next; calls come before bulk."""
        for queue in (self._calls, self._bulk):
            while queue:
                turn = queue.popleft()
                if not turn.done():  # a cancelled one has yet to leave
                    turn.set_result(None)
                    return
        self._running -= 1


@dataclass(frozen=True)
class Turns:
    """The turns of requests, and beside them those of the few that cost several times as much."""

    requests: Admission
    diagnostics: Admission
    """Who asks for diagnostics takes one of these first, and waits without holding the other."""

    @asynccontextmanager
    async def call(self, *, diagnostics: bool) -> AsyncIterator[None]:
        """The time that is worked on a call of somebody who waits for it.

        Raises:
            ResourceExhausted: reason OVERLOADED, at once, where it asks for diagnostics and their
                turn would come too late: that is seen in the message alone.
        """
        if diagnostics and (seconds := self.diagnostics.retry_after()) is not None:
            raise overloaded(seconds)
        async with self.diagnostics.call() if diagnostics else nullcontext(), self.requests.call():
            yield

    @asynccontextmanager
    async def bulk(self, *, diagnostics: bool) -> AsyncIterator[None]:
        """The time that is worked on a request that has time."""
        async with self.diagnostics.bulk() if diagnostics else nullcontext(), self.requests.bulk():
            yield
