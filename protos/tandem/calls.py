"""What all clients have: a connection, one way to make a call on it, and one to read a stream."""

from collections.abc import AsyncGenerator, Generator
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc

from tandem.channel import (
    ChannelOptions,
    Secret,
    metadata,
    open_async_channel,
    open_channel,
    with_key,
)
from tandem.errors import from_rpc

Q = TypeVar("Q")
R = TypeVar("R")


class Calls:
    """A connection for sync code.

    Args:
        target: an address.
        options: of the channel.
        timeout: seconds that a call may take unless it says otherwise.
        credentials: of a TLS connection; without them the connection is plain.
        key: to show at each call, or what is asked for it.
    """

    def __init__(
        self,
        target: str,
        options: ChannelOptions,
        timeout: float,
        credentials: grpc.ChannelCredentials | None,
        key: Secret | None,
    ) -> None:
        self._channel = open_channel(target, options, credentials)
        self._keyed = with_key(self._channel, key)
        """For stubs, whose calls show the key."""
        self._timeout = timeout

    def close(self) -> None:
        """Closes the connection; calls in flight are cancelled."""
        self._channel.close()

    def _call(
        self,
        method: "grpc.UnaryUnaryMultiCallable[Q, R]",
        request: Q,
        timeout: float | None,
        request_id: str | None = None,
    ) -> R:
        try:
            return method(
                request,
                timeout=self._timeout if timeout is None else timeout,
                metadata=metadata(request_id),
            )
        except grpc.RpcError as error:
            raise from_rpc(error) from None

    def _stream(
        self,
        method: "grpc.UnaryStreamMultiCallable[Q, R] | grpc.StreamStreamMultiCallable[Q, R]",
        request: Any,
        timeout: float | None,
        request_id: str | None = None,
    ) -> Generator[R, None, None]:
        """The answers to a request, or to an iterator of them; the call, which begins with the
        first, ends with the iteration."""
        call = method(request, timeout=timeout, metadata=metadata(request_id))
        try:
            yield from call
        except grpc.RpcError as error:
            raise from_rpc(error) from None
        finally:
            call.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class AsyncCalls:
    """`Calls` for asyncio. It belongs to the loop that makes it."""

    def __init__(
        self,
        target: str,
        options: ChannelOptions,
        timeout: float,
        credentials: grpc.ChannelCredentials | None,
        key: Secret | None,
    ) -> None:
        self._channel = open_async_channel(target, options, credentials)
        self._keyed = with_key(self._channel, key)
        self._timeout = timeout

    async def close(self) -> None:
        """Closes the connection; calls in flight are cancelled."""
        await self._channel.close()

    async def _call(
        self,
        method: "grpc.aio.UnaryUnaryMultiCallable[Q, R]",
        request: Q,
        timeout: float | None,  # noqa: ASYNC109 - it is sent with the call
        request_id: str | None = None,
    ) -> R:
        try:
            return await method(
                request,
                timeout=self._timeout if timeout is None else timeout,
                metadata=metadata(request_id),
            )
        except grpc.RpcError as error:
            raise from_rpc(error) from None

    async def _stream(
        self,
        method: "grpc.aio.UnaryStreamMultiCallable[Q, R]"
        " | grpc.aio.StreamStreamMultiCallable[Q, R]",
        request: Any,
        timeout: float | None,  # noqa: ASYNC109 - it is sent with the call
        request_id: str | None = None,
    ) -> AsyncGenerator[R, None]:
        call = method(request, timeout=timeout, metadata=metadata(request_id))
        try:
            async for response in call:
                yield response
        except grpc.RpcError as error:
            raise from_rpc(error) from None
        finally:
            call.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()
