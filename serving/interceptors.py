"""What surrounds every RPC: request id, parsing, admission, errors to codes, and the access log."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Final, NoReturn, TypeAlias, cast

import grpc
import structlog
from google.protobuf.message import DecodeError
from grpc_status import rpc_status

from core.errors import (
    DeadlineExceeded,
    InvalidArgument,
    ResourceExhausted,
    TandemError,
    Unavailable,
)
from serving.shedding import Shedder
from serving.status import to_status
from serving.telemetry import REQUEST_ID_HEADER, accept_request_id, request_id

log = structlog.get_logger()

HUSH_SECONDS: Final = 0.05
"""Long enough for an event loop that keeps up to take up every call that gRPC has received."""
LONGEST_HUSH_SECONDS: Final = 1.0
_STEP_SECONDS: Final = 0.01

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Continuation = Callable[[grpc.HandlerCallDetails], Awaitable["Handler | None"]]
Behavior = Callable[[Any, Context], Any]
"""Answers with an awaitable of a message, or with an asynchronous generator of several.

It is given a message, or an asynchronous iterator of those that its caller streams.
"""


class Boundary(grpc.aio.ServerInterceptor):
    """The one place where a call enters and where an exception becomes a status.

    - A `TandemError` is sent as its canonical code with `google.rpc.ErrorInfo`. Anything else is a
      defect: it is logged with its trace and sent as INTERNAL without its text, which may hold
      what callers must not see.
    - Messages are parsed here rather than by gRPC, which answers bytes that are no message with
      INTERNAL: they are the caller's mistake.
    - Calls are shed with a retry hint: those that the servicer has no time for, and all above a
      limit. gRPC's own `maximum_concurrent_rpcs` would shed health checks too, so that a busy
      server would be restarted.
    - Once the server drains, new calls are refused here: see `drain` and `hush`.
    - Streams of answers to one request have no end that a drain could wait for: it ends them, with
      UNAVAILABLE, so that whoever listens goes on elsewhere. They have a limit of their own, of the
      same height. Where requests are streamed too, a drain ends the requests and waits, so that
      what was taken is answered, and the rest is for another server.
    """

    def __init__(self, max_concurrent: int) -> None:
        self.shedder = Shedder()
        self._max_concurrent = max_concurrent
        self._in_flight = 0
        self._streams = 0
        self._listening: set[asyncio.Task[Any]] = set()
        """Streams that wait for something to send. A drain cuts off the wait, never the sending:
        gRPC cannot end a call in the middle of a message."""
        self._draining = asyncio.Event()
        self._may_refuse = asyncio.Event()
        self._may_refuse.set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._handlers: dict[str, Handler] = {}

    async def drain(self) -> None:
        """Refuses new calls, ends streams, and waits until calls in flight are answered."""
        self._draining.set()
        for stream in self._listening:
            stream.cancel()
        await self._idle.wait()

    async def hush(self) -> None:
        """Holds refusals back for a moment; the server must be stopped right after.

        When gRPC stops, it ends the calls that it has received but not yet passed on with
        CANCELLED, as if their callers had wanted that; and there are such calls as long as callers
        that are refused try again at once. While they wait for their refusal there are none.
        """
        self._may_refuse.clear()
        loop = asyncio.get_running_loop()
        last, calm = loop.time() + LONGEST_HUSH_SECONDS, 0.0
        while calm < HUSH_SECONDS and loop.time() < last:
            started = loop.time()
            await asyncio.sleep(_STEP_SECONDS)
            kept_up = loop.time() - started < 2 * _STEP_SECONDS
            calm = calm + _STEP_SECONDS if kept_up else 0.0
        self._may_refuse.set()

    async def intercept_service(
        self,
        continuation: Continuation,
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "Handler | None":
        """Wraps Tandem's handlers, and sheds; health and reflection pass through.

        Health checks come every second, and would drown the access log.
        """
        method = handler_call_details.method
        if not method.startswith("/tandem."):
            return await continuation(handler_call_details)
        if method not in self._handlers:
            handler = await continuation(handler_call_details)
            if handler is None:
                return None
            self._handlers[method] = self._wrapped(method, handler)
        return self._refusal(method) or self._handlers[method]

    def _wrapped(self, method: str, handler: Handler) -> Handler:
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(self._guard(method, handler))
        if handler.unary_stream is not None:
            return grpc.unary_stream_rpc_method_handler(self._guard_stream(method, handler))
        if handler.stream_stream is not None:
            return grpc.stream_stream_rpc_method_handler(self._guard_conversation(method, handler))
        return handler

    def _guard(self, method: str, handler: Handler) -> Behavior:
        behavior = cast("Behavior", handler.unary_unary)
        parse = cast("Callable[[bytes], Any]", handler.request_deserializer)
        serialize = cast("Callable[[Any], bytes]", handler.response_serializer)

        async def answer(raw: bytes, context: Context) -> bytes:
            await self._admit(context)
            return serialize(await behavior(_parse(raw, parse), context))

        return _bounded(method, answer)

    def _refusal(self, method: str) -> "Handler | None":
        """What answers a call that the servicer has no time for; None for one that it has.

        gRPC does not wait for a request that is said to be a stream, and a refusal needs none.
        """
        if self._draining.is_set():
            return None
        wait = self.shedder.wait(method.rpartition("/")[2])
        if wait is None:
            return None

        async def refuse(_: object, context: Context) -> NoReturn:
            await self.shedder.refuse(context, wait)

        return grpc.stream_unary_rpc_method_handler(refuse)

    def _guard_stream(self, method: str, handler: Handler) -> Behavior:
        behavior = cast("Behavior", handler.unary_stream)
        parse = cast("Callable[[bytes], Any]", handler.request_deserializer)
        serialize = cast("Callable[[Any], bytes]", handler.response_serializer)

        async def answer(raw: bytes, context: Context) -> None:
            await self._refuse_while_draining()
            self._refuse_above_limit(self._streams)
            self._streams += 1
            try:
                async with aclosing(behavior(_parse(raw, parse), context)) as messages:
                    while (message := await self._next(messages)) is not None:
                        await context.write(serialize(message))
            finally:
                self._streams -= 1

        return _bounded(method, answer)

    async def _next(self, messages: AsyncIterator[Any]) -> Any:
        """The next message of a stream; None at its end."""
        if self._draining.is_set():
            raise _going_away()
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._listening.add(task)
        try:
            return await anext(messages, None)
        except asyncio.CancelledError:
            if not self._draining.is_set():
                raise
            task.uncancel()
            raise _going_away() from None
        finally:
            self._listening.discard(task)

    def _guard_conversation(self, method: str, handler: Handler) -> Behavior:
        behavior = cast("Behavior", handler.stream_stream)
        parse = cast("Callable[[bytes], Any]", handler.request_deserializer)
        serialize = cast("Callable[[Any], bytes]", handler.response_serializer)

        async def answer(_: object, context: Context) -> None:
            await self._admit(context)
            requests = _Requests(context, parse, self._draining)
            async with aclosing(behavior(aiter(requests), context)) as messages:
                async for message in messages:
                    await context.write(serialize(message))
            if requests.cut_off:
                await self._refuse_while_draining()

        return _bounded(method, answer)

    async def _refuse_while_draining(self) -> None:
        if self._draining.is_set():
            await self._may_refuse.wait()
            raise _going_away()

    def _refuse_above_limit(self, in_flight: int) -> None:
        if in_flight >= self._max_concurrent:
            raise ResourceExhausted(
                f"the server is at its limit of {self._max_concurrent} calls in flight",
                reason="TOO_MANY_CALLS",
            )

    async def _admit(self, context: Context) -> None:
        await self._refuse_while_draining()
        self._refuse_above_limit(self._in_flight)
        self._in_flight += 1
        self._idle.clear()
        # grpc's stubs type the callback as a class of their own, which no function is.
        context.add_done_callback(lambda _: self._leave())  # type: ignore[arg-type]

    def _leave(self) -> None:
        self._in_flight -= 1
        if not self._in_flight:
            self._idle.set()


class _Requests:
    """The requests that a caller streams, until it has no more or the server drains."""

    def __init__(
        self, context: Context, parse: Callable[[bytes], Any], draining: asyncio.Event
    ) -> None:
        self._context = context
        self._parse = parse
        self._draining = draining
        self.cut_off = False
        """Whether the server ended the stream, and not the caller."""

    async def __aiter__(self) -> AsyncIterator[Any]:
        drained = asyncio.ensure_future(self._draining.wait())
        try:
            while True:
                # Never cancelled: gRPC would go on to write into memory that was freed. A read
                # that is left behind ends with the call.
                read = asyncio.ensure_future(self._context.read())
                read.add_done_callback(_forget)
                await asyncio.wait({read, drained}, return_when=asyncio.FIRST_COMPLETED)
                if not read.done():
                    self.cut_off = True
                    return
                raw = await read
                if raw is grpc.aio.EOF:
                    return
                yield _parse(raw, self._parse)
        finally:
            drained.cancel()


def _forget(read: "asyncio.Future[Any]") -> None:
    """Takes an outcome that nobody waits for, which asyncio would complain of otherwise."""
    if not read.cancelled():
        read.exception()


def _bounded(method: str, answer: Callable[[Any, Context], Awaitable[Any]]) -> Behavior:
    """Gives a call its request id, its canonical code and its line in the log."""

    async def bounded(raw: Any, context: Context) -> Any:
        started = time.perf_counter()
        _adopt_request_id(context)
        code, reason = "OK", ""
        try:
            return await answer(raw, context)
        except asyncio.CancelledError:
            late = context.time_remaining() == 0
            code = "DEADLINE_EXCEEDED" if late else "CANCELLED"
            raise
        except Exception as error:  # noqa: BLE001 - this is where all of them end
            failure = classify(error, method)
            code, reason = failure.code.name, failure.reason
            await _abort(context, failure)
        finally:
            ms = round((time.perf_counter() - started) * 1e3, 3)
            log.info("call", method=method, code=code, reason=reason or None, ms=ms)

    return bounded


def _going_away() -> Unavailable:
    return Unavailable("the server is going away; try another", reason="DRAINING")


def _adopt_request_id(context: Context) -> None:
    sent = dict(context.invocation_metadata() or ()).get(REQUEST_ID_HEADER)
    request_id.set(accept_request_id(sent if isinstance(sent, str) else None))
    context.set_trailing_metadata(((REQUEST_ID_HEADER, request_id.get()),))


def _parse(raw: bytes, parse: Callable[[bytes], Any]) -> Any:
    try:
        return parse(raw)
    except DecodeError as error:
        raise InvalidArgument(
            "the request is not a protobuf message of this method's type "
            "(a string that is not UTF-8 has this effect too)",
            reason="MALFORMED_MESSAGE",
        ) from error


def classify(error: Exception, method: str) -> TandemError:
    """What a caller is told of an exception; a defect is logged, and hides its text."""
    if isinstance(error, TandemError):
        return error
    if isinstance(error, TimeoutError):
        return DeadlineExceeded("the call's deadline passed", reason="DEADLINE_EXCEEDED")
    log.error("defect", method=method, exc_info=error)
    return TandemError("internal error; the server's log has this request id", reason="INTERNAL")


async def _abort(context: Context, error: TandemError) -> NoReturn:
    status = rpc_status.to_status(to_status(error))
    await context.abort(
        status.code,
        status.details,
        (*status.trailing_metadata, (REQUEST_ID_HEADER, request_id.get())),
    )
