"""Load shedding: calls that a servicer has no time for, refused at the least cost.

A server that is asked for several times what it can do spends its time on refusals. So they are
decided before anything is read, are written once for many calls, and are counted in the log rather
than logged one by one.
"""

import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, NoReturn, Protocol, runtime_checkable

import grpc
import structlog
from grpc_status import rpc_status

from core.errors import ResourceExhausted
from serving.boundary.grpc_types import Context, Handler
from serving.boundary.status import to_status
from serving.telemetry.calls import ServedCalls
from serving.telemetry.request_id import REQUEST_ID_HEADER, is_acceptable

log = structlog.get_logger()

LOG_SECONDS: Final = 1.0
_STEPS_PER_SECOND: Final = 100
"""Delays are rounded up to hundredths, so that few refusals are different."""


@runtime_checkable
class Backpressure(Protocol):
    """A servicer that knows when it has too much to do."""

    def retry_after(self, method: str) -> float | None:
        """Is asked of every call, before its message is read.

        Args:
            method: of the protobuf service, such as `Recommend`.

        Returns:
            The seconds after which to try again; None to let the call in.
        """


def overloaded(seconds: float) -> ResourceExhausted:
    """What a call is told that would have to wait too long.

    Args:
        seconds: after which to try again.
    """
    return ResourceExhausted(
        "the server has as many calls as it can answer in time",
        reason="OVERLOADED",
        retry_after=seconds,
    )


class Shedder:
    """Asks a servicer, once there is one, and refuses calls for it.

    Args:
        calls: is told of every refusal.
        clock: tells the time in seconds.
    """

    def __init__(self, calls: ServedCalls, clock: Callable[[], float] = time.monotonic) -> None:
        self._servicer: Backpressure | None = None
        self._calls = calls
        self._clock = clock
        self._refused = 0
        self._next_line = 0.0

    def consult(self, servicer: object) -> None:
        """Makes it ask a servicer from now on, if that is one to ask."""
        self._servicer = servicer if isinstance(servicer, Backpressure) else None

    def refusal(self, method: str) -> "Handler | None":
        """What answers a call that the servicer has no time for; None for one that it has.

        gRPC does not wait for a request that is said to be a stream, and a refusal needs none.

        Args:
            method: by its full name, such as `/tandem.v1.RecommendationService/Recommend`.
        """
        if self._servicer is None:
            return None
        seconds = self._servicer.retry_after(method.rpartition("/")[2])
        if seconds is None:
            return None

        async def refuse(_: object, context: Context) -> NoReturn:
            await self._refuse(method, context, seconds)

        return grpc.stream_unary_rpc_method_handler(refuse)

    async def _refuse(self, method: str, context: Context, seconds: float) -> NoReturn:
        metadata = dict(context.invocation_metadata() or ())
        self._calls.refused(method, metadata, "RESOURCE_EXHAUSTED", "OVERLOADED")
        self._refused += 1
        if self._clock() >= self._next_line:
            log.warning("calls refused", calls=self._refused)
            self._refused, self._next_line = 0, self._clock() + LOG_SECONDS
        status = _status(int(seconds * _STEPS_PER_SECOND) + 1)
        sent = metadata.get(REQUEST_ID_HEADER)
        named = ((REQUEST_ID_HEADER, sent),) if is_acceptable(sent) else ()
        await context.abort(status.code, status.details, (*status.trailing_metadata, *named))


@lru_cache(1024)
def _status(hundredths: int) -> Any:
    return rpc_status.to_status(to_status(overloaded(hundredths / _STEPS_PER_SECOND)))
