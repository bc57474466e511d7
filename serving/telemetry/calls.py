"""What is noted of each call that a server is asked for: a line, counters, and the time it took."""

import time
from collections.abc import Iterator
from types import TracebackType
from typing import Final

import structlog
from prometheus_client import CollectorRegistry

from serving.telemetry.metrics import NO_REASON, CallMetrics
from serving.telemetry.request_id import request_id

log = structlog.get_logger()

UNKNOWN_METHOD: Final = "unknown"
"""Stands for every method that there is not."""


class ServedCall:
    """A call, from its arrival to its end; a block around what serves it."""

    def __init__(self, calls: "ServedCalls", method: str) -> None:
        self.method = method
        self.request_id = request_id.get()
        self.started = time.perf_counter()
        self._calls = calls
        self._code, self._reason = "OK", NO_REASON

    def failed(self, code: str, reason: str = NO_REASON) -> None:
        """Says that it ends with an error."""
        self._code, self._reason = code, reason

    def __enter__(self) -> "ServedCall":
        self._calls.in_hand[self] = None
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


class ServedCalls:
    """The calls of one server.

    Args:
        registry: of the process's metrics.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.in_hand: dict[ServedCall, None] = {}
        """In the order in which they came."""
        self._methods = {UNKNOWN_METHOD}
        self.metrics = CallMetrics(
            registry or CollectorRegistry(), self._methods, self._methods_in_hand
        )

    def know(self, method: str) -> None:
        """Says that there is a method."""
        self._methods.add(method)

    def served(self, method: str) -> ServedCall:
        """A call of a known method, which is about to be served."""
        return ServedCall(self, method)

    def refused(self, method: str, code: str, reason: str = NO_REASON) -> None:
        """Notes a call that was turned away on arrival."""
        self.metrics.refused(method, code, reason)

    def _methods_in_hand(self) -> Iterator[str]:
        return (call.method for call in list(self.in_hand))  # whoever asks is on another thread
