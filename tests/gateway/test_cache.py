"""The response cache: bounded in size and time, and one making for all who ask together."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import Unavailable
from gateway.domain import Query, ResolvedQuery, Strategy
from gateway.recommend.answer_cache import Cache, fingerprint
from tests.gateway.fakes import WAIT
from tests.gateway.stack import ids, running
from tests.tiny_bundle import write_tiny_bundle


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


def test_a_fingerprint_tells_requests_apart_and_keeps_nothing_of_them() -> None:
    query = Query("ann", None, 10, Strategy.RERANK)
    request = ResolvedQuery(query, ("i1", "i2"))
    prints = {
        fingerprint("1", request),
        fingerprint("2", request),
        fingerprint("1", ResolvedQuery(query, ("i1", "i3"))),
        fingerprint("1", ResolvedQuery(query, ("i1, i2",))),
        fingerprint("1", ResolvedQuery(Query("bob", None, 10, Strategy.RERANK), ("i1", "i2"))),
    }
    assert len(prints) == 5
    assert fingerprint("1", ResolvedQuery(query, ("i1", "i2"))) in prints
    assert all(len(each) == 16 for each in prints)


async def test_an_answer_is_given_again(tmp_path: Path) -> None:
    async with running(write_tiny_bundle(tmp_path), cache_seconds=60) as stack:
        first = await stack.client.recommend("ann")
        again = await stack.client.recommend("ann")
        assert ids(again) == ids(first)
        assert len(stack.candidate.requests) == len(stack.generator.requests) == 1
        assert [timing.stage for timing in first.timings] == [
            "history",
            "search",
            "rerank",
            "blend",
        ]
        assert [timing.stage for timing in again.timings] == ["history"]
        await stack.client.recommend("ann", max_results=3)
        await stack.client.recommend("bob")
        await stack.client.recommend("ann", history=["i7"])
        assert len(stack.candidate.requests) == 4


async def test_without_the_setting_every_answer_is_made(tmp_path: Path) -> None:
    async with running(write_tiny_bundle(tmp_path)) as stack:
        for _ in range(2):
            await stack.client.recommend("ann")
        assert len(stack.candidate.requests) == 2


async def test_what_is_degraded_is_not_given_again(tmp_path: Path) -> None:
    async with running(write_tiny_bundle(tmp_path), cache_seconds=60) as stack:
        stack.generator.failure = Unavailable("gone", reason="DRAINING")
        assert (await stack.client.recommend("ann")).degraded
        stack.generator.failure = None
        recovered = await stack.client.recommend("ann", forbid_degraded=True)
        assert not recovered.degraded
        assert not (await stack.client.recommend("ann")).degraded


async def test_a_caller_that_leaves_takes_nothing_from_those_who_asked_with_it(
    tmp_path: Path,
) -> None:
    async with running(write_tiny_bundle(tmp_path), cache_seconds=60) as stack:
        asking = [
            asyncio.create_task(
                stack.client.recommend("ann", history=[WAIT], strategy="embedding", timeout=10)
            )
            for _ in range(2)
        ]
        await asyncio.wait_for(stack.candidate.waiting.wait(), 30)
        asking[0].cancel()
        answer = await asking[1]  # from what is popular: retrieval never answers
        assert answer.degraded
        assert len(stack.candidate.requests) == 1
