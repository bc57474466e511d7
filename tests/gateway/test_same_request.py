"""The same request of several callers at once: each has an answer of its own."""

import asyncio
from typing import Any

import pytest

from tandem.v1 import recommendation_service_pb2 as pb
from tests.gateway.stack import Stack


def budget(answer: pb.RecommendResponse, stage: str) -> float:
    """The seconds that a stage had."""
    (timing,) = [timing for timing in answer.timings if timing.stage == stage]
    return timing.budget.ToTimedelta().total_seconds()


async def test_who_has_time_gets_nothing_of_who_has_none(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the answer that is degraded for want of time, nor its timings."""
    may_answer = asyncio.Event()

    async def held(*_: Any) -> None:
        await may_answer.wait()

    monkeypatch.setattr(stack.generator, "enter", held)
    hurried = asyncio.create_task(stack.client.recommend("ann", timeout=0.3))
    patient = asyncio.create_task(stack.client.recommend("ann", timeout=30))
    degraded = await hurried
    assert degraded.degraded
    assert not patient.done()
    may_answer.set()
    whole = await patient
    assert not whole.degraded
    assert [timing.stage for timing in whole.timings] == ["history", "search", "rerank", "blend"]
    assert budget(degraded, "rerank") < 0.3 < 1 < budget(whole, "rerank")


async def test_who_leaves_takes_nothing_from_who_asked_the_same(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_answer, asked = asyncio.Event(), asyncio.Event()

    async def held(*_: Any) -> None:
        asked.set()
        await may_answer.wait()

    monkeypatch.setattr(stack.candidate, "enter", held)
    leaving, staying = (
        asyncio.create_task(stack.client.recommend("ann", strategy="embedding")) for _ in range(2)
    )
    await asyncio.wait_for(asked.wait(), 30)
    leaving.cancel()
    may_answer.set()
    answer = await staying
    assert not answer.degraded
    assert answer.recommendations
