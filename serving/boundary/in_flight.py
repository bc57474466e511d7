"""The calls that a server has in hand: how many there may be, and how they end when it drains."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, cast

from core.errors import Unavailable
from serving.boundary.grpc_types import Context
from serving.boundary.shares import Shares, too_many

CALM_SECONDS: Final = 0.05
"""Long enough for an event loop that keeps up to take up every call that gRPC has received."""
LONGEST_HOLD_SECONDS: Final = 1.0
_STEP_SECONDS: Final = 0.01


class InFlight:
    """Counts calls, refuses those above a limit, and every new one once the server drains.

    Streams of answers to one request have no end that a drain could wait for: it ends them, with
    UNAVAILABLE, so that whoever listens goes on elsewhere. Where requests are streamed too, a drain
    ends the requests and waits, so that what was taken is answered, and the rest is for another
    server. Each of the two has a limit of its own, of the same height, and no one caller holds more
    than half of it: streams stay open, and whoever leaves many idle keeps no others out.

    Args:
        limit: calls at a time, at least 1. gRPC's own `maximum_concurrent_rpcs` would refuse
            health checks too, so that a busy server would be restarted.
    """

    def __init__(self, limit: int) -> None:
        self.draining = asyncio.Event()
        self._limit = limit
        self._calls = 0
        self._in_hand = 0
        """Calls and conversations."""
        self._conversations = Shares(limit)
        self._streams = Shares(limit)
        self._listening: set[asyncio.Task[Any]] = set()
        """Streams that wait for something to send. A drain cuts off the wait, never the sending:
        gRPC cannot end a call in the middle of a message."""
        self._may_refuse = asyncio.Event()
        self._may_refuse.set()
        self._idle = asyncio.Event()
        self._idle.set()

    async def enter(self, context: Context) -> None:
        """Takes a call in, until gRPC is done with it.

        Raises:
            Unavailable: reason DRAINING.
            ResourceExhausted: reason TOO_MANY_CALLS.
        """
        await self.refuse_while_draining()
        if self._calls >= self._limit:
            raise too_many(f"the server is at its limit of {self._limit} calls in flight")
        self._calls += 1
        self._hold(context, self._end_call)

    async def converse(self, context: Context, owner: str) -> None:
        """Takes a conversation of a caller in, until gRPC is done with it.

        Raises:
            Unavailable: reason DRAINING.
            ResourceExhausted: reason TOO_MANY_CALLS.
        """
        await self.refuse_while_draining()
        self._conversations.take(owner)
        self._hold(context, lambda: self._conversations.give_back(owner))

    @asynccontextmanager
    async def stream(self, owner: str) -> AsyncIterator[None]:
        """The time that a stream of answers to a caller takes.

        Raises:
            Unavailable: reason DRAINING.
            ResourceExhausted: reason TOO_MANY_CALLS.
        """
        await self.refuse_while_draining()
        self._streams.take(owner)
        try:
            yield
        finally:
            self._streams.give_back(owner)

    async def next_answer(self, answers: AsyncIterator[Any]) -> Any:
        """The next answer of a stream; None at its end.

        Raises:
            Unavailable: reason DRAINING: the server began to drain.
        """
        if self.draining.is_set():
            raise _going_away()
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._listening.add(task)
        try:
            return await anext(answers, None)
        except asyncio.CancelledError:
            if not self.draining.is_set():
                raise
            task.uncancel()
            raise _going_away() from None
        finally:
            self._listening.discard(task)

    async def refuse_while_draining(self) -> None:
        """Lets through while the server serves.

        Raises:
            Unavailable: reason DRAINING.
        """
        if self.draining.is_set():
            await self._may_refuse.wait()
            raise _going_away()

    async def drain(self) -> None:
        """Refuses new calls, ends streams, and waits until calls in flight are answered."""
        self.draining.set()
        for stream in self._listening:
            stream.cancel()
        await self._idle.wait()

    async def hold_refusals(self) -> None:
        """Holds refusals back for a moment; the server must be stopped right after.

        When gRPC stops, it ends the calls that it has received but not yet passed on with
        CANCELLED, as if their callers had wanted that; and there are such calls as long as callers
        that are refused try again at once. While they wait for their refusal there are none.
        """
        self._may_refuse.clear()
        loop = asyncio.get_running_loop()
        last, calm = loop.time() + LONGEST_HOLD_SECONDS, 0.0
        while calm < CALM_SECONDS and loop.time() < last:
            started = loop.time()
            await asyncio.sleep(_STEP_SECONDS)
            kept_up = loop.time() - started < 2 * _STEP_SECONDS
            calm = calm + _STEP_SECONDS if kept_up else 0.0
        self._may_refuse.set()

    def _end_call(self) -> None:
        self._calls -= 1

    def _hold(self, context: Context, end: Callable[[], None]) -> None:
        """Has a drain wait until gRPC is done with a call."""
        self._in_hand += 1
        self._idle.clear()

        def done(_: object) -> None:
            end()
            self._in_hand -= 1
            if not self._in_hand:
                self._idle.set()

        # grpc's stubs type the callback as a class of their own, which no function is.
        context.add_done_callback(done)  # type: ignore[arg-type]


def _going_away() -> Unavailable:
    return Unavailable("the server is going away; try another", reason="DRAINING")
