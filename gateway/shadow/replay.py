"""Replays calls to a variant, once their callers have their answers.

Nobody waits for a replay, so it must cost those who wait as little as can be. It begins when its
call is over, waits for as long as calls wait for their turns, and holds no turn, so that a variant
that hangs takes no place from a call. Replays have a limit of their own instead; what is more than
that is dropped and counted. A replay has nothing of its call's context: neither its deadline nor
its request id nor its place in a trace, which is over by then.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextvars import Context
from dataclasses import dataclass
from functools import partial
from typing import Any

from gateway.deadline import Deadline
from gateway.domain import Answer
from gateway.shadow.differences import differences
from gateway.shadow.metrics import COMPARED, DROPPED, FAILED, ShadowMetrics
from gateway.variants.plan import ShadowPlan
from serving.boundary.proxy import classify
from serving.frames import release_frames

Room = Callable[[], Awaitable[None]]
"""Waits until no call waits for its turn."""


@dataclass(frozen=True)
class Served:
    """A call that was answered, and how to have it answered once more."""

    items: tuple[str, ...]
    """The whole list, best first."""
    seconds: float
    """That the answer took, without its turn."""
    allowed: float
    """Seconds that the answer was allowed to take, and that the variant's is."""
    ask: Callable[[Deadline], Awaitable[Answer]]
    """Has the variant answer."""


class Replays:
    """Has a variant answer calls once more, and compares its lists with those that callers got.

    Args:
        room: what replays wait for.
        metrics: what is counted.
    """

    def __init__(self, room: Room, metrics: ShadowMetrics) -> None:
        self._room = room
        self._metrics = metrics
        self._running: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def running(self) -> int:
        """Replays in flight."""
        return len(self._running)

    def follow(self, plan: ShadowPlan, served: Served, context: Any) -> None:
        """Replays a call when it is over, if no more are in flight than may be; raises nothing.

        Args:
            plan: as it is now.
            served: the call.
            context: gRPC's, which tells when the caller has its answer.
        """
        self._metrics.know(plan.variant)
        if self._closed or len(self._running) >= plan.max_in_flight:
            self._metrics.ended(plan.variant, DROPPED)
            return
        over = asyncio.Event()
        # gRPC may keep a call for longer than it lasts: so it is given the event alone to keep.
        context.add_done_callback(lambda _: over.set())
        task = asyncio.get_running_loop().create_task(
            self._replay(plan.variant, served, over), name="shadow", context=Context()
        )
        self._running.add(task)
        task.add_done_callback(partial(self._ended, plan.variant))

    async def close(self) -> None:
        """Ends the replays that are in flight, and begins no other."""
        self._closed = True
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _ended(self, variant: str, task: "asyncio.Task[None]") -> None:
        self._running.discard(task)
        if task.cancelled():
            self._metrics.ended(variant, DROPPED)

    async def _replay(self, variant: str, served: Served, over: asyncio.Event) -> None:
        try:
            async with asyncio.timeout(served.allowed):
                await over.wait()
                await self._room()
        except TimeoutError:
            self._metrics.ended(variant, DROPPED)
            return
        try:
            await self._compare(variant, served)
        except Exception as error:  # noqa: BLE001 - nobody waits for it; it is counted
            reason = classify(error, "shadow").reason
            self._metrics.ended(variant, FAILED, reason)
            release_frames(error)
        else:
            self._metrics.ended(variant, COMPARED)

    async def _compare(self, variant: str, served: Served) -> None:
        started = time.monotonic()
        # The variant keeps to its deadline by itself; one that does not is ended all the same.
        async with asyncio.timeout(served.allowed):
            answer = await served.ask(Deadline(started + served.allowed))
        seconds = time.monotonic() - started
        items = [item.item_id for item in answer.items]
        found = differences(served.items, items)
        self._metrics.compared(variant, found, served.seconds, seconds)
