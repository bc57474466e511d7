"""What every request goes through before it is answered: its bounds, and what goes with answers."""

import asyncio
import re
import time
from collections.abc import Collection
from typing import Final

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from console.api.rest import error_response
from console.calls.failures import refused
from core.errors import InvalidArgument, PermissionDenied, ResourceExhausted, TandemError
from serving.telemetry.request_id import REQUEST_ID_HEADER, accept_request_id, request_id

log = structlog.get_logger()

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
HEADERS: Final = {
    # Nothing of another host, nothing in line, nobody's frame: what an item's title says is text.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
"""Of every answer."""
_HEALTH: Final = "/healthz"


class Limits:
    """Refuses what is too much or comes by another name, and gives answers their headers.

    Args:
        application: what answers.
        max_bytes: of a body, whether its length is announced or not.
        max_requests: in flight.
        body_seconds: within which a body must have come.
        hosts: that the console is called by; empty for any. On the loopback, where whoever calls
            may be trusted, a page elsewhere could otherwise give its own name this address.
    """

    def __init__(
        self,
        application: ASGIApp,
        *,
        max_bytes: int,
        max_requests: int,
        body_seconds: float,
        hosts: Collection[str] = (),
    ) -> None:
        self._application = application
        self._max_bytes = max_bytes
        self._max_requests = max_requests
        self._body_seconds = body_seconds
        self._hosts = {host.lower() for host in hosts}
        self.in_flight = 0
        """Requests that are being answered."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or refuses it."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return

        begun, own = time.monotonic(), _name(scope)
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in {**HEADERS, REQUEST_ID_HEADER: own}.items():
                    headers.setdefault(name, value)
            await send(message)

        self.in_flight += 1
        try:
            self._check(scope)
            await self._bounded(scope, receive, answer)
        except TandemError as error:
            await error_response(refused(error))(scope, receive, answer)
        finally:
            self.in_flight -= 1
            if scope["path"] != _HEALTH:
                took = round((time.monotonic() - begun) * 1e3, 3)
                shown = _shown(scope["path"])
                log.info("request", method=scope["method"], path=shown, status=status, ms=took)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        host = headers.get("host", "").lower()
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if self._hosts and name not in self._hosts and scope["path"] != _HEALTH:
            raise PermissionDenied(
                f"the console is not called {name!r} (--hosts)", reason="UNKNOWN_HOST"
            )
        if self.in_flight > self._max_requests and scope["path"] != _HEALTH:
            raise ResourceExhausted("too many requests", reason="TOO_MANY_CALLS", retry_after=1.0)
        announced = headers.get("content-length", "0")
        if announced.isdecimal() and int(announced[:20]) > self._max_bytes:
            raise _too_large(self._max_bytes)

    async def _bounded(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = _Body(receive, self._max_bytes, self._body_seconds)
        started = False

        async def pass_on(message: Message) -> None:
            nonlocal started
            if body.failure is None:  # else whatever answers made its own of it
                started = True
                await send(message)

        try:
            await self._application(scope, body, pass_on)
        except Exception:
            if body.failure is None:
                raise
        if body.failure is not None and not started:
            await error_response(refused(body.failure))(scope, receive, send)


class _Body:
    """What a request is received by: so many bytes, and until then.

    Attributes:
        failure: what was wrong with it, once something was.
    """

    def __init__(self, receive: Receive, max_bytes: int, seconds: float) -> None:
        self.failure: InvalidArgument | None = None
        self._receive = receive
        self._max_bytes = self._left = max_bytes
        self._until = asyncio.get_running_loop().time() + seconds
        self._whole = False

    async def __call__(self) -> Message:
        if self._whole:  # what is still to come is that the other side goes away
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError:
            self.failure = InvalidArgument("the body did not come in time", reason="BODY_TOO_LATE")
            raise self.failure from None
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            self.failure = _too_large(self._max_bytes)
            raise self.failure
        self._whole = not message.get("more_body", False)
        return message


def _too_large(limit: int) -> InvalidArgument:
    return InvalidArgument(f"the body is over {limit} bytes", reason="BODY_TOO_LARGE")


def _name(scope: Scope) -> str:
    """Gives a request its id, where it brings none that may go on."""
    headers = MutableHeaders(scope=scope)
    headers[REQUEST_ID_HEADER] = accept_request_id(headers.get(REQUEST_ID_HEADER))
    request_id.set(headers[REQUEST_ID_HEADER])
    return headers[REQUEST_ID_HEADER]


def _shown(path: str) -> str:
    """A path without the identifiers that may be in it: logs say nothing of users."""
    return re.sub(r"^(/v1/[^/]{1,40}/).*", r"\1…", path, flags=re.DOTALL)[:80]
