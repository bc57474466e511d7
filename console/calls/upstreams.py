"""The processes behind the console, and one way to call each.

A call has the caller's credentials and no others: the console has no rights of its own, so nobody
gets any by coming through it.
"""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import grpc
from google.protobuf.message import Message

from console.calls.contract import RPCS, Process, Rpc
from console.calls.exposure import Exposure
from console.calls.failures import failure_of, refused
from console.calls.headers import AUTHORIZATION, Metadata, metadata_of
from core.errors import DeadlineExceeded, TandemError, Unauthenticated, Unavailable
from serving.security.links import Link
from serving.telemetry.request_id import REQUEST_ID_HEADER
from tandem.channel import channel_options

SERVICES: Final[Mapping[Process, list[str]]] = {
    process: sorted({rpc.service for rpc in RPCS.values() if rpc.process == process})
    for process in ("gateway", "candidate", "generator")
}


@dataclass(frozen=True)
class Deadlines:
    """How long calls may take, in seconds."""

    default: float = 5.0
    """Of those that do not say."""
    longest: float = 30.0
    """Whatever they say."""

    def of(self, asked: float | None) -> float:
        """That of a call.

        Raises:
            DeadlineExceeded: it has none left.
        """
        seconds = min(self.default if asked is None else asked, self.longest)
        if seconds <= 0:
            raise DeadlineExceeded("the call's deadline passed", reason="DEADLINE_EXCEEDED")
        return seconds


class Upstreams:
    """Calls of the processes behind.

    Args:
        targets: their addresses; a process that is not here is not called.
        link: how they are connected to.
        deadlines: of calls.
        certified: whether the console shows a certificate, by which it would itself be somebody:
            then calls without credentials do not go on.
        exposed: whether others than this machine reach the console.
    """

    def __init__(
        self,
        targets: Mapping[Process, str],
        link: Link,
        deadlines: Deadlines,
        *,
        certified: bool = False,
        exposed: bool = False,
    ) -> None:
        self._targets = targets
        self._link = link
        self._deadlines = deadlines
        self._certified = certified
        self._exposure = Exposure() if exposed else None
        self._channels: dict[Process, tuple[int, grpc.aio.Channel]] = {}

    def reaches(self, process: Process) -> bool:
        """Whether its address is known."""
        return process in self._targets

    async def close(self) -> None:
        """Closes the connections; calls in flight are cancelled."""
        for _, channel in self._channels.values():
            await channel.close()

    async def call(
        self, rpc: Rpc, request: Message, headers: Mapping[str, str], seconds: float | None = None
    ) -> Any:
        """Makes a call that has one answer.

        Args:
            rpc: what is called.
            request: its message.
            headers: of the HTTP request that asks for it.
            seconds: that it may take; the default for None, and no more than the longest.

        Raises:
            CallFailedError: it was not answered.
        """
        metadata = metadata_of(headers)
        with _read(rpc, metadata):
            timeout = self._deadlines.of(seconds)
            method = await self._method(rpc, metadata)
            return await method(request, metadata=metadata, timeout=timeout)

    async def stream(
        self, rpc: Rpc, request: Message, headers: Mapping[str, str], seconds: float | None = None
    ) -> AsyncIterator[Any]:
        """Makes a call that has several answers; as `call`."""
        metadata = metadata_of(headers)
        with _read(rpc, metadata):
            timeout = self._deadlines.of(seconds)
            method = await self._method(rpc, metadata)
            async for answer in method(request, metadata=metadata, timeout=timeout):
                yield answer

    async def _method(self, rpc: Rpc, metadata: Metadata) -> Any:
        if not self.reaches(rpc.process):
            raise Unavailable(
                f"the console was told no address of a {rpc.process} (--{rpc.process})",
                reason="SERVICE_UNAVAILABLE",
                service=rpc.process,
            )
        if self._certified and AUTHORIZATION not in dict(metadata):
            raise Unauthenticated("show a key or a token", reason="NO_CREDENTIALS")
        channel = await self._channel(rpc.process)
        if self._exposure is not None:
            await self._exposure.check(rpc.path, rpc.process, channel)
        make: Any = channel.unary_stream if rpc.streams else channel.unary_unary
        return make(rpc.path, rpc.request.SerializeToString, rpc.answer.FromString)

    async def _channel(self, process: Process) -> grpc.aio.Channel:
        """The connection, made anew for newer certificates."""
        generation, channel = self._channels.get(process, (-1, None))
        if channel is None or generation != self._link.generation:
            self._channels[process] = (
                self._link.generation,
                self._link.open(self._targets[process], channel_options(SERVICES[process])),
            )
            if channel is not None:
                await channel.close(self._deadlines.longest)
        return self._channels[process][1]


@contextmanager
def _read(rpc: Rpc, metadata: Metadata) -> Iterator[None]:
    """Makes a `CallFailedError` of whatever a call fails with."""
    request_id = dict(metadata)[REQUEST_ID_HEADER]
    try:
        yield
    except grpc.RpcError as error:
        raise failure_of(error, rpc.process, request_id) from None
    except TandemError as error:
        raise refused(error, request_id) from None
