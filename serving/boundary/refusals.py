"""Calls that are refused before anything of them is read, at the least cost.

They are counted in the log rather than logged one by one: whoever sends many fills no disk.
"""

import time
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, NoReturn

import grpc
import structlog
from grpc_status import rpc_status

from core.errors import ResourceExhausted, StatusCode, TandemError
from serving.boundary.grpc_types import Context, Handler
from serving.boundary.status import to_status
from serving.telemetry.calls import ServedCalls
from serving.telemetry.request_id import REQUEST_ID_HEADER, is_acceptable

log = structlog.get_logger()

LOG_SECONDS: Final = 1.0
_STEPS_PER_SECOND: Final = 100
"""Delays are rounded up to hundredths, so that few refusals are different."""


class Refusals:
    """Refuses calls, and tells of them once a second.

    Args:
        event: what the line in the log is called.
        calls: is told of each.
        clock: in seconds.
    """

    def __init__(
        self, event: str, calls: ServedCalls, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._event = event
        self._calls = calls
        self._clock = clock
        self._refused: Counter[str] = Counter()
        self._next_line = 0.0

    def handler(self, method: str, error: TandemError) -> Handler:
        """What answers a call with an error.

        gRPC does not wait for a request that is said to be a stream, and a refusal needs none.

        Args:
            method: by its full name.
            error: that says why; by its reason calls are counted.
        """

        async def refuse(_: object, context: Context) -> NoReturn:
            await self.refuse(method, error, context)

        return grpc.stream_unary_rpc_method_handler(refuse)

    async def refuse(self, method: str, error: TandemError, context: Context) -> NoReturn:
        """Ends a call with an error, as `handler` does."""
        delay = error.retry_after if isinstance(error, ResourceExhausted) else 0.0
        steps = int(delay * _STEPS_PER_SECOND) + 1
        status = _status(error.code, error.message, error.reason, steps)
        self._count(error.reason)
        metadata = dict(context.invocation_metadata() or ())
        self._calls.refused(method, metadata, error.code.name, error.reason)
        sent = metadata.get(REQUEST_ID_HEADER)
        named = ((REQUEST_ID_HEADER, sent),) if is_acceptable(sent) else ()
        await context.abort(status.code, status.details, (*status.trailing_metadata, *named))

    def _count(self, reason: str) -> None:
        self._refused[reason] += 1
        if self._clock() >= self._next_line:
            calls = self._refused.total()
            log.warning(self._event, calls=calls, reasons=dict(self._refused))
            self._refused.clear()
            self._next_line = self._clock() + LOG_SECONDS


@lru_cache(1024)
def _status(code: StatusCode, message: str, reason: str, hundredths: int) -> Any:
    if code is StatusCode.RESOURCE_EXHAUSTED:
        seconds = hundredths / _STEPS_PER_SECOND
        error: TandemError = ResourceExhausted(message, reason=reason, retry_after=seconds)
    else:
        error = TandemError(message, reason=reason)
        error.code = code
    return rpc_status.to_status(to_status(error))
