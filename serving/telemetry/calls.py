"""What is noted of each call that a server is asked for: a line, counters and a span."""

import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Final

import structlog
from prometheus_client import CollectorRegistry

from serving.telemetry.metrics import NO_REASON, CallMetrics
from serving.telemetry.request_id import request_id
from serving.telemetry.tracing import Position, Tracing, annotate, end_call, here

log = structlog.get_logger()

UNKNOWN_METHOD: Final = "/unknown"
"""Stands for every method that there is not."""


class ServedCall:
    """A call, from its arrival to its end; a block around what serves it."""

    def __init__(self, calls: "ServedCalls", method: str, position: Position) -> None:
        self.method = method
        self.request_id = request_id.get()
        self.started = time.perf_counter()
        self._calls = calls
        self._position = position
        self._code, self._reason = "OK", NO_REASON

    def failed(self, code: str, reason: str = NO_REASON) -> None:
        """Says that it ends with an error."""
        self._code, self._reason = code, reason

    def __enter__(self) -> "ServedCall":
        self._calls.in_hand[self] = None
        self._token = here.set(self._position)
        if self._position.span is not None:
            annotate(request_id=self.request_id)
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        seconds = time.perf_counter() - self.started
        del self._calls.in_hand[self]
        self._calls.metrics.ended(self.method, self._code, self._reason, seconds)
        log.info(
            "call",
            method=self.method,
            code=self._code,
            reason=self._reason or None,
            ms=round(seconds * 1e3, 3),
        )
        here.reset(self._token)
        end_call(self._position, self._code, self._reason)


class ServedCalls:
    """The calls of one server.

    Args:
        registry: of the process's metrics.
        tracing: decides which calls have spans.
    """

    def __init__(
        self, registry: CollectorRegistry | None = None, tracing: Tracing | None = None
    ) -> None:
        self._tracing = tracing or Tracing()
        self.in_hand: dict[ServedCall, None] = {}
        """In the order in which they came."""
        self._methods = {UNKNOWN_METHOD}
        self.metrics = CallMetrics(
            registry or CollectorRegistry(), self._methods, self._methods_in_hand
        )

    def know(self, method: str) -> None:
        """Says that there is a method."""
        self._methods.add(method)

    def served(self, method: str, metadata: Mapping[str, Any]) -> ServedCall:
        """A call of a known method, which is about to be served.

        Args:
            method: by its full name.
            metadata: that came with it.
        """
        return ServedCall(self, method, self._tracing.arrive(method, metadata))

    def refused(
        self, method: str, metadata: Mapping[str, Any], code: str, reason: str = NO_REASON
    ) -> None:
        """Notes a call that was turned away on arrival."""
        self.metrics.refused(method, code, reason)
        end_call(self._tracing.arrive(method, metadata), code, reason)

    def _methods_in_hand(self) -> Iterator[str]:
        return (call.method for call in list(self.in_hand))  # whoever asks is on another thread
