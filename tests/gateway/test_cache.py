"""The response cache: bounded in size and time, and one making for all who ask together."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cache import Cache


class Maker:
    """Makes numbers, one for each making, when it is let."""

    def __init__(self) -> None:
        self.made = 0
        self.cancelled = 0
        self.may_end = asyncio.Event()
        self.failure: Exception | None = None

    async def __call__(self) -> int:
        self.made += 1
        number = self.made
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.failure is not None and number == 1:
            raise self.failure
        return number


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_value_is_good_for_its_time() -> None:
    clock, maker = Clock(), Maker()
    maker.may_end.set()
    cache = Cache[int](8, seconds=5, clock=clock)
    assert await cache.get("a", maker) == 1
    clock.now = 4.9
    assert await cache.get("a", maker) == 1
    assert await cache.get("b", maker) == 2
    clock.now = 5.0  # asking for it did not make it newer
    assert await cache.get("a", maker) == 3
    assert await cache.get("b", maker) == 2


@given(st.lists(st.integers(0, 9), max_size=60), st.integers(1, 5))
def test_the_least_recently_asked_for_goes_first(keys: list[int], size: int) -> None:
    async def ask() -> None:
        cache = Cache[int](size, seconds=1, clock=Clock())
        recent: list[int] = []  # the oracle: what must be remembered, newest last
        for key in keys:
            maker = Maker()
            maker.may_end.set()
            await cache.get(key, maker)
            assert maker.made == (key not in recent)
            recent = [*(k for k in recent if k != key), key][-size:]
            assert len(cache) == len(recent)

    asyncio.run(ask())


async def test_what_is_asked_for_together_is_made_once() -> None:
    cache, maker = Cache[int](8, seconds=1), Maker()
    asking = [asyncio.create_task(cache.get("a", maker)) for _ in range(100)]
    await settle()
    maker.may_end.set()
    assert await asyncio.gather(*asking) == [1] * 100
    assert maker.made == 1


async def test_a_cancelled_leader_does_not_cancel_its_followers() -> None:
    cache, maker = Cache[int](8, seconds=1), Maker()
    leader, *followers = (asyncio.create_task(cache.get("a", maker)) for _ in range(3))
    await settle()
    leader.cancel()
    await settle()
    assert leader.cancelled()
    maker.may_end.set()
    assert await asyncio.gather(*followers) == [1, 1]
    assert maker.made == 1
    assert maker.cancelled == 0


async def test_what_nobody_waits_for_any_more_is_cancelled() -> None:
    cache, maker = Cache[int](8, seconds=1), Maker()
    asking = [asyncio.create_task(cache.get("a", maker)) for _ in range(3)]
    await settle()
    for one in asking:
        one.cancel()
    # At once, before the cancelled one has ended, somebody asks again: it is made anew.
    await asyncio.wait(asking)
    again = asyncio.create_task(cache.get("a", maker))
    await settle()
    assert maker.made == 2
    assert maker.cancelled == 1
    joined = asyncio.create_task(cache.get("a", maker))
    await settle()
    maker.may_end.set()
    assert [await again, await joined] == [2, 2]


async def test_a_failure_is_that_of_the_leader_and_not_remembered() -> None:
    cache, maker = Cache[int](8, seconds=1), Maker()
    maker.failure = TimeoutError("the leader's deadline")
    leader, follower = (asyncio.create_task(cache.get("a", maker)) for _ in range(2))
    await settle()
    maker.may_end.set()
    with pytest.raises(TimeoutError, match="the leader's deadline"):
        await leader
    assert await follower == 2
    assert await cache.get("a", maker) == 3


async def test_some_values_are_not_kept() -> None:
    cache, maker = Cache[int](8, seconds=1, keep=lambda number: number > 1), Maker()
    maker.may_end.set()
    assert [await cache.get("a", maker) for _ in range(3)] == [1, 2, 2]
