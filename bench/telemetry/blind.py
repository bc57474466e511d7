"""A gateway that counts nothing and traces nothing: what being seen is measured against.

python -m bench.telemetry.blind takes the flags of `tandem serve`.

It writes the same lines to the log. What is replaced are the places that tell of something, so that
what is left of them is a call of an empty function.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Final

import structlog

import gateway.calls.caller
import gateway.recommend.recommender
import gateway.recommend.trace
from cli.main import main
from gateway.metrics import GatewayMetrics, ServiceMetrics
from serving.telemetry.calls import ServedCalls

log = structlog.get_logger()


class _Call:
    def __init__(self) -> None:
        self.code, self.reason = "OK", ""

    def failed(self, code: str, reason: str = "") -> None:
        self.code, self.reason = code, reason


@contextmanager
def _logged(_calls: ServedCalls, method: str, _metadata: object) -> Iterator[_Call]:
    started, call = time.perf_counter(), _Call()
    try:
        yield call
    finally:
        ms = round((time.perf_counter() - started) * 1e3, 3)
        log.info("call", method=method, code=call.code, reason=call.reason or None, ms=ms)


def _nothing(*_: Any, **__: Any) -> None: ...


PLACES: Final[Sequence[tuple[Any, str, Any]]] = (
    (ServedCalls, "served", _logged),
    (ServedCalls, "refused", _nothing),
    (GatewayMetrics, "stage", _nothing),
    (GatewayMetrics, "answered", _nothing),
    (ServiceMetrics, "attempted", _nothing),
    (ServiceMetrics, "ended", _nothing),
    (gateway.recommend.trace, "span", lambda *_: nullcontext()),
    (gateway.recommend.recommender, "annotate", _nothing),
    (gateway.calls.caller, "attempt_span", lambda *_: nullcontext(())),
)
"""All that tells of something, and what takes its place."""


if __name__ == "__main__":
    for owner, name, replacement in PLACES:
        setattr(owner, name, replacement)
    main()
