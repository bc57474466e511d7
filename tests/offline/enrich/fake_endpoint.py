"""A server that speaks OpenAI's chat completions, with a model that is told what to say."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from tests.processes import PATIENCE, wait_until

Body = dict[str, Any]


@dataclass
class Call:
    """A call as it arrived."""

    body: Body
    authorization: str

    @property
    def item(self) -> str:
        """The text of the item that is asked about."""
        asked = [m["content"] for m in self.body["messages"] if m["role"] == "user"]
        texts = [json.loads(text)["item"] for text in asked if text.startswith('{"item"')]
        return str(texts[-1])

    @property
    def is_again(self) -> bool:
        return "not a valid answer" in self.body["messages"][-1]["content"]


def described(item: str, **changes: object) -> str:
    """A valid answer about an item, but for what is changed."""
    answer = {"description": f"{item} it is", "genre_words": ["kind"], "audience": "all"}
    return json.dumps(answer | changes)


@dataclass
class FakeEndpoint:
    """What the server does, and what was asked of it.

    Attributes:
        say: what the model answers to a call: a text, or a status other than 200.
        hold: calls beyond so many are not answered until `release`.
    """

    say: Callable[[Call], str | int] = lambda call: described(call.item)
    hold: int = 1_000_000
    calls: list[Call] = field(default_factory=list)
    most_at_a_time: int = 0
    port: int = 0
    _now: int = 0
    _released: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def items(self) -> list[str]:
        return [call.item for call in self.calls]

    def release(self) -> None:
        self._released.set()

    async def answer(self, request: Request) -> JSONResponse:
        call = Call(await request.json(), request.headers.get("authorization", ""))
        self.calls.append(call)
        number = len(self.calls)
        self._now += 1
        self.most_at_a_time = max(self.most_at_a_time, self._now)
        try:
            for _ in range(3):  # lets calls in that are on their way
                await asyncio.sleep(0)
            if number > self.hold:
                await asyncio.to_thread(self._released.wait, PATIENCE)
            return self._response(call)
        finally:
            self._now -= 1

    def _response(self, call: Call) -> JSONResponse:
        said = self.say(call)
        if isinstance(said, int):
            error = {"message": f"no, {call.authorization}", "type": "x", "code": None}
            # The pause that the client is told to make before it tries again.
            return JSONResponse({"error": error}, said, headers={"retry-after-ms": "1"})
        message = {"role": "assistant", "content": said}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 200, "completion_tokens": 50, "total_tokens": 250}
        whole = {"id": "1", "object": "chat.completion", "created": 0, "model": "fake"}
        return JSONResponse(whole | {"choices": [choice], "usage": usage})


@contextmanager
def serving(endpoint: FakeEndpoint) -> Iterator[FakeEndpoint]:
    """Runs the server on a free port, in a thread."""
    route = Route("/v1/chat/completions", endpoint.answer, methods=["POST"])
    config = uvicorn.Config(
        Starlette(routes=[route]), port=0, log_config=None, timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started, "the endpoint")
    endpoint.port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield endpoint
    finally:
        endpoint.release()
        server.should_exit = True
        thread.join(PATIENCE)
