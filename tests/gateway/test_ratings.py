"""`PredictRatings`: passed on to the generator, over real channels."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import tandem
from core.errors import FailedPrecondition, InvalidArgument
from tandem.v1 import generator_service_pb2 as pb
from tests.gateway.fakes import WAIT
from tests.gateway.stack import Stack, running
from tests.tiny_bundle import write_tiny_bundle


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    async with running(write_tiny_bundle(tmp_path)) as stack:
        yield stack


async def test_ratings_come_from_the_generator(stack: Stack) -> None:
    answer = await stack.client.predict_ratings("ann", ["i7", "i1", "x"], rated={"i2": 4.5})
    assert [(each.item_id, each.rating) for each in answer.ratings] == [("i7", 2.5), ("i1", 1.5)]
    assert answer.missing_item_ids == ["x"]
    assert answer.bundle_version == "tiny/1"
    (request,) = stack.generator.requests
    rated = [pb.RatedItem(item_id="i2", rating=4.5)]
    assert request == pb.PredictRatingsRequest(
        user_id="ann", item_ids=["i7", "i1", "x"], rated_items=rated
    )
    assert not stack.candidate.requests


async def test_a_sync_client_asks_the_same(stack: Stack) -> None:
    with tandem.Client(stack.address, timeout=10) as client:
        answer = await asyncio.to_thread(client.predict_ratings, "", ["i3"])
    assert [each.rating for each in answer.ratings] == [3.5]


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (FailedPrecondition("none", reason="RATINGS_NOT_LEARNED"), tandem.FailedPrecondition),
        (InvalidArgument("0", reason="RATING_OUT_OF_RANGE"), tandem.InvalidArgument),
    ],
)
async def test_what_the_generator_refuses_is_refused(
    stack: Stack, failure: FailedPrecondition, kind: type[tandem.Error]
) -> None:
    stack.generator.failure = failure
    with pytest.raises(kind) as refused:
        await stack.client.predict_ratings("ann", ["i1"])
    assert refused.value.reason == failure.reason
    assert len(stack.generator.requests) == 1


async def test_the_answer_names_the_version_that_answered(stack: Stack) -> None:
    stack.generator.version = "tiny/2"
    answer = await stack.client.predict_ratings("ann", ["i1"])
    assert answer.bundle_version == "tiny/2"


async def test_the_callers_deadline_is_the_generators(stack: Stack) -> None:
    with pytest.raises(tandem.DeadlineExceeded):
        await stack.client.predict_ratings("ann", [WAIT], timeout=0.5)
    await stack.generator.cancelled.wait()
    assert stack.generator.remaining[0] < 0.5
