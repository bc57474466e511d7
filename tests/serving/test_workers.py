"""Blocking calls run on threads, keep their context, and cost nothing once cancelled."""

import asyncio
import threading

import pytest

from serving.telemetry.request_id import request_id
from serving.workers import Workers


async def test_a_call_runs_elsewhere_with_the_request_id() -> None:
    workers = Workers(1)
    request_id.set("r1")
    name, current = await workers.run(
        lambda x: (threading.current_thread().name, x + request_id.get()), "id:"
    )
    assert name.startswith("tandem")
    assert current == "id:r1"
    workers.close()


async def test_an_exception_comes_back() -> None:
    workers = Workers(1)
    with pytest.raises(ZeroDivisionError):
        await workers.run(lambda: 1 // 0)
    workers.close()


async def test_a_cancelled_call_in_the_queue_never_runs() -> None:
    workers = Workers(1)
    running, release = threading.Event(), threading.Event()
    ran: list[str] = []

    def occupy() -> None:
        running.set()
        release.wait()

    first = asyncio.create_task(workers.run(occupy))
    await asyncio.to_thread(running.wait)
    second = asyncio.create_task(workers.run(ran.append, "cancelled"))
    third = asyncio.create_task(workers.run(ran.append, "kept"))
    await asyncio.sleep(0)  # let both reach the queue
    second.cancel()
    await asyncio.wait({second})
    release.set()
    await asyncio.gather(first, third)
    assert ran == ["kept"]
    workers.close()
