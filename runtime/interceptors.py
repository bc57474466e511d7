"""What surrounds every RPC: the request id, the mapping of errors to codes, and the access log."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, TypeAlias, cast

import grpc
import structlog
from grpc_status import rpc_status

from runtime.errors import DeadlineExceeded, TandemError, to_status
from runtime.telemetry import REQUEST_ID_HEADER, accept_request_id, request_id

log = structlog.get_logger()

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Continuation = Callable[[grpc.HandlerCallDetails], Awaitable["Handler | None"]]
Behavior = Callable[[Any, "grpc.aio.ServicerContext[Any, Any]"], Awaitable[Any]]


class Boundary(grpc.aio.ServerInterceptor):
    """The one place where an exception becomes a status.

    A `TandemError` is sent as its canonical code with `google.rpc.ErrorInfo`. Anything else is a
    defect: it is logged with its trace and sent as INTERNAL without its text, which may hold what
    callers must not see.
    """

    async def intercept_service(
        self,
        continuation: Continuation,
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "Handler | None":
        """Wraps unary handlers; health and reflection streams pass through."""
        handler = await continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:
            return handler
        method = handler_call_details.method
        if not method.startswith("/tandem."):
            return handler  # health checks come every second: they would drown the access log
        return grpc.unary_unary_rpc_method_handler(
            _guard(method, cast("Behavior", handler.unary_unary)),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )


def _guard(method: str, behavior: Behavior) -> Behavior:
    async def guarded(request: Any, context: "grpc.aio.ServicerContext[Any, Any]") -> Any:
        started = time.perf_counter()
        metadata = dict(context.invocation_metadata() or ())
        sent = metadata.get(REQUEST_ID_HEADER)
        request_id.set(accept_request_id(sent if isinstance(sent, str) else None))
        context.set_trailing_metadata(((REQUEST_ID_HEADER, request_id.get()),))
        code = grpc.StatusCode.OK
        reason = ""
        try:
            return await behavior(request, context)
        except TandemError as error:
            code, reason = error.code, error.reason
            await _abort(context, error)
        except TimeoutError:
            code, reason = grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"
            await _abort(context, DeadlineExceeded("the call's deadline passed", reason=reason))
        except asyncio.CancelledError:
            code = grpc.StatusCode.CANCELLED
            raise
        except Exception:
            code, reason = grpc.StatusCode.INTERNAL, "INTERNAL"
            log.exception("defect", method=method)
            await context.abort(code, "internal error; see the server's log for this request id")
        finally:
            log.info(
                "call",
                method=method,
                code=code.name,
                reason=reason or None,
                ms=round((time.perf_counter() - started) * 1e3, 3),
            )

    return guarded


async def _abort(context: "grpc.aio.ServicerContext[Any, Any]", error: TandemError) -> NoReturn:
    status = rpc_status.to_status(to_status(error))
    await context.abort(
        status.code,
        status.details,
        (*status.trailing_metadata, (REQUEST_ID_HEADER, request_id.get())),
    )
