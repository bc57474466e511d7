"""Many requests over one stream: bounded in hand, each with its own answer or error."""

import asyncio
import weakref
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import grpc
import pytest

import tandem
from core.errors import ResourceExhausted
from gateway.batch import Window, answers
from tandem.errors import from_status
from tandem.requests import StrategyName
from tandem.v1 import recommendation_service_pb2 as pb
from tandem.v1 import recommendation_service_pb2_grpc as pb_grpc
from tests.gateway.fakes import WAIT
from tests.gateway.stack import Stack, ids, running
from tests.tiny_bundle import write_tiny_bundle


class Requests:
    """Numbers, and how many of them were read."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.read = 0

    async def __aiter__(self) -> AsyncIterator[int]:
        while self.read < self._count:
            self.read += 1
            yield self.read


async def twice(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


def no_bytes(_: int) -> int:
    return 0


async def settle() -> None:
    """Lets everything run that can."""
    for _ in range(100):
        await asyncio.sleep(0)


@pytest.mark.parametrize("window", [1, 3, 100])
@pytest.mark.parametrize("count", [0, 1, 20])
async def test_every_request_is_answered_once(count: int, window: int) -> None:
    answered = [
        answer
        async for answer in answers(aiter(Requests(count)), twice, Window(window, 1), no_bytes)
    ]
    assert sorted(answered) == [2 * number for number in range(1, count + 1)]


async def test_answers_come_when_they_are_ready() -> None:
    first = asyncio.Event()

    async def answer(number: int) -> int:
        if number == 1:
            await first.wait()
        return number

    stream = answers(aiter(Requests(3)), answer, Window(2, 1), no_bytes)
    assert [await anext(stream), await anext(stream)] == [2, 3]
    first.set()
    assert [number async for number in stream] == [1]


async def test_a_slow_reader_is_bounded() -> None:
    requests = Requests(1000)
    stream = answers(aiter(requests), twice, Window(4, 1), no_bytes)
    for taken in range(1, 6):
        await anext(stream)
        await settle()
        # Those that were taken, the window, and the answer that waits.
        assert requests.read == taken + 4 + 1
    await stream.aclose()


@pytest.mark.parametrize(("size", "read"), [(1, 8), (4, 3), (5, 2), (9, 2), (100, 1)])
async def test_bytes_in_hand_are_bounded(size: int, read: int) -> None:
    """No more is read once ten bytes are in hand, and what is answered makes room again."""
    requests, may_answer = Requests(50), asyncio.Event()

    async def answer(number: int) -> int:
        await may_answer.wait()
        return number

    stream = answers(aiter(requests), answer, Window(8, 10), lambda _: size)
    first = asyncio.create_task(anext(stream))
    await settle()
    assert requests.read == read
    may_answer.set()
    answered = {await first, *[number async for number in stream]}
    assert answered == set(range(1, 51))


async def test_a_request_that_was_answered_is_not_held_on_to() -> None:
    class Request:
        pass

    async def some() -> AsyncIterator[Request]:
        for _ in range(10):
            yield Request()
        await asyncio.Event().wait()

    seen: list[weakref.ref[Request]] = []

    async def answer(request: Request) -> int:
        seen.append(weakref.ref(request))
        return 0

    stream = answers(some(), answer, Window(4, 10), lambda _: 0)
    for _ in range(10):
        await anext(stream)
    await settle()
    assert len(seen) == 10
    # An asynchronous generator keeps what it yielded last.
    assert [reference() for reference in seen[:-1]] == [None] * 9
    await stream.aclose()


async def test_work_that_is_left_is_cancelled() -> None:
    cancelled: list[int] = []

    async def answer(number: int) -> int:
        if number == 1:
            return number
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(number)
            raise
        return number

    stream = answers(aiter(Requests(10)), answer, Window(3, 1), no_bytes)
    assert await anext(stream) == 1
    await settle()
    await stream.aclose()
    await settle()
    assert sorted(cancelled) == [2, 3, 4]


async def test_requests_that_fail_end_the_stream() -> None:
    async def failing() -> AsyncIterator[int]:
        yield 1
        raise ValueError("not a request")

    with pytest.raises(ValueError, match="not a request"):
        _ = [answer async for answer in answers(failing(), twice, Window(2, 1), no_bytes)]


async def test_what_was_cancelled_by_itself_ends_the_stream() -> None:
    """No request goes without an answer while the stream ends as if all had one."""

    async def answer(number: int) -> int:
        if number == 1:
            gone = asyncio.get_running_loop().create_future()
            gone.cancel()
            await gone
        return number

    with pytest.raises(RuntimeError, match="was cancelled"):
        _ = [one async for one in answers(aiter(Requests(3)), answer, Window(2, 1), no_bytes)]


def of_user(number: int, **fields: Any) -> pb.BatchRecommendRequest:
    request = pb.RecommendRequest(**{"user_id": "ann", "max_results": 3, **fields})
    return pb.BatchRecommendRequest(id=str(number), request=request)


def stream(stack: Stack, requests: Iterable[pb.BatchRecommendRequest] | None = None) -> Any:
    """A call of the method; without requests, they are written to it."""
    stub = pb_grpc.RecommendationServiceStub(stack.channel)
    return stub.BatchRecommend(None if requests is None else iter(requests), timeout=30)


async def collect(call: Any) -> dict[str, pb.BatchRecommendResponse]:
    return {response.id: response async for response in call}


async def test_each_answer_is_that_of_the_call(stack: Stack) -> None:
    strategies: tuple[StrategyName, ...] = ("rerank", "generate", "fuse", "embedding")
    expected = [ids(await stack.client.recommend("ann", max_results=3, strategy=strategies[i % 4]))
                for i in range(4)]  # fmt: skip
    requests = [of_user(i, strategy=f"STRATEGY_{strategies[i % 4].upper()}") for i in range(200)]
    responses = await collect(stream(stack, requests))
    assert len(responses) == 200
    for number, response in responses.items():
        assert ids(response.response) == expected[int(number) % 4]
        assert response.response.bundle_version == "tiny/1"


async def test_what_fails_for_one_is_its_answer(stack: Stack) -> None:
    requests = [
        of_user(0),
        of_user(1, user_id="nobody"),
        of_user(2, max_results=-1),
        pb.BatchRecommendRequest(id="3"),
        pb.BatchRecommendRequest(id="4" * 513, request=of_user(4).request),
        of_user(5),
    ]
    responses = await collect(stream(stack, requests))
    errors = {
        number[0]: from_status(response.error).reason for number, response in responses.items()
    }
    assert errors == {
        "0": "", "1": "UNKNOWN_USER", "2": "NEGATIVE_MAX_RESULTS", "3": "MISSING_USER",
        "4": "ID_TOO_LONG", "5": "",
    }  # fmt: skip
    unknown = from_status(responses["1"].error)
    assert isinstance(unknown, tandem.NotFound)
    assert unknown.metadata == {"user_id": "nobody"}
    assert "nobody" in unknown.message
    assert unknown.retry_after is None


async def test_what_is_worth_another_attempt_says_when(stack: Stack) -> None:
    stack.generator.failure = ResourceExhausted("full", reason="QUEUE_FULL", retry_after=0.25)
    requests = [of_user(0, strategy="STRATEGY_GENERATE", forbid_degraded=True)]
    error = from_status((await collect(stream(stack, requests)))["0"].error)
    assert isinstance(error, tandem.ResourceExhausted)
    assert (error.reason, error.retry_after) == ("QUEUE_FULL", 0.25)


async def test_one_that_hangs_holds_up_no_other_and_ends_with_its_own_deadline(
    tmp_path: Path,
) -> None:
    hanging = of_user(0, history_item_ids=[WAIT], strategy="STRATEGY_EMBEDDING",
                      forbid_degraded=True)  # fmt: skip
    # A deadline that a busy machine, too, gives the others' answers within.
    async with running(write_tiny_bundle(tmp_path), default_timeout=4.0) as stack:
        call = stream(stack, [hanging, *(of_user(i) for i in range(1, 100))])
        order = [response.id async for response in call]
    assert order[-1] == "0"
    assert sorted(order, key=int) == [str(i) for i in range(100)]


async def test_a_request_that_is_no_message_ends_the_stream(stack: Stack) -> None:
    call: Any = stack.channel.stream_stream("/tandem.v1.RecommendationService/BatchRecommend")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        _ = [raw async for raw in call([b"\xff\xff"], timeout=30)]
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_a_stream_that_is_left_ends_what_it_had_in_hand(stack: Stack) -> None:
    hanging = of_user(0, history_item_ids=[WAIT], strategy="STRATEGY_EMBEDDING")
    call = stream(stack)
    await call.write(hanging)
    await asyncio.wait_for(stack.candidate.waiting.wait(), 30)
    call.cancel()
    await asyncio.wait_for(stack.candidate.cancelled.wait(), 30)


async def test_a_conversation(stack: Stack) -> None:
    call = stream(stack)
    for number in range(3):
        await call.write(of_user(number))
        assert (await call.read()).id == str(number)
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
