"""Hedges: sent when a call is late, answered by whoever is first, and few."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from core import errors
from gateway.calls.caller import CallPolicy
from gateway.calls.circuit import State
from gateway.calls.latency import ENOUGH
from tests.gateway.calls.pool import pool, settle
from tests.gateway.fakes import WAIT, FakeCandidate

FEW = CallPolicy(hedge_ratio=0.05)
MANY = CallPolicy(hedge_ratio=1.0, retry_ratio=1.0)
"""A budget that is not used up by calls which are late because the machine is busy."""


class Slow:
    """Makes a fake wait in every call, until it is let go."""

    def __init__(self, service: FakeCandidate) -> None:
        self._enter = service.enter
        self.gate = asyncio.Event()
        self.begun = 0
        self.come = asyncio.Event()
        self.gone = asyncio.Event()
        service.enter = self.enter  # type: ignore[method-assign]

    async def enter(self, request: Any, history: Any, context: Any) -> None:
        await self._enter(request, history, context)
        self.begun += 1
        self.come.set()
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.gone.set()
            raise


async def test_a_late_call_is_answered_by_another_target(tmp_path: Path) -> None:
    async with pool(tmp_path, 2, MANY) as two:
        await settle(two, 200)
        slow, before = Slow(two.services[0]), two.asked
        while not slow.begun:
            await two.search()
        assert two.asked[1] > before[1]
        await slow.gone.wait()  # who lost is told to stop


async def test_hedges_are_few(tmp_path: Path) -> None:
    async with pool(tmp_path, 2, FEW) as two:
        await settle(two, 100)
        slow = [Slow(service) for service in two.services]
        calls = 100 + 40
        late = [asyncio.create_task(two.search()) for _ in range(40)]
        await asyncio.gather(*(each.come.wait() for each in slow))
        for each in slow:
            each.gate.set()
        await asyncio.gather(*late)
        assert sum(two.asked) <= 1.05 * calls


async def test_without_the_option_there_is_none(tmp_path: Path) -> None:
    async with pool(tmp_path, 2, CallPolicy()) as two:
        await settle(two, 100)
        with pytest.raises(errors.DeadlineExceeded):
            await two.search(WAIT, seconds=0.3)
        assert sum(two.asked) == 101


async def test_there_is_none_before_it_is_known_what_late_is(tmp_path: Path) -> None:
    async with pool(tmp_path, 2, MANY) as two:
        await settle(two, ENOUGH - 1)
        with pytest.raises(errors.DeadlineExceeded):
            await two.search(WAIT, seconds=0.3)
        assert sum(two.asked) == ENOUGH


async def test_when_both_fail_the_call_does(tmp_path: Path) -> None:
    async with pool(tmp_path, 2, MANY) as two:
        await settle(two, 100)
        asked = sum(two.asked)
        with pytest.raises(errors.DeadlineExceeded):
            await two.search(WAIT, seconds=0.3)
        assert sum(two.asked) == asked + 2


async def test_a_caller_that_leaves_cancels_both(tmp_path: Path) -> None:
    async with pool(tmp_path, 2, MANY) as two:
        await settle(two, 100)
        call = asyncio.create_task(two.search(WAIT))
        await asyncio.gather(*(service.waiting.wait() for service in two.services))
        call.cancel()
        await asyncio.gather(*(service.cancelled.wait() for service in two.services))
        with pytest.raises(asyncio.CancelledError):
            await call
        assert [t.in_flight for t in two.client.targets._targets.values()] == [0, 0]


async def test_a_target_that_always_loses_is_set_aside(tmp_path: Path) -> None:
    async with pool(tmp_path, 2, MANY) as two:
        await settle(two, 200)
        slow = Slow(two.services[0])
        while State.OPEN not in two.states():
            await two.search()
        begun = slow.begun
        assert begun < 200
        slow.gate.set()
        while two.states() != [State.CLOSED] * 2:
            await two.search()
