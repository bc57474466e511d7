"""Turning calls away at the least cost.

A server that is asked for several times what it can do spends its time on refusals. So they are
decided before anything is read, are written once for many calls, and are counted in the log rather
than logged one by one.
"""

import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, NoReturn, Protocol, TypeAlias, runtime_checkable

import grpc
import structlog
from grpc_status import rpc_status

from core.errors import ResourceExhausted
from serving.status import to_status
from serving.telemetry import REQUEST_ID_HEADER

log = structlog.get_logger()

LOG_SECONDS: Final = 1.0
_STEPS_PER_SECOND: Final = 100
"""Delays are rounded up to hundredths, so that few refusals are different."""

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


@runtime_checkable
class Sheds(Protocol):
    """A servicer that knows when it has too much to do."""

    def turns_away(self, method: str) -> float | None:
        """Is asked of every call, before its message is read.

        Args:
            method: of the protobuf service, such as `Recommend`.

        Returns:
            The seconds after which to try again; None to let the call in.
        """


class Shedder:
    """Asks a servicer, once there is one, and refuses calls for it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._asked: Sheds | None = None
        self._clock = clock
        self._refused = 0
        self._next_line = 0.0

    def ask(self, servicer: object) -> None:
        """Makes it ask a servicer from now on, if that is one to ask."""
        self._asked = servicer if isinstance(servicer, Sheds) else None

    def wait(self, method: str) -> float | None:
        """See `Sheds.turns_away`."""
        return self._asked.turns_away(method) if self._asked is not None else None

    async def refuse(self, context: Context, seconds: float) -> NoReturn:
        """Ends a call with RESOURCE_EXHAUSTED, reason OVERLOADED."""
        self._refused += 1
        if self._clock() >= self._next_line:
            log.warning("calls refused", calls=self._refused)
            self._refused, self._next_line = 0, self._clock() + LOG_SECONDS
        status = _refusal(int(seconds * _STEPS_PER_SECOND) + 1)
        sent = [
            pair for pair in context.invocation_metadata() or () if pair[0] == REQUEST_ID_HEADER
        ]
        await context.abort(status.code, status.details, (*status.trailing_metadata, *sent))


@lru_cache(1024)
def _refusal(hundredths: int) -> Any:
    error = ResourceExhausted(
        "the server has as many calls as it can answer in time",
        reason="OVERLOADED",
        retry_after=hundredths / _STEPS_PER_SECOND,
    )
    return rpc_status.to_status(to_status(error))
