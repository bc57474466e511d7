"""What every request goes through: bounds on bodies, requests and names."""

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from console.limits import Limits
from tests.console.served import Stack, ask

LARGE = b" " * (4 * 2**20 + 1)


@pytest.mark.parametrize(
    "path", ["/v1/recommendations", "/tandem.v1.RecommendationService/Recommend", "/sign-in"]
)
@pytest.mark.parametrize("announced", [True, False])
def test_a_body_too_large_is_refused(stack: Stack, path: str, announced: bool) -> None:
    body: Any = LARGE if announced else iter([LARGE[: 2**20]] * 5)
    answer = ask(stack.open, path, body=body, headers={"content-type": "application/json"})
    assert (answer.status, answer.reason) == (413, "BODY_TOO_LARGE")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example"])
def test_another_name_is_refused_on_the_loopback(stack: Stack, host: str) -> None:
    answer = ask(stack.open, "/", headers={"host": host})
    assert (answer.status, answer.reason) == (421, "UNKNOWN_HOST")
    assert ask(stack.open, "/healthz", headers={"host": host}).status == 200


@pytest.mark.parametrize("host", ["localhost", "localhost:1", "127.0.0.1:8080", "[::1]:8080"])
def test_the_loopbacks_names_are_not(stack: Stack, host: str) -> None:
    assert ask(stack.open, "/", headers={"host": host}).status == 200


class Slow:
    """An application that answers when it may."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()
        self.asked = asyncio.Semaphore(0)

    async def __call__(self, _scope: Any, receive: Any, send: Any) -> None:
        await receive()
        self.asked.release()
        await self.may_answer.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


def limits(application: Any, **more: Any) -> Limits:
    return Limits(application, **{"max_bytes": 10, "max_requests": 2, "body_seconds": 30.0, **more})


async def status_of(application: Limits, *chunks: bytes, path: str = "/", ends: bool = True) -> int:
    """Asks an application by itself; a body that does not end never comes."""
    parts = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    if ends:
        parts.append({"type": "http.request", "body": b"", "more_body": False})
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return parts.pop(0) if parts else await asyncio.Future()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": path, "headers": [], "query_string": b""}
    await application(scope, receive, send)
    return int(sent[0]["status"])


async def test_requests_in_flight_are_bounded() -> None:
    slow = Slow()
    bounded = limits(slow)
    waiting = [asyncio.create_task(status_of(bounded)) for _ in range(2)]
    await slow.asked.acquire()
    await slow.asked.acquire()
    assert await status_of(bounded) == 429
    health = asyncio.create_task(status_of(bounded, path="/healthz"))
    slow.may_answer.set()
    assert [await each for each in (*waiting, health)] == [200, 200, 200]
    assert await status_of(bounded) == 200
    assert bounded.in_flight == 0


async def test_a_body_that_does_not_come_is_given_up() -> None:
    assert await status_of(limits(Slow(), body_seconds=0.0), ends=False) == 408


async def test_logs_name_no_user() -> None:
    slow = Slow()
    slow.may_answer.set()
    with capture_logs() as lines:
        await status_of(limits(slow), path="/v1/users/ann@example.com/history")
    assert [line["path"] for line in lines] == ["/v1/users/…"]
