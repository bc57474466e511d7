"""Many requests over one stream: bounded in hand, each with its own answer or error."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.batch import answers


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


async def settle() -> None:
    """Lets everything run that can."""
    for _ in range(100):
        await asyncio.sleep(0)


@pytest.mark.parametrize("window", [1, 3, 100])
@pytest.mark.parametrize("count", [0, 1, 20])
async def test_every_request_is_answered_once(count: int, window: int) -> None:
    answered = [answer async for answer in answers(aiter(Requests(count)), twice, window)]
    assert sorted(answered) == [2 * number for number in range(1, count + 1)]


async def test_answers_come_when_they_are_ready() -> None:
    first = asyncio.Event()

    async def answer(number: int) -> int:
        if number == 1:
            await first.wait()
        return number

    stream = answers(aiter(Requests(3)), answer, window=2)
    assert [await anext(stream), await anext(stream)] == [2, 3]
    first.set()
    assert [number async for number in stream] == [1]


async def test_a_slow_reader_is_bounded() -> None:
    requests = Requests(1000)
    stream = answers(aiter(requests), twice, window=4)
    for taken in range(1, 6):
        await anext(stream)
        await settle()
        # Those that were taken, the window, and the answer that waits.
        assert requests.read == taken + 4 + 1
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

    stream = answers(aiter(Requests(10)), answer, window=3)
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
        _ = [answer async for answer in answers(failing(), twice, window=2)]
