"""Calls of several targets over real channels: whom they go to, how often, and what is learned."""

import asyncio
from itertools import product
from pathlib import Path

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tandem
from core import errors
from gateway.calls.budget import Budget
from gateway.calls.caller import CallPolicy
from gateway.calls.circuit import Limits, State, Verdict
from gateway.calls.failures import judge
from gateway.calls.latency import ENOUGH, EVERY, MAX_FACTOR, WINDOW, HedgeDelay, Latencies
from tests.gateway.calls.pool import LATER, pool, settle
from tests.gateway.fakes import WAIT


async def test_targets_take_turns(tmp_path: Path) -> None:
    async with pool(tmp_path, 3, CallPolicy()) as three:
        await settle(three)
        before = three.asked
        await settle(three, 30)
        assert [now - then for now, then in zip(three.asked, before, strict=True)] == [10, 10, 10]


async def test_a_target_that_fails_is_tried_elsewhere_set_aside_and_found_again(
    tmp_path: Path,
) -> None:
    limits = Limits(failures=3, rest_seconds=0.2)
    async with pool(tmp_path, 2, CallPolicy(limits=limits)) as two:
        await settle(two, 60)
        two.services[0].failure = LATER
        while State.OPEN not in two.states():
            await two.search()  # every call is answered all the same
        asked = two.asked[0]
        for _ in range(5):
            await two.search()
        assert two.asked[0] <= asked + 1  # at most a probe
        two.services[0].failure = None
        while two.states() != [State.CLOSED] * 2:
            await two.search()
        asked = two.asked[0]
        await settle(two, 10)
        assert two.asked[0] == asked + 5


async def test_when_all_are_set_aside_calls_fail_at_once(tmp_path: Path) -> None:
    limits = Limits(failures=3, rest_seconds=60.0)
    async with pool(tmp_path, 2, CallPolicy(limits=limits)) as two:
        for service in two.services:
            service.failure = errors.Internal("no", reason="NO")
        for _ in range(6):
            with pytest.raises(errors.Internal):
                await two.search()
        asked = sum(two.asked)
        for _ in range(20):
            with pytest.raises(errors.Unavailable) as caught:
                await two.search()
            assert caught.value.reason == "CIRCUIT_OPEN"
        assert sum(two.asked) == asked == 6


async def test_what_callers_do_wrong_sets_nobody_aside(tmp_path: Path) -> None:
    async with pool(tmp_path, 1, CallPolicy()) as one:
        for failure in (
            errors.InvalidArgument("bad", reason="BAD"),
            errors.NotFound("no", reason="NO"),
            errors.ResourceExhausted("busy", reason="BUSY"),
        ):
            one.services[0].failure = failure
            for _ in range(20):
                with pytest.raises(type(failure)):
                    await one.search()
        assert one.states() == [State.CLOSED]
        assert one.asked == [60]  # and none of them is tried again


async def test_one_impatient_caller_closes_a_target_to_nobody(tmp_path: Path) -> None:
    async with pool(tmp_path, 1, CallPolicy()) as one:
        for _ in range(20):
            with pytest.raises(errors.DeadlineExceeded):
                await one.search(WAIT, seconds=0.02)
        assert one.states() == [State.CLOSED]
        for _ in range(5):
            with pytest.raises(errors.DeadlineExceeded):
                await one.search(WAIT, seconds=0.3)
        assert one.states() == [State.OPEN]


async def test_what_a_caller_asks_too_much_of_sets_nobody_aside(tmp_path: Path) -> None:
    """The service says that the time ran out, or that the work is too much."""
    async with pool(tmp_path, 1, CallPolicy()) as one:
        for failure in (
            errors.DeadlineExceeded("at work", reason="DEADLINE_EXCEEDED"),
            errors.InvalidArgument("too much", reason="FILTER_TOO_COSTLY"),
            errors.ResourceExhausted("too much", reason="QUEUE_FULL"),
        ):
            one.services[0].failure = failure
            for _ in range(20):
                with pytest.raises(type(failure)):
                    await one.search(seconds=0.5)
        assert one.states() == [State.CLOSED]


async def test_a_target_that_answers_others_does_not_hang(tmp_path: Path) -> None:
    limits = Limits(failures=3, window=6)
    async with pool(tmp_path, 1, CallPolicy(limits=limits)) as one:
        await settle(one)
        for _ in range(6):
            late = asyncio.create_task(one.search(WAIT, seconds=0.3))
            await one.services[0].waiting.wait()
            one.services[0].waiting.clear()
            await one.search()
            with pytest.raises(errors.DeadlineExceeded):
                await late
        assert one.states() == [State.CLOSED]
        for _ in range(3):  # it answers nobody any more
            with pytest.raises(errors.DeadlineExceeded):
                await one.search(WAIT, seconds=0.3)
        assert one.states() == [State.OPEN]


async def test_a_retry_storm_does_not_happen(tmp_path: Path) -> None:
    # A circuit that never opens, so that only the budget holds attempts down.
    limits = Limits(failures=10_000, window=10_000)
    async with pool(tmp_path, 2, CallPolicy(limits=limits)) as two:
        for service in two.services:
            service.failure = LATER
        calls = 0
        for _ in range(10):
            outcomes = await asyncio.gather(
                *(two.search() for _ in range(20)), return_exceptions=True
            )
            assert all(isinstance(outcome, errors.Unavailable) for outcome in outcomes)
            calls += len(outcomes)
            assert sum(two.asked) <= 1.2 * calls
        assert sum(two.asked) > 1.1 * calls  # and retries there are


async def test_nothing_is_tried_again_past_the_deadline(tmp_path: Path) -> None:
    async with pool(tmp_path, 1, CallPolicy()) as one:
        await settle(one)
        one.services[0].failure = LATER
        asked = one.asked[0]
        with pytest.raises(errors.DeadlineExceeded):
            await one.search(seconds=0.0)
        assert one.asked[0] == asked


@given(st.floats(0.0, 1.0), st.lists(st.booleans(), max_size=300))
def test_a_budget_is_never_overdrawn(ratio: float, asks: list[bool]) -> None:
    budget, spent = Budget(ratio), 0
    for earned, ask in enumerate(asks, start=1):
        budget.earn()
        spent += ask and budget.spend()
        assert spent <= ratio * earned + 1e-6


@given(st.integers(1, 1000))
def test_what_is_saved_up_is_bounded(calls: int) -> None:
    budget = Budget(0.5, capacity=7.0)
    for _ in range(calls):
        budget.earn()
    assert sum(budget.spend() for _ in range(1000)) == min(calls // 2, 7)


@pytest.mark.parametrize("count", [ENOUGH, ENOUGH + 1, ENOUGH + EVERY, WINDOW])
def test_the_95th_percentile(count: int) -> None:
    latencies, seconds = Latencies(), np.random.default_rng(count).exponential(size=count).tolist()
    for number, value in enumerate(seconds, start=1):
        latencies.record(value)
        if number < ENOUGH:
            assert latencies.p95 is None
    known = sorted(seconds[: len(seconds) // EVERY * EVERY])
    assert latencies.p95 == known[int(0.95 * (len(known) - 1))]


@given(st.lists(st.booleans(), max_size=200))
def test_hedges_come_later_where_they_cannot_be_afforded(afforded: list[bool]) -> None:
    delay = HedgeDelay()
    for each in afforded:
        before = delay.factor
        delay.learn(afforded=each)
        assert 1.0 <= delay.factor <= MAX_FACTOR
        assert delay.factor <= before if each else delay.factor >= before


def test_verdicts() -> None:
    code = grpc.StatusCode

    def verdict(code: grpc.StatusCode, reason: str, *, had_time: bool, answers: bool) -> Verdict:
        return judge(tandem.Error(code, "", reason), had_time=had_time, answers=answers)

    for had_time, answers in product((True, False), repeat=2):
        for good in (code.INVALID_ARGUMENT, code.NOT_FOUND, code.RESOURCE_EXHAUSTED):
            given = verdict(good, "", had_time=had_time, answers=answers)
            assert given is Verdict.GOOD
        for bad in (code.UNAVAILABLE, code.INTERNAL, code.UNKNOWN):
            assert verdict(bad, "", had_time=had_time, answers=answers) is Verdict.BAD
        late = verdict(code.DEADLINE_EXCEEDED, "", had_time=had_time, answers=answers)
        assert late is (Verdict.BAD if had_time and not answers else Verdict.NONE)
        told = verdict(code.DEADLINE_EXCEEDED, "LATE", had_time=had_time, answers=answers)
        assert told is Verdict.GOOD
