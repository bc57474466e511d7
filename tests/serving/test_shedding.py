"""Refusals: before anything is read, with a delay, and one line of the log for many."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from structlog.testing import capture_logs

from core.bundle import Bundle
from serving.testing import serving
from tandem.errors import Error, ResourceExhausted, from_rpc
from tandem.v1 import candidate_service_pb2 as pb
from tandem.v1 import candidate_service_pb2_grpc as pb_grpc
from tests.gateway.fakes import FakeCandidate
from tests.tiny_bundle import write_tiny_bundle


class Busy(FakeCandidate):
    """Has no time for searches while it says how long that will take."""

    seconds: float | None = None

    def retry_after(self, method: str) -> float | None:
        return self.seconds if method == "Search" else None


@pytest.fixture
def busy(tmp_path: Path) -> Busy:
    return Busy(Bundle.open(write_tiny_bundle(tmp_path)))


@pytest.fixture
async def channel(busy: Busy) -> AsyncIterator[grpc.aio.Channel]:
    attach = pb_grpc.add_CandidateServiceServicer_to_server
    async with serving(busy, attach) as channel:
        yield channel


async def search(channel: grpc.aio.Channel, raw: bytes = b"", **arguments: Any) -> Error | None:
    call: Any = channel.unary_unary("/tandem.v1.CandidateService/Search")
    try:
        await call(raw, timeout=30, **arguments)
    except grpc.aio.AioRpcError as error:
        return from_rpc(error)
    return None


async def test_a_busy_servicer_is_not_asked(busy: Busy, channel: grpc.aio.Channel) -> None:
    busy.seconds = 0.123
    failure = await search(channel, b"\xff not even a message", metadata=(("x-request-id", "r1"),))
    assert isinstance(failure, ResourceExhausted)
    assert failure.reason == "OVERLOADED"
    assert failure.retry_after == pytest.approx(0.13)
    assert failure.request_id == "r1"
    assert not busy.requests
    busy.seconds = None
    assert await search(channel) is None


async def test_its_other_methods_are(busy: Busy, channel: grpc.aio.Channel) -> None:
    busy.seconds = 1.0
    similar = pb.SimilarRequest()
    similar.query.items.item_ids.append("i1")
    response = await pb_grpc.CandidateServiceStub(channel).Similar(similar, timeout=30)
    assert response.items[0].item_id == "i7"


async def test_refusals_are_counted_in_the_log(busy: Busy, channel: grpc.aio.Channel) -> None:
    busy.seconds = 1.0
    with capture_logs() as logs:
        for _ in range(50):
            assert await search(channel) is not None
    refused = [line for line in logs if line["event"] == "calls refused"]
    assert 1 <= len(refused) < 50
    assert refused[0]["calls"] == 1
    assert not [line for line in logs if line["event"] == "call"]
