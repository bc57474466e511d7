"""The boundary, in front of a real server: codes, request ids, malformed bytes, overload."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest
from structlog.testing import capture_logs

from core.bundle import Bundle
from core.errors import InvalidArgument as InvalidArgumentRaised
from core.errors import NotFound
from serving.telemetry.request_id import accept_request_id, request_id
from serving.testing import listening, serving
from tandem.errors import (
    Error,
    Internal,
    InvalidArgument,
    ResourceExhausted,
    from_rpc,
)
from tandem.errors import NotFound as NotFoundReceived
from tandem.v1 import candidate_service_pb2 as pb
from tandem.v1 import candidate_service_pb2_grpc as pb_grpc
from tests.gateway.fakes import WAIT, FakeCandidate
from tests.tiny_bundle import write_tiny_bundle

SEARCH = "/tandem.v1.CandidateService/Search"
attach = pb_grpc.add_CandidateServiceServicer_to_server


@pytest.fixture
def fake(tmp_path: Path) -> FakeCandidate:
    return FakeCandidate(Bundle.open(write_tiny_bundle(tmp_path)))


@pytest.fixture
async def channel(fake: FakeCandidate) -> AsyncIterator[grpc.aio.Channel]:
    async with serving(fake, attach, max_concurrent_rpcs=2, max_message_bytes=100_000) as channel:
        yield channel


def search(channel: grpc.aio.Channel, **fields: Any) -> Any:
    stub = pb_grpc.CandidateServiceStub(channel)
    return stub.Search(pb.SearchRequest(**fields), timeout=10, metadata=(("x-request-id", "r1"),))


async def failure_of(call: Any) -> Error:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc(caught.value)


async def send_bytes(channel: grpc.aio.Channel, raw: bytes, method: str = SEARCH) -> bytes:
    call: Any = channel.unary_unary(method)
    response: bytes = await call(raw, timeout=10)
    return response


async def test_an_answer_names_its_request(channel: grpc.aio.Channel, fake: FakeCandidate) -> None:
    with capture_logs() as logs:
        call = search(channel, max_results=3)
        response = await call
    assert [item.item_id for item in response.items] == ["i0", "i1", "i2"]
    assert dict(await call.trailing_metadata())["x-request-id"] == "r1"
    assert fake.request_ids == ["r1"]
    (line,) = [line for line in logs if line["event"] == "call"]
    assert (line["method"], line["code"], line["reason"]) == (SEARCH, "OK", None)
    assert line["ms"] >= 0


@pytest.mark.parametrize("sent", [None, "not acceptable", "x" * 65])
async def test_a_missing_or_unsafe_request_id_is_replaced(
    fake: FakeCandidate, monkeypatch: pytest.MonkeyPatch, sent: str | None
) -> None:
    seen: list[str] = []

    async def record(*_: object) -> None:
        seen.append(request_id.get())

    monkeypatch.setattr(fake, "enter", record)
    async with serving(fake, attach) as own:
        metadata = (("x-request-id", sent),) if sent else ()
        call = pb_grpc.CandidateServiceStub(own).Search(pb.SearchRequest(), metadata=metadata)
        await call
        answered = dict(await call.trailing_metadata())["x-request-id"]
    assert answered == seen[0] != sent
    assert accept_request_id(answered) == answered


async def until_logged(logs: Sequence[object]) -> None:
    """A call's line may be written after the caller has had the answer."""
    async with asyncio.timeout(10):
        while not logs:  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0)


async def test_an_error_of_the_tree_keeps_its_code_and_reason(
    channel: grpc.aio.Channel, fake: FakeCandidate
) -> None:
    fake.failure = NotFound("no such thing", reason="NO_SUCH_THING", thing="x")
    with capture_logs() as logs:
        failure = await failure_of(search(channel))
        await until_logged(logs)
    assert isinstance(failure, NotFoundReceived)
    assert (failure.message, failure.reason) == ("no such thing", "NO_SUCH_THING")
    assert failure.metadata == {"thing": "x"}
    assert failure.request_id == "r1"
    assert [(line["code"], line["reason"]) for line in logs] == [("NOT_FOUND", "NO_SUCH_THING")]


async def test_what_is_long_once_it_is_encoded_keeps_its_code(fake: FakeCandidate) -> None:
    """An emoji is one character, and 12 bytes of a trailer.

    From 8 KiB on, gRPC refuses the more trailers the longer they are: here all of them.
    """
    options = [("grpc.max_metadata_size", 8_191), ("grpc.absolute_max_metadata_size", 8_192)]
    name = "\N{GRINNING FACE}" * 600
    fake.failure = InvalidArgumentRaised(f"no attribute {name}", reason="WHY", attribute=name)
    async with (
        listening(fake, attach) as address,
        grpc.aio.insecure_channel(address, options) as channel,
    ):
        failure = await failure_of(search(channel))
    assert isinstance(failure, InvalidArgument)
    assert failure.reason == "WHY"
    assert name.startswith(failure.metadata["attribute"].removesuffix("…"))


async def test_an_answer_that_nobody_takes_is_refused_where_it_is_made(
    fake: FakeCandidate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.boundary.proxy.MAX_ANSWER_BYTES", 100)
    async with serving(fake, attach) as channel:
        failure = await failure_of(search(channel, max_results=12))
        assert isinstance(failure, InvalidArgument)
        assert failure.reason == "ANSWER_TOO_LARGE"
        await search(channel, max_results=1)


async def test_a_defect_is_logged_and_its_text_stays_here(
    fake: FakeCandidate, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("password=hunter2")

    monkeypatch.setattr(fake, "enter", broken)
    async with serving(fake, attach) as channel:
        with capture_logs() as logs:
            failure = await failure_of(search(channel))
    assert isinstance(failure, Internal)
    assert failure.reason == "INTERNAL"
    assert failure.request_id == "r1"
    assert "hunter2" not in str(failure)
    assert "hunter2" in str([line["exc_info"] for line in logs if line["event"] == "defect"])


async def test_an_answer_of_the_wrong_type_is_a_defect_too(
    fake: FakeCandidate, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def wrong(*_: object) -> str:
        return "not a message"

    monkeypatch.setattr(fake, "Search", wrong)
    async with serving(fake, attach) as channel:
        assert isinstance(await failure_of(search(channel)), Internal)


@pytest.mark.parametrize(
    "raw",
    [
        b"\x0a\x02\xff\xfe",  # history_item_ids: not UTF-8
        b"\x0a\x7f",  # says 127 bytes, holds none
        b"\xff" * 20,
        # The filter of its constraints: conjunctions that end before they say they do.
        b"\x1a\x99\x01" + b"\x12\x96\x01" + b"\x0a\x94\x01" * 50,
    ],
    ids=["invalid-utf8", "truncated", "garbage", "broken-nesting"],
)
async def test_bytes_that_are_no_message_are_the_callers_mistake(
    channel: grpc.aio.Channel, fake: FakeCandidate, raw: bytes
) -> None:
    failure = await failure_of(send_bytes(channel, raw))
    assert isinstance(failure, InvalidArgument)
    assert failure.reason == "MALFORMED_MESSAGE"
    assert fake.requests == []
    await send_bytes(channel, b"")  # the connection is none the worse


async def test_a_message_above_the_limit_is_refused(channel: grpc.aio.Channel) -> None:
    failure = await failure_of(send_bytes(channel, b"\0" * 100_001))
    assert isinstance(failure, ResourceExhausted)


async def test_an_unknown_method_is_unimplemented(channel: grpc.aio.Channel) -> None:
    failure = await failure_of(send_bytes(channel, b"", "/tandem.v1.CandidateService/Nope"))
    assert failure.code == grpc.StatusCode.UNIMPLEMENTED


async def test_overload_is_shed_with_a_hint_and_ends(
    channel: grpc.aio.Channel, fake: FakeCandidate
) -> None:
    waiting = []
    for _ in range(2):
        fake.waiting.clear()
        waiting.append(search(channel, history_item_ids=[WAIT]))
        await fake.waiting.wait()
    shed = await failure_of(search(channel))
    assert isinstance(shed, ResourceExhausted)
    assert shed.reason == "TOO_MANY_CALLS"
    assert shed.retry_after == 0.1
    for call in waiting:
        call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting[0]
    await fake.cancelled.wait()
    while True:  # the servers learns of the cancellations in its own time
        try:
            await search(channel)
            break
        except grpc.aio.AioRpcError as error:
            assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED  # noqa: PT017


async def test_a_call_past_its_deadline_is_cancelled_and_logged_as_late(
    channel: grpc.aio.Channel, fake: FakeCandidate
) -> None:
    with capture_logs() as logs:
        call = pb_grpc.CandidateServiceStub(channel).Search(
            pb.SearchRequest(history_item_ids=[WAIT]), timeout=0.2
        )
        failure = await failure_of(call)
        await fake.cancelled.wait()
        await until_logged(logs)
    assert failure.code == grpc.StatusCode.DEADLINE_EXCEEDED
    assert [line["code"] for line in logs] == ["DEADLINE_EXCEEDED"]
