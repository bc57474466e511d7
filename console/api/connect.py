"""Connect (https://connectrpc.com) and gRPC-Web, at the RPCs' own paths.

All that knows the library is here: it has no version 1 yet.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

from connectrpc.code import Code
from connectrpc.compat import google_protobuf_binary_codec, google_protobuf_json_codec
from connectrpc.errors import ConnectError, ErrorDetail
from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from connectrpc.request import RequestContext
from connectrpc.server import ConnectASGIApplication, Endpoint
from protobuf.wkt import Any as Packed
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from console.calls.contract import RPCS, Rpc
from console.calls.failures import CallFailedError
from console.calls.upstreams import Upstreams

_CODES: Final = {code.name: code for code in Code} | {"CANCELLED": Code.CANCELED}


class ConnectApi:
    """An ASGI application that answers every RPC of the contract.

    Args:
        upstreams: that calls are passed on to.
        max_bytes: of a request.
    """

    def __init__(self, upstreams: Upstreams, max_bytes: int) -> None:
        self._upstreams = upstreams
        self._application = _Application(
            service=None,
            endpoints=lambda _: {path: self._endpoint(rpc) for path, rpc in RPCS.items()},
            read_max_bytes=max_bytes,
            compressions=(),  # a small body could be a very large one
            codecs=[
                google_protobuf_binary_codec(),
                google_protobuf_json_codec(ignore_unknown_fields=False),
            ],
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        content_type = dict(scope["headers"]).get(b"content-type", b"").lower()
        if content_type.split(b";")[0].strip() in _PLAIN_GRPC:
            refusal = Response("gRPC itself is spoken by the gateway", status_code=415)
            await refusal(scope, receive, send)
            return
        await self._application(scope, receive, send)

    def _endpoint(self, rpc: Rpc) -> Any:
        method: MethodInfo[Any, Any] = MethodInfo(
            name=rpc.name,
            service_name=rpc.service,
            input=rpc.request,
            output=rpc.answer,
            idempotency_level=IdempotencyLevel.UNKNOWN,
            stream_type=StreamType.SERVER_STREAM if rpc.streams else StreamType.UNARY,
        )
        if rpc.streams:
            return Endpoint.server_stream(method, self._several(rpc))
        return Endpoint.unary(method, self._single(rpc))

    def _single(self, rpc: Rpc) -> Callable[[Any, Any], Awaitable[Any]]:
        async def answer(request: Any, context: "RequestContext[Any, Any]") -> Any:
            try:
                return await self._upstreams.call(
                    rpc, request, context.request_headers, _seconds(context)
                )
            except CallFailedError as failure:
                raise _as_connect(failure, context) from None

        return answer

    def _several(self, rpc: Rpc) -> Callable[[Any, Any], AsyncIterator[Any]]:
        async def answer(request: Any, context: "RequestContext[Any, Any]") -> AsyncIterator[Any]:
            try:
                async for each in self._upstreams.stream(
                    rpc, request, context.request_headers, _seconds(context)
                ):
                    yield each
            except CallFailedError as failure:
                raise _as_connect(failure, context) from None

        return answer


class _Application(ConnectASGIApplication[None]):
    """The library's application, whose paths are whole."""

    @property
    def path(self) -> str:
        return ""


_PLAIN_GRPC: Final = (b"application/grpc", b"application/grpc+proto", b"application/grpc+json")


def _seconds(context: "RequestContext[Any, Any]") -> float | None:
    left = context.timeout_ms
    return None if left is None else max(0.0, left / 1e3)


def _as_connect(failure: CallFailedError, context: "RequestContext[Any, Any]") -> ConnectError:
    for name, value in failure.headers().items():
        context.response_headers[name] = value
    details = [
        ErrorDetail(Packed(type_url=detail.type_url, value=detail.value))
        for detail in failure.status.details
    ]
    code = _CODES.get(failure.error.code.name, Code.UNKNOWN)
    return ConnectError(code, failure.status.message, details)
