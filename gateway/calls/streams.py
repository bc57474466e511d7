"""Streams of answers as calls: what fails before the first message is tried again, as any call.

What follows is the stream of the target that sent it. It cannot be tried again, because the caller
has read its beginning, and another target need not go on in the same words.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any, Generic, TypeVar

import grpc

from gateway.calls.attempts import Versioned
from gateway.calls.failures import translate
from tandem import errors

R = TypeVar("R", bound=Versioned)


class Begun(Generic[R]):
    """A stream whose first message has come.

    Args:
        first: that message.
        call: whose stream it is.
    """

    def __init__(self, first: R, call: "grpc.aio.UnaryStreamCall[Any, R]") -> None:
        self._first = first
        self._call = call

    @property
    def bundle_version(self) -> str:
        """Of the bundle that answers."""
        return self._first.bundle_version

    @property
    def catalog_sequence(self) -> int:
        """Of the last change of the catalog that answers."""
        return self._first.catalog_sequence

    async def messages(self, service: str) -> AsyncGenerator[R, None]:
        """All messages, the first one too; the call ends with the iteration.

        Args:
            service: its name in errors.

        Raises:
            TandemError: the stream broke; see `translate`.
        """
        try:
            message: Any = self._first
            while message is not grpc.aio.EOF:
                yield message
                message = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise translate(errors.from_rpc(error), service) from error
        finally:
            self._call.cancel()


def beginning(method: Callable[[Any], Any]) -> Any:
    """A method that streams, as one for `Caller.call` that answers with its `Begun` stream.

    Args:
        method: takes it from a stub.
    """

    def of(stub: Any) -> Callable[..., Any]:
        async def begin(
            request: Any,
            *,
            timeout: float,  # noqa: ASYNC109 - it is sent with the call
            metadata: Sequence[tuple[str, str]],
        ) -> Begun[Any]:
            call = method(stub)(request, timeout=timeout, metadata=metadata)
            first: Any = await call.read()
            return Begun(first, call)

        return begin

    return of
