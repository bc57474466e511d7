"""Where a call stands in its trace, and the spans that it is made of.

The position is a context variable, as the request id is: it follows a call through tasks and onto
threads, and there is nothing to hand over. A server without a collector, and a call that is not
recorded, pay for the look at that variable and no more; both pass on what the caller sent, by the
W3C's recommendation (https://www.w3.org/TR/trace-context/), so that traces of others stay whole.

Spans say how long something took and what it ended with; never who asked, nor for what.
"""

import random
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

import grpc
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"
MAX_STATE_BYTES: Final = 512
"""Of what other tracers say of a trace; longer ones are not passed on."""
_PARENT: Final = re.compile(
    r"00-(?!0{32})(?P<trace>[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-(?P<flags>[0-9a-f]{2})"
)
_SAMPLED: Final = 1
_SERVERS_FAULT: Final = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)
"""Codes that make a server's span one of an error; the others are answers."""

Attributes = Mapping[str, AttributeValue]


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a trace."""

    parent: str = ""
    """The `traceparent` of what is called from here; empty where there is no trace."""
    state: str = ""
    """The `tracestate` that goes with it."""
    tracer: Tracer | None = None
    """Records spans; None where nothing is recorded."""
    span: Span | None = None
    """What is recorded here."""

    def below(self, name: str, kind: SpanKind, attributes: Attributes | None) -> "Position":
        """The place of a new span, which begins now; here something is recorded."""
        assert self.tracer is not None and self.span is not None  # noqa: S101, PT018
        span = self.tracer.start_span(
            name, set_span_in_context(self.span), kind=kind, attributes=attributes
        )
        return _recorded(self.tracer, span, self.state)


NOWHERE: Final = Position()
here: ContextVar[Position] = ContextVar("here", default=NOWHERE)
"""Where the work stands that is done."""
_NOT_RECORDED: Final = nullcontext(None)


class Tracing:
    """Decides which calls of a server are recorded.

    Args:
        tracer: records them; None where there is no collector.
        share: of the calls that come without a trace, those that begin a recorded one.
    """

    def __init__(self, tracer: Tracer | None = None, share: float = 0.0) -> None:
        self._tracer = tracer
        self._share = share

    def arrive(self, method: str, metadata: Mapping[str, Any]) -> Position:
        """Where a call stands that just came; its span, if it has one, begins.

        Args:
            method: such as `/tandem.v1.RecommendationService/Recommend`.
            metadata: that came with it.
        """
        parent, state = metadata.get(TRACEPARENT), metadata.get(TRACESTATE, "")
        sent = _PARENT.fullmatch(parent) if isinstance(parent, str) else None
        if sent is None or not isinstance(parent, str):
            return self._begin(method)
        if not isinstance(state, str) or len(state) > MAX_STATE_BYTES:
            state = ""
        if self._tracer is None or not int(sent["flags"], 16) & _SAMPLED:
            return Position(parent, state)
        context = TraceContextTextMapPropagator().extract({TRACEPARENT: parent, TRACESTATE: state})
        span = self._tracer.start_span(
            method[1:], context, kind=SpanKind.SERVER, attributes=rpc_attributes(method)
        )
        return _recorded(self._tracer, span, state)

    def _begin(self, method: str) -> Position:
        """A new trace. One that is not recorded has an id all the same: so a service that is called
        from here knows that it was decided, and its log lines are found by it."""
        if self._tracer is None:
            return NOWHERE
        if random.random() >= self._share:  # noqa: S311 - no secret depends on it
            ids = f"{random.getrandbits(192) | 1 << 191 | 1:048x}"  # neither is 0
            return Position(f"00-{ids[:32]}-{ids[32:]}-00")
        span = self._tracer.start_span(
            method[1:], kind=SpanKind.SERVER, attributes=rpc_attributes(method)
        )
        return _recorded(self._tracer, span, "")


def rpc_attributes(method: str) -> Attributes:
    """What OpenTelemetry's conventions say of a gRPC method, `/package.Service/Method`."""
    service, _, name = method[1:].rpartition("/")
    return {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name}


def trace_id() -> str:
    """Of the trace that is worked on; empty where there is none."""
    return here.get().parent[3:35]


def trace_metadata() -> tuple[tuple[str, str], ...]:
    """What goes with a call that is made from here."""
    position = here.get()
    if not position.parent:
        return ()
    parent = (TRACEPARENT, position.parent)
    return (parent, (TRACESTATE, position.state)) if position.state else (parent,)


def span(
    name: str, kind: SpanKind = SpanKind.INTERNAL, attributes: Attributes | None = None
) -> AbstractContextManager[Span | None]:
    """Records a block, where the call is recorded; an error that leaves it is named, not quoted.

    Args:
        name: from a closed set.
        kind: as OpenTelemetry has it.
        attributes: nothing that a user is, says or gets.
    """
    position = here.get()
    return _NOT_RECORDED if position.span is None else _span(position, name, kind, attributes)


@contextmanager
def _span(
    above: Position, name: str, kind: SpanKind, attributes: Attributes | None
) -> Iterator[Span]:
    below = above.below(name, kind, attributes)
    assert below.span is not None  # noqa: S101
    token = here.set(below)
    try:
        yield below.span
    except BaseException as error:
        below.span.set_attribute("error.type", _type_of(error))
        if isinstance(error, Exception):  # and not that nobody waits for it any more
            below.span.set_status(Status(StatusCode.ERROR))
        raise
    finally:
        here.reset(token)
        below.span.end()


def note_spans(began: int, *stages: tuple[str, float], **attributes: AttributeValue) -> None:
    """Records stages that are over, which followed one another, where the call is recorded.

    Args:
        began: when the first did, in nanoseconds since 1970.
        stages: the name of each, and its seconds.
        attributes: of all of them.
    """
    position = here.get()
    if position.tracer is None or position.span is None:
        return
    for name, seconds in stages:
        ended = began + int(seconds * 1e9)
        context = set_span_in_context(position.span)
        noted = position.tracer.start_span(name, context, attributes=attributes, start_time=began)
        noted.end(ended)
        began = ended


def annotate(**attributes: AttributeValue) -> None:
    """Says more of what is recorded here, if anything is."""
    span = here.get().span
    if span is not None:
        span.set_attributes({f"tandem.{name}": each for name, each in attributes.items()})


def end_call(position: Position, code: str, reason: str) -> None:
    """Ends the span of a call that was served or refused.

    Args:
        position: from `Tracing.arrive`.
        code: the canonical one.
        reason: of the error, or empty.
    """
    if position.span is None:
        return
    position.span.set_attribute("rpc.grpc.status_code", grpc.StatusCode[code].value[0])
    if reason:
        position.span.set_attribute("tandem.reason", reason)
    if code != "OK":
        position.span.set_attribute("error.type", reason or code)
    if code in _SERVERS_FAULT:
        position.span.set_status(Status(StatusCode.ERROR))
    position.span.end(time.time_ns())


def _type_of(error: BaseException) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return str(error.code().name)
    return getattr(error, "reason", "") or type(error).__name__


def _recorded(tracer: Tracer, span: Span, state: str) -> Position:
    context = span.get_span_context()
    parent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
    return Position(parent, state, tracer, span)
