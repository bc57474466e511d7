"""Admission: never more than the limit, never a wait that is too long, calls before bulk."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tandem
from gateway.admission import FIRST_GUESS_SECONDS, Admission, Turns
from tandem.v1 import candidate_service_pb2 as candidate_pb
from tandem.v1 import recommendation_service_pb2 as pb
from tests.gateway.stack import raw, running
from tests.tiny_bundle import write_tiny_bundle


class Caller:
    """A call that lasts until it is told to end."""

    def __init__(self, admission: Admission, *, bulk: bool = False) -> None:
        self._admission = admission
        self._bulk = bulk
        self._over = asyncio.Event()
        self.runs = False
        self.task = asyncio.create_task(self._live())

    async def _live(self) -> None:
        async with self._admission.bulk() if self._bulk else self._admission.call():
            self.runs = True
            try:
                await self._over.wait()
            finally:
                self.runs = False

    def let_end(self) -> None:
        self._over.set()

    async def end(self) -> None:
        self.let_end()
        await self.task


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_beyond_the_limit_calls_wait_and_beyond_that_they_are_turned_away() -> None:
    admission = Admission(limit=2, max_wait=0.08)
    callers = [Caller(admission) for _ in range(2 + 3)]
    await settle()
    assert [caller.runs for caller in callers] == [True, True, False, False, False]
    # Four calls before it, of 50 ms each, two at a time.
    assert admission.retry_after() == pytest.approx(4 * FIRST_GUESS_SECONDS / 2)
    await callers[0].end()
    await settle()
    assert [caller.runs for caller in callers] == [False, True, True, False, False]
    for caller in callers[1:]:
        await caller.end()
    assert admission.expected_wait == 0


async def test_without_a_queue() -> None:
    admission = Admission(limit=1, max_wait=0)
    assert admission.retry_after() is None
    caller = Caller(admission)
    await settle()
    assert admission.retry_after() == pytest.approx(FIRST_GUESS_SECONDS)
    await caller.end()
    assert admission.retry_after() is None


async def test_calls_come_before_bulk() -> None:
    admission = Admission(limit=1, max_wait=1)
    first, bulk = Caller(admission), Caller(admission, bulk=True)
    await settle()
    call = Caller(admission)
    await settle()
    await first.end()
    await settle()
    assert (call.runs, bulk.runs) == (True, False)
    await call.end()
    await settle()
    assert bulk.runs
    await bulk.end()


async def test_room_comes_after_calls_and_takes_no_turn() -> None:
    admission = Admission(limit=1, max_wait=1)
    first, second = Caller(admission), Caller(admission)
    await settle()
    waiting = asyncio.create_task(admission.room())
    given_up = asyncio.create_task(admission.room())
    await settle()
    given_up.cancel()
    await first.end()
    await settle()
    assert (second.runs, waiting.done()) == (True, False)
    await second.end()
    await settle()
    assert waiting.done()
    assert (admission.running, admission.waiting) == (0, 0)


async def test_bulk_is_never_turned_away() -> None:
    admission = Admission(limit=1, max_wait=0)
    callers = [Caller(admission, bulk=True) for _ in range(100)]
    await settle()
    assert sum(caller.runs for caller in callers) == 1
    for caller in callers:
        await caller.end()


@given(st.integers(1, 4), st.lists(st.tuples(st.integers(0, 11), st.booleans()), max_size=60))
def test_turns_are_neither_lost_nor_made(limit: int, steps: list[tuple[int, bool]]) -> None:
    """Calls come, end and are cancelled, in any order and between any two steps of the loop."""

    async def live() -> None:
        admission = Admission(limit, max_wait=1e9)
        callers: list[Caller] = []
        for choice, pause in steps:
            if choice < 6 or not callers:
                callers.append(Caller(admission, bulk=choice % 2 == 0))
            elif choice < 9:
                callers.pop(choice % len(callers)).task.cancel()
            else:
                caller = callers.pop(choice % len(callers))
                caller.let_end()
            if pause:
                await settle()
                assert sum(caller.runs for caller in callers) == min(limit, len(callers))
        for caller in callers:
            caller.task.cancel()
        await settle()
        assert admission.expected_wait == 0
        last = [Caller(admission) for _ in range(limit)]
        await settle()
        assert all(caller.runs for caller in last)
        for caller in last:
            await caller.end()

    asyncio.run(live())


async def test_who_was_let_in_gets_a_turn() -> None:
    """Also those who waited for a turn among diagnostics, and find others before them then."""
    turns = Turns(requests=Admission(1, max_wait=0), diagnostics=Admission(1, max_wait=1))
    order: list[str] = []
    over = asyncio.Event()

    async def call(name: str, *, diagnostics: bool) -> None:
        async with turns.call(diagnostics=diagnostics):
            order.append(name)
            await over.wait()

    calls = [asyncio.create_task(call("first", diagnostics=True))]
    await settle()
    calls.append(asyncio.create_task(call("second", diagnostics=True)))
    calls.append(asyncio.create_task(call("plain", diagnostics=False)))
    await settle()
    assert turns.requests.retry_after() is not None
    over.set()
    await asyncio.gather(*calls)
    assert order == ["first", "plain", "second"]


async def test_a_burst_is_refused_beyond_the_limit(tmp_path: Path) -> None:
    """Though all of it comes at once, and is asked for its message only after it was let in."""
    async with running(write_tiny_bundle(tmp_path), max_in_flight=2, max_wait_ms=0) as stack:
        may_answer = asyncio.Event()
        stack.candidate.enter = lambda *_: may_answer.wait()  # type: ignore[assignment]
        request = pb.RecommendRequest(user_id="ann", strategy=pb.STRATEGY_EMBEDDING)
        calls = [asyncio.create_task(raw(stack.channel, "Recommend", request)) for _ in range(90)]
        async with asyncio.timeout(30):
            while sum(call.done() for call in calls) < 45:  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.01)
        may_answer.set()
        answers = await asyncio.gather(*calls, return_exceptions=True)
    refused = [each for each in answers if isinstance(each, tandem.ResourceExhausted)]
    assert {each.reason for each in refused} == {"OVERLOADED"}
    assert 2 <= len(answers) - len(refused) < 45


async def test_diagnostics_have_a_limit_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They cost several times a plain call, which goes on beside as many as there may be."""
    async with running(write_tiny_bundle(tmp_path), max_diagnostics=1, max_wait_ms=0) as stack:
        asked, may_answer = asyncio.Event(), asyncio.Event()

        async def held(request: object, *_: object) -> None:
            if isinstance(request, candidate_pb.DiagnoseSearchRequest):
                asked.set()
                await may_answer.wait()

        monkeypatch.setattr(stack.candidate, "enter", held)
        first = asyncio.create_task(stack.client.recommend("ann", diagnostics=True))
        await asyncio.wait_for(asked.wait(), 30)
        with pytest.raises(tandem.ResourceExhausted) as caught:
            await stack.client.recommend("ann", diagnostics=True)
        assert caught.value.reason == "OVERLOADED"
        assert not (await stack.client.recommend("ann")).degraded
        may_answer.set()
        assert (await first).diagnostics.items
        assert (await stack.client.recommend("ann", diagnostics=True)).diagnostics.items
