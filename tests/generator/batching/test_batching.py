"""Batches grow with the load, within their limits, and nobody's trouble is anyone else's."""

import asyncio
from unittest.mock import Mock

import pytest

from core.errors import ResourceExhausted, Unavailable
from services.generator.batching import Limits, Served, model_queue
from tests.generator.batching.fake_model import (
    FakeJob,
    FakeModel,
    FakeQueue,
    batching,
    occupy,
    submit,
    until_waiting,
)


async def test_an_idle_model_runs_a_job_at_once_and_alone() -> None:
    model = FakeModel(held=False)
    async with batching(model, Limits()) as queue:
        for name in range(3):
            served = await queue.submit(FakeJob(name))
            assert (served.answer, served.batch) == (f"answer {name}", 1)
    assert model.names() == [[0], [1], [2]]


async def test_what_comes_while_the_model_is_busy_shares_the_next_run() -> None:
    model = FakeModel()
    async with batching(model, Limits(batch=4)) as queue:
        tasks = await occupy(queue, model, *map(FakeJob, range(1, 7)))
        model.let.release(3)
        served = await asyncio.gather(*tasks)
    assert model.names() == [[0], [1, 2, 3, 4], [5, 6]]
    assert [one.answer for one in served] == [f"answer {name}" for name in range(7)]
    assert [one.batch for one in served] == [1, 4, 4, 4, 4, 2, 2]


async def test_the_times_of_a_job_are_told() -> None:
    model = FakeModel()
    async with batching(model, Limits()) as queue:
        tasks = await occupy(queue, model, FakeJob(1))
        model.now = 0.25
        model.let.release()
        await model.until_started()
        model.now = 0.375
        model.let.release()
        first, second = await asyncio.gather(*tasks)
    assert first == Served("answer 0", prepared=0.0, queued=0.0, ran=0.25, batch=1)
    assert second == Served("answer 1", prepared=0.0, queued=0.25, ran=0.125, batch=1)


async def test_a_full_queue_sheds_and_says_when_to_come_back() -> None:
    model = FakeModel()
    async with batching(model, Limits(batch=2, queue=4)) as queue:
        before = await occupy(queue, model, FakeJob(-1), FakeJob(-2))
        model.now = 0.5  # half a second for one job
        model.let.release()
        await model.until_started()
        model.now = 1.5  # and a second for two
        model.let.release()
        await asyncio.gather(*before)
        tasks = await occupy(queue, model, *map(FakeJob, range(1, 5)))
        with pytest.raises(ResourceExhausted) as caught:
            await queue.submit(FakeJob(5))
        assert caught.value.reason == "QUEUE_FULL"
        assert caught.value.retry_after == pytest.approx(4 * 0.5)
        model.let.release(4)
        await asyncio.gather(*tasks)
        assert (await submit(queue, FakeJob(6))[0]).answer == "answer 6"


async def test_a_job_that_waited_too_long_is_shed() -> None:
    model = FakeModel()
    async with batching(model, Limits(batch=2, wait=1.0)) as queue:
        first, late = await occupy(queue, model, FakeJob(1))
        model.now = 0.75
        young = submit(queue, FakeJob(2))
        await until_waiting(queue, 2)
        model.now = 1.25
        model.let.release(2)
        await asyncio.gather(first, *young)
        with pytest.raises(ResourceExhausted) as caught:
            await late
    assert caught.value.reason == "WAITED_TOO_LONG"
    assert caught.value.retry_after == pytest.approx(1 * 1.25)  # for the young one, still queued
    assert model.names() == [[0], [2]]


async def test_a_cancelled_job_leaves_the_queue_and_never_runs() -> None:
    model = FakeModel()
    async with batching(model, Limits(queue=2)) as queue:
        first, gone, kept = await occupy(queue, model, FakeJob(1), FakeJob(2))
        gone.cancel()
        await asyncio.wait({gone})
        assert queue.ready == 1
        more = submit(queue, FakeJob(3))  # its place is free again
        await until_waiting(queue, 2)
        model.let.release(2)
        await asyncio.gather(first, kept, *more)
    assert model.names() == [[0], [2, 3]]


async def test_the_answer_to_a_caller_who_left_meanwhile_is_dropped() -> None:
    model, complaints = FakeModel(), Mock()
    asyncio.get_running_loop().set_exception_handler(complaints)
    async with batching(model, Limits()) as queue:
        first, second = await occupy(queue, model, FakeJob(1))
        first.cancel()
        await asyncio.wait({first})
        model.let.release(2)
        assert (await second).answer == "answer 1"
    complaints.assert_not_called()


async def test_only_the_job_to_blame_fails() -> None:
    model = FakeModel()
    async with batching(model, Limits()) as queue:
        jobs = [FakeJob(1), FakeJob(2, broken=True), FakeJob(3)]
        tasks = await occupy(queue, model, *jobs)
        model.held = False
        model.let.release()
        served = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(served[2], ValueError)
    assert str(served[2]) == "cannot answer [2]"
    answers = [one.answer for one in served if isinstance(one, Served)]
    assert answers == ["answer 0", "answer 1", "answer 3"]
    assert model.names() == [[0], [1, 2, 3], [1], [2], [3]]


async def test_answers_that_do_not_fit_the_jobs_reach_no_one() -> None:
    queue: FakeQueue = model_queue(lambda _: ["one", "too many"], Limits())
    with pytest.raises(RuntimeError, match="2 answers came for 1 jobs"):
        await queue.submit(FakeJob(0))
    await queue.close()


async def test_closing_answers_what_is_there_and_takes_no_more() -> None:
    model = FakeModel()
    queue = model_queue(model.run, Limits(batch=2))
    tasks = await occupy(queue, model, *map(FakeJob, range(1, 4)))
    closing = asyncio.create_task(queue.close())
    await asyncio.sleep(0)  # let it begin
    with pytest.raises(Unavailable) as caught:
        await queue.submit(FakeJob(9))
    assert caught.value.reason == "DRAINING"
    assert not closing.done()
    model.let.release(3)
    await closing
    assert [(await task).answer for task in tasks] == [f"answer {name}" for name in range(4)]
