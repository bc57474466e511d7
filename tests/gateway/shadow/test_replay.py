"""Replays: after the caller, beside the calls, bounded, and each with one outcome."""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from core.errors import Unavailable
from gateway.admission import Admission
from gateway.deadline import Deadline
from gateway.domain import Answer, Recommended, Strategy
from gateway.shadow.differences import Differences
from gateway.shadow.metrics import ShadowMetrics
from gateway.shadow.replay import Replays, Served
from gateway.variants.plan import MAX_VARIANTS, ShadowPlan
from serving.telemetry.request_id import request_id
from serving.telemetry.tracing import NOWHERE, here
from tests.gateway.test_admission import Caller, settle

LONG = 60.0
Ask = Callable[[Deadline], Awaitable[Answer]]


class Call:
    """As much of a gRPC call as a shadow needs."""

    def __init__(self, *, over: bool = True) -> None:
        self._over = over
        self._told: list[Callable[[Any], None]] = []

    def add_done_callback(self, told: Callable[[Any], None]) -> None:
        if self._over:
            told(self)
        self._told.append(told)

    def end(self) -> None:
        for told in self._told:
            told(self)


class Shadowed:
    """Replays, and what they count."""

    def __init__(self, room: Admission | None = None, limit: int = 4) -> None:
        self.registry = CollectorRegistry()
        room = room or Admission(1, max_wait=1)
        self.replays = Replays(room.room, ShadowMetrics(self.registry))
        self._plan = ShadowPlan("next", 1.0, limit)

    def count(self, name: str, **labels: str) -> float:
        labels = {"variant": "next", **labels}
        name = f"tandem_gateway_shadow_{name}"
        return self.registry.get_sample_value(name, labels) or 0.0

    def outcomes(self, reason: str = "") -> tuple[float, float, float]:
        """Compared, failed for the reason, and dropped."""
        of = {"compared": "", "failed": reason, "dropped": ""}
        compared, failed, dropped = (
            self.count("replays_total", outcome=each, reason=why) for each, why in of.items()
        )
        return compared, failed, dropped

    def follow(
        self, ask: Ask, call: Call | None = None, items: str = "abcde", allowed: float = LONG
    ) -> None:
        self.replays.follow(self._plan, Served(tuple(items), 0.1, allowed, ask), call or Call())

    async def end(self) -> None:
        """Waits until no replay is in flight."""
        async with asyncio.timeout(LONG):
            while self.replays.running:  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0)


def answer(items: str) -> Answer:
    return Answer(tuple(Recommended(item, 1.0) for item in items), (), Strategy.FUSE)


class Held:
    """A variant that answers when it is told to."""

    def __init__(self) -> None:
        self.asked = 0
        self.may_answer = asyncio.Event()

    async def __call__(self, _: Deadline) -> Answer:
        self.asked += 1
        await self.may_answer.wait()
        return answer("abcde")


async def test_another_order_gives_the_figures_of_it() -> None:
    shadowed = Shadowed()

    async def ask(_: Deadline) -> Answer:
        return answer("abxcy")

    shadowed.follow(ask)
    await settle()
    assert shadowed.outcomes() == (1, 0, 0)
    assert shadowed.count("overlap_sum", k="1") == 1.0
    assert shadowed.count("overlap_sum", k="5") == pytest.approx(3 / 5)
    assert shadowed.count("overlap_count", k="10") == 0
    # Agreement 1, 1, 2/3, 3/4, 3/5, and 3/5 ever after.
    agreements, rest = (1, 1, 2 / 3, 3 / 4, 3 / 5), 0.9**5 * 3 / 5
    expected = sum(0.1 * 0.9**d * each for d, each in enumerate(agreements)) + rest
    assert shadowed.count("rbo_sum") == pytest.approx(expected)
    assert shadowed.count("seconds_sum", answer="caller") == pytest.approx(0.1)
    assert shadowed.count("seconds_count", answer="variant") == 1


async def test_a_replay_begins_when_its_call_is_over() -> None:
    shadowed, held, call = Shadowed(), Held(), Call(over=False)
    shadowed.follow(held, call)
    await settle()
    assert (held.asked, shadowed.replays.running) == (0, 1)
    call.end()
    await settle()
    assert held.asked == 1
    await shadowed.replays.close()


async def test_a_replay_waits_for_calls_and_holds_no_turn() -> None:
    admission = Admission(1, max_wait=1)
    shadowed, held = Shadowed(admission), Held()
    first, second = Caller(admission), Caller(admission)
    await settle()
    shadowed.follow(held)
    await settle()
    await first.end()
    await settle()
    assert (second.runs, held.asked) == (True, 0)
    seconds = admission.expected_wait
    await second.end()
    await settle()
    assert held.asked == 1, "no call waits any more"
    assert (admission.expected_wait, admission.running) == (0, 0)
    third = Caller(admission)
    await settle()
    assert third.runs, "beside a replay that hangs"
    assert admission.expected_wait == pytest.approx(seconds, rel=0.2), "replays are not counted"
    await third.end()
    await shadowed.replays.close()


async def test_replays_in_flight_are_bounded_and_others_dropped() -> None:
    shadowed, held = Shadowed(limit=3), Held()
    for _ in range(10):
        shadowed.follow(held)
    await settle()
    assert (held.asked, shadowed.replays.running) == (3, 3)
    assert shadowed.outcomes() == (0, 0, 7)
    held.may_answer.set()
    await settle()
    assert shadowed.outcomes() == (3, 0, 7)
    shadowed.follow(held)
    await settle()
    assert shadowed.outcomes() == (4, 0, 7)


async def test_failures_are_counted_by_reason() -> None:
    shadowed = Shadowed()

    async def gone(_: Deadline) -> Answer:
        raise Unavailable("gone", reason="CIRCUIT_OPEN")

    async def defect(_: Deadline) -> Answer:
        raise ZeroDivisionError

    for ask in (gone, defect, defect):
        shadowed.follow(ask)
    await settle()
    assert shadowed.outcomes("CIRCUIT_OPEN") == (0, 1, 0)
    assert shadowed.outcomes("INTERNAL") == (0, 2, 0)
    assert shadowed.count("rbo_count") == 0


async def test_a_variant_that_ignores_its_deadline_is_ended() -> None:
    shadowed, held = Shadowed(), Held()
    shadowed.follow(held, allowed=0.001)
    await shadowed.end()
    assert shadowed.outcomes("DEADLINE_EXCEEDED") == (0, 1, 0)


async def test_a_replay_without_room_in_time_is_dropped() -> None:
    admission, held = Admission(1, max_wait=1), Held()
    shadowed, busy = Shadowed(admission), Caller(admission)
    await settle()
    shadowed.follow(held, allowed=0.001)
    await shadowed.end()
    assert (held.asked, shadowed.outcomes()) == (0, (0, 0, 1))
    assert admission.waiting == 0
    await busy.end()


async def test_a_replay_that_is_cancelled_from_within_is_dropped() -> None:
    shadowed = Shadowed()

    async def cancelled(_: Deadline) -> Answer:
        raise asyncio.CancelledError

    shadowed.follow(cancelled)
    await settle()
    assert (shadowed.replays.running, shadowed.outcomes()) == (0, (0, 0, 1))


async def test_close_ends_replays_and_begins_no_other() -> None:
    shadowed, held, unheard = Shadowed(limit=2), Held(), Call(over=False)
    shadowed.follow(held)
    shadowed.follow(held, unheard)
    await settle()
    await shadowed.replays.close()
    assert (shadowed.replays.running, shadowed.outcomes()) == (0, (0, 0, 2))
    shadowed.follow(held)
    unheard.end()
    await settle()
    assert (held.asked, shadowed.outcomes()) == (1, (0, 0, 3))


async def test_a_replay_has_nothing_of_the_calls_context() -> None:
    own: ContextVar[str] = ContextVar("own", default="none")
    seen: list[object] = []
    shadowed = Shadowed()

    async def ask(deadline: Deadline) -> Answer:
        seen.extend((own.get(), request_id.get(), here.get(), deadline.left > LONG / 2))
        return answer("abcde")

    async def call() -> None:
        own.set("the call's")
        request_id.set("the call's")
        shadowed.follow(ask)

    await asyncio.create_task(call())
    await settle()
    assert seen == ["none", "", NOWHERE, True]


@given(st.lists(st.sampled_from(("fine", "fails", "ends", "closes")), max_size=30))
def test_every_replay_has_exactly_one_outcome(steps: list[str]) -> None:
    """Calls end, variants fail and the gateway closes, in any order."""

    async def live() -> None:
        shadowed, asked = Shadowed(limit=3), 0
        calls: list[Call] = []

        async def fine(_: Deadline) -> Answer:
            return answer("abcde")

        async def fails(_: Deadline) -> Answer:
            raise Unavailable("gone", reason="CIRCUIT_OPEN")

        for step in steps:
            if step == "closes":
                await shadowed.replays.close()
            elif step == "ends":
                for call in calls:
                    call.end()
                await settle()
            else:
                asked += 1
                calls.append(Call(over=False))
                shadowed.follow(fine if step == "fine" else fails, calls[-1])
            assert shadowed.replays.running <= 3
        await shadowed.replays.close()
        assert sum(shadowed.outcomes("CIRCUIT_OPEN")) == asked
        assert shadowed.replays.running == 0

    asyncio.run(live())


def test_variants_beyond_32_are_counted_as_other() -> None:
    registry = CollectorRegistry()
    metrics = ShadowMetrics(registry)
    for number in range(1_000):
        metrics.know(f"variant {number}")
        metrics.compared(f"variant {number}", Differences({1: 1.0}, 1.0), 0.1, 0.1)
    count = registry.get_sample_value
    assert count("tandem_gateway_shadow_rbo_count", {"variant": "variant 0"}) == 1
    assert count("tandem_gateway_shadow_rbo_count", {"variant": "other"}) == 1_000 - MAX_VARIANTS
