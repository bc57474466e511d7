"""What surrounds every RPC: request id, admission, parsing, errors to codes, and telemetry."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, Final, NoReturn, cast

import grpc
import structlog
from grpc_status import rpc_status

from core.errors import DeadlineExceeded, InvalidArgument, TandemError
from serving.boundary.certified import admitting
from serving.boundary.grpc_types import Context, Continuation, Handler, Method
from serving.boundary.in_flight import InFlight
from serving.boundary.parsing import StreamedRequests, parse
from serving.boundary.refusals import Refusals
from serving.boundary.shedding import Shedder
from serving.boundary.status import to_status
from serving.deadline import adopt_deadline
from serving.frames import release_frames
from serving.security.audit import audited
from serving.security.guard import Guard, caller, owner_of
from serving.telemetry.calls import UNKNOWN_METHOD, ServedCalls
from serving.telemetry.request_id import REQUEST_ID_HEADER, accept_request_id, request_id
from tandem.channel import MAX_ANSWER_BYTES

log = structlog.get_logger()

OWN: Final = "/tandem."
"""What Tandem's own RPCs begin with."""


class Boundary(grpc.aio.ServerInterceptor):
    """The one place where a call enters and where an exception becomes a status.

    A `TandemError` is sent as its canonical code with `google.rpc.ErrorInfo`. Anything else is a
    defect: it is logged with its trace and sent as INTERNAL without its text, which may hold what
    callers must not see.

    Args:
        max_concurrent: calls in flight above which new ones are refused.
        guard: decides who may call; by default whoever reaches the server.
        calls: is told of every call.
    """

    def __init__(
        self, max_concurrent: int, *, guard: Guard | None = None, calls: ServedCalls | None = None
    ) -> None:
        self.in_flight = InFlight(max_concurrent)
        self._calls = calls or ServedCalls()
        self.shedder = Shedder(self._calls)
        self._guard = guard or Guard()
        self._refusals = Refusals("calls not let in", self._calls)
        self._handlers: dict[str, Handler] = {}

    async def intercept_service(
        self,
        continuation: Continuation,
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "Handler | None":
        """Asks the guard, wraps Tandem's handlers, and sheds; health and reflection pass through.

        Health checks come every second, and would drown the access log.
        """
        method = handler_call_details.method
        try:
            await self._guard.admit(method, handler_call_details.invocation_metadata or ())
        except TandemError as error:
            if await continuation(handler_call_details) is None:
                self._note_unknown(handler_call_details)
                return None
            self._calls.know(method)
            return self._refusals.handler(method, error)
        if not method.startswith(OWN):
            return self._foreign(method, await continuation(handler_call_details))
        if method not in self._handlers:
            handler = await continuation(handler_call_details)
            if handler is None:
                self._note_unknown(handler_call_details)
                return None
            self._calls.know(method)
            self._handlers[method] = self._wrapped(method, handler)
        if self.in_flight.draining.is_set():
            return self._handlers[method]
        return self.shedder.refusal(method) or self._handlers[method]

    def _note_unknown(self, details: grpc.HandlerCallDetails) -> None:
        sent = dict(details.invocation_metadata or ())
        self._calls.refused(UNKNOWN_METHOD, sent, "UNIMPLEMENTED")

    def _foreign(self, method: str, handler: "Handler | None") -> "Handler | None":
        """The handler of an RPC of gRPC's own, which certificates are asked for as well."""
        if handler is None or caller.get() is not None:
            return handler

        async def admit(context: Context) -> None:
            try:
                await self._guard.admit_certified(method, context.auth_context)
            except TandemError as error:
                self._calls.know(method)
                await self._refusals.refuse(method, error, context)

        return admitting(handler, admit)

    def _wrapped(self, method: str, handler: Handler) -> Handler:
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(self._single(method, handler))
        if handler.unary_stream is not None:
            return grpc.unary_stream_rpc_method_handler(self._stream(method, handler))
        if handler.stream_stream is not None:
            return grpc.stream_stream_rpc_method_handler(self._conversation(method, handler))
        return handler

    def _single(self, method: str, handler: Handler) -> Method:
        """One request, one answer."""
        call, read, write = _parts(handler, handler.unary_unary)

        async def answer(raw: bytes, context: Context) -> bytes:
            await self.in_flight.enter(context)
            message = parse(raw, read)
            with audited(method, message):
                return _bounded(write(await call(message, context)))

        return self._surrounded(method, answer)

    def _stream(self, method: str, handler: Handler) -> Method:
        """One request, many answers."""
        call, read, write = _parts(handler, handler.unary_stream)

        async def answer(raw: bytes, context: Context) -> None:
            async with (
                self.in_flight.stream(owner_of(context.peer())),
                aclosing(call(parse(raw, read), context)) as messages,
            ):
                while (message := await self.in_flight.next_answer(messages)) is not None:
                    await context.write(write(message))

        return self._surrounded(method, answer)

    def _conversation(self, method: str, handler: Handler) -> Method:
        """Many requests, many answers."""
        call, read, write = _parts(handler, handler.stream_stream)

        async def answer(_: object, context: Context) -> None:
            await self.in_flight.converse(context, owner_of(context.peer()))
            requests = StreamedRequests(context, read, self.in_flight.draining)
            async with aclosing(call(aiter(requests), context)) as messages:
                async for message in messages:
                    await context.write(write(message))
            if requests.cut_off:
                await self.in_flight.refuse_while_draining()

        return self._surrounded(method, answer)

    def _surrounded(self, method: str, answer: Callable[[Any, Context], Awaitable[Any]]) -> Method:
        """Gives a call its request id and its canonical code, and tells of it."""

        async def surrounded(raw: Any, context: Context) -> Any:
            metadata = dict(context.invocation_metadata() or ())
            _adopt_request_id(context, metadata)
            adopt_deadline(context.time_remaining())
            with self._calls.served(method, metadata) as call:
                try:
                    await self._guard.admit_certified(method, context.auth_context)
                    return await answer(raw, context)
                except asyncio.CancelledError:
                    late = context.time_remaining() == 0
                    call.failed("DEADLINE_EXCEEDED" if late else "CANCELLED")
                    raise
                except Exception as error:  # noqa: BLE001 - this is where all of them end
                    failure = classify(error, method)
                    call.failed(failure.code.name, failure.reason)
                    release_frames(error)
                    await _abort(context, failure)

        return surrounded


def _parts(
    handler: Handler, method: object
) -> tuple[Method, Callable[[bytes], Any], Callable[[Any], bytes]]:
    """A handler's method, what reads its requests, and what writes its answers."""
    return (
        cast("Method", method),
        cast("Callable[[bytes], Any]", handler.request_deserializer),
        cast("Callable[[Any], bytes]", handler.response_serializer),
    )


def _bounded(answer: bytes) -> bytes:
    """Refuses an answer that no client takes: its caller would hear of gRPC's limits alone.

    Raises:
        InvalidArgument: reason ANSWER_TOO_LARGE. The request is to blame, for it asks for so much.
    """
    if len(answer) > MAX_ANSWER_BYTES:
        raise InvalidArgument(
            f"the answer would have {len(answer)} bytes, over {MAX_ANSWER_BYTES}; "
            "ask for fewer items at a time",
            reason="ANSWER_TOO_LARGE",
        )
    return answer


def _adopt_request_id(context: Context, metadata: Mapping[str, Any]) -> None:
    sent = metadata.get(REQUEST_ID_HEADER)
    request_id.set(accept_request_id(sent if isinstance(sent, str) else None))
    context.set_trailing_metadata(((REQUEST_ID_HEADER, request_id.get()),))


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
