"""Handlers that are not Tandem's own, for callers who are known by their certificates alone."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc

from serving.boundary.grpc_types import Context, Handler

Admit = Callable[[Context], Awaitable[None]]


def admitting(handler: Handler, admit: Admit) -> Handler:
    """A handler that first decides whether a call is let in.

    An interceptor of `grpc.aio` does not see certificates; a handler does.

    Args:
        handler: of any RPC, such as one of reflection.
        admit: ends a call that is not let in, by aborting it.
    """
    read, write = handler.request_deserializer, handler.response_serializer
    single: Any = handler.unary_unary or handler.stream_unary
    several: Any = handler.unary_stream or handler.stream_stream

    async def answer(request: Any, context: Context) -> Any:
        await admit(context)
        return await single(request, context)

    async def answers(request: Any, context: Context) -> AsyncIterator[Any]:
        await admit(context)
        async for message in several(request, context):
            yield message

    makers: dict[tuple[bool, bool], Callable[..., Handler]] = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }
    make = makers[handler.request_streaming, handler.response_streaming]
    return make(answers if handler.response_streaming else answer, read, write)
