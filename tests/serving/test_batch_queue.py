"""Batches form by themselves, within their bounds, and nobody's trouble is anyone else's."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence

import pytest

from core.errors import ResourceExhausted, Unavailable
from serving.batch_queue import MIN_RETRY_SECONDS, BatchQueue, Place, oldest

PATIENCE = 30.0
"""Seconds after which a test gives up; nothing is expected to take that long."""


class Doubler:
    """Doubles numbers when it is let to; negative ones cannot be doubled."""

    def __init__(self, max_weight: int = 4, max_waiting: int = 6, max_wait: float = 60.0) -> None:
        self.batches: list[list[int]] = []
        self.started, self.go = threading.Event(), threading.Event()
        self.now = 0.0
        self.queue: BatchQueue[int, int] = BatchQueue(
            self._run,
            oldest(max_weight),
            max_waiting=max_waiting,
            reason="FULL",
            waits="numbers wait to be doubled",
            max_wait=max_wait,
            clock=lambda: self.now,
        )

    def _run(self, batch: Sequence[Place[int, int]]) -> None:
        self.batches.append([place.job for place in batch])
        self.started.set()
        assert self.go.wait(PATIENCE)
        for place in batch:
            if place.job < 0:
                raise ValueError(place.job)
            place.settle(2 * place.job)

    async def submit(self, *numbers: int, weight: int = 1) -> "list[asyncio.Task[int]]":
        tasks = [asyncio.create_task(self.queue.submit(n, weight)) for n in numbers]
        await asyncio.sleep(0)  # let them queue
        return tasks

    async def busy(self) -> "asyncio.Task[int]":
        """Has the number 0 run, until it is let to."""
        (task,) = await self.submit(0)
        assert await asyncio.to_thread(self.started.wait, PATIENCE)
        return task


@pytest.fixture
async def doubler() -> AsyncIterator[Doubler]:
    doubler = Doubler()
    yield doubler
    doubler.go.set()
    await doubler.queue.close()


async def test_what_waits_runs_together_up_to_a_weight(doubler: Doubler) -> None:
    first = await doubler.busy()
    tasks = [first, *await doubler.submit(1, 2), *await doubler.submit(3, weight=2)]
    tasks += await doubler.submit(4)
    doubler.go.set()
    assert await asyncio.gather(*tasks) == [0, 2, 4, 6, 8]
    assert doubler.batches == [[0], [1, 2, 3], [4]]


async def test_what_exceeds_the_bound_is_shed_with_a_hint(doubler: Doubler) -> None:
    first = await doubler.busy()
    tasks = await doubler.submit(*range(6))
    with pytest.raises(ResourceExhausted, match="6 numbers wait") as caught:
        await doubler.queue.submit(7)
    assert (caught.value.reason, caught.value.retry_after) == ("FULL", MIN_RETRY_SECONDS)
    doubler.now = 0.5
    doubler.go.set()
    await asyncio.gather(first, *tasks)
    assert (await asyncio.gather(*await doubler.submit(9, weight=100))) == [18]


async def test_the_hint_grows_with_what_waits_and_what_it_took(doubler: Doubler) -> None:
    first = await doubler.busy()
    doubler.now = 0.5
    doubler.go.set()
    await first
    doubler.started.clear()
    doubler.go.clear()
    tasks = [await doubler.busy(), *await doubler.submit(*range(6))]
    with pytest.raises(ResourceExhausted) as caught:
        await doubler.queue.submit(7)
    assert caught.value.retry_after == pytest.approx(6 * 0.5)
    doubler.go.set()
    await asyncio.gather(*tasks)


async def test_a_place_is_held_while_its_job_is_made(doubler: Doubler) -> None:
    first = await doubler.busy()
    with doubler.queue.place(weight=6) as place:
        with pytest.raises(ResourceExhausted):
            await doubler.queue.submit(7)
        assert doubler.queue.ready == 0
        place.put(8)
        assert doubler.queue.ready == 1
        doubler.go.set()
        assert await place.answer() == 16
    assert await first == 0


async def test_a_place_that_is_given_up_is_free_again(doubler: Doubler) -> None:
    first = await doubler.busy()
    gone, kept = await doubler.submit(1, 2, weight=3)
    gone.cancel()
    await asyncio.wait({gone})
    with pytest.raises(ZeroDivisionError), doubler.queue.place(weight=3) as place:
        place.put(1 // 0)
    more = await doubler.submit(3, weight=3)
    doubler.go.set()
    assert await asyncio.gather(first, kept, *more) == [0, 4, 6]
    assert doubler.batches == [[0], [2], [3]]


async def test_what_waited_too_long_is_shed() -> None:
    doubler = Doubler(max_wait=1.0)
    tasks = [await doubler.busy(), *await doubler.submit(1)]
    doubler.now = 0.75
    tasks += await doubler.submit(2)
    doubler.now = 1.25
    doubler.go.set()
    first, late, young = await asyncio.gather(*tasks, return_exceptions=True)
    assert (first, young) == (0, 4)
    assert isinstance(late, ResourceExhausted)
    assert late.reason == "WAITED_TOO_LONG"
    assert late.retry_after == pytest.approx(1.25)  # of the one that is left, as long as the first
    await doubler.queue.close()


async def test_what_fails_fails_alone(doubler: Doubler) -> None:
    tasks = [await doubler.busy(), *await doubler.submit(1, -2, 3)]
    doubler.go.set()
    first, one, bad, three = await asyncio.gather(*tasks, return_exceptions=True)
    assert (first, one, three) == (0, 2, 6)
    assert isinstance(bad, ValueError)
    assert doubler.batches == [[0], [1, -2, 3], [-2], [3]]  # what was settled does not run again


async def test_many_jobs_of_one_caller_come_back_in_order(doubler: Doubler) -> None:
    doubler.go.set()
    assert await doubler.queue.submit_all([5, 1, 4, 2, 3]) == [10, 2, 8, 4, 6]


async def test_when_one_job_of_a_caller_fails_the_others_leave(doubler: Doubler) -> None:
    first = await doubler.busy()
    many = asyncio.create_task(doubler.queue.submit_all([-1, 1, 2, 3, 4]))
    await asyncio.sleep(0)  # let it queue
    many.cancel()
    await asyncio.wait({many})
    with pytest.raises(ResourceExhausted):
        await doubler.queue.submit_all(range(7))
    assert doubler.queue.ready == 0
    doubler.go.set()
    assert await first == 0
    with pytest.raises(ValueError, match="-1"):
        await doubler.queue.submit_all([-1])


async def test_closing_runs_what_waits_and_takes_no_more(doubler: Doubler) -> None:
    tasks = [await doubler.busy(), *await doubler.submit(*range(1, 6))]
    closing = asyncio.create_task(doubler.queue.close())
    await asyncio.sleep(0)  # let it begin
    with pytest.raises(Unavailable) as caught:
        await doubler.queue.submit(9)
    assert caught.value.reason == "DRAINING"
    doubler.go.set()
    await closing
    assert [await task for task in tasks] == [0, 2, 4, 6, 8, 10]


@pytest.mark.parametrize("given_up", [False, True])
async def test_closing_waits_for_jobs_that_are_being_made(doubler: Doubler, given_up: bool) -> None:
    doubler.go.set()
    with doubler.queue.place() as place:
        closing = asyncio.create_task(doubler.queue.close())
        await asyncio.sleep(0)  # let it begin
        if not given_up:
            place.put(4)
            assert await place.answer() == 8
    await closing
    assert doubler.batches == ([] if given_up else [[4]])


async def test_a_queue_that_was_never_used_closes() -> None:
    await Doubler().queue.close()


def test_callers_whose_event_loop_is_closed_hold_up_nobody() -> None:
    doubler = Doubler()

    async def leave() -> None:
        doubler.queue.place().put(1)
        assert await asyncio.to_thread(doubler.started.wait, PATIENCE)

    async def come() -> int:
        doubler.go.set()
        answer = await doubler.queue.submit(2)
        await doubler.queue.close()
        return answer

    asyncio.run(leave())
    assert asyncio.run(come()) == 4
