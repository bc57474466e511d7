"""A collector of traces: OpenTelemetry's service of OTLP over gRPC, in this process."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as pb_grpc

from serving.telemetry.tracing import Position, here

SERVER, CLIENT, INTERNAL = 2, 3, 1
"""Kinds of spans."""


@dataclass(frozen=True)
class Seen:
    """A span, as it came."""

    name: str
    process: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, Any]
    failed: bool
    began: int
    ended: int
    text: str
    """All of it."""


@dataclass
class Collector(pb_grpc.TraceServiceServicer):
    """Takes spans."""

    address: str = ""
    spans: list[Seen] = field(default_factory=list)
    exports: int = 0
    hangs: bool = False
    asked: threading.Event = field(default_factory=threading.Event)
    """Set once it was sent something."""

    def Export(self, request: pb.ExportTraceServiceRequest, context: Any) -> Any:  # noqa: N802
        self.exports += 1
        self.asked.set()
        if self.hangs:
            ended = threading.Event()
            context.add_callback(ended.set)
            ended.wait()
        for resource in request.resource_spans:
            process = _attributes(resource.resource.attributes)["service.name"]
            for scope in resource.scope_spans:
                self.spans += [_seen(str(process), span) for span in scope.spans]
        return pb.ExportTraceServiceResponse()

    def named(self, name: str, process: str | None = None) -> list[Seen]:
        return [s for s in self.spans if s.name == name and process in (None, s.process)]

    def parent(self, span: Seen) -> Seen | None:
        found = [s for s in self.spans if s.span_id == span.parent_id]
        return found[0] if found else None

    def path(self, span: Seen) -> list[str]:
        """The names from the root to a span."""
        above = self.parent(span)
        return [*(self.path(above) if above else ()), span.name]


@contextmanager
def standing(position: Position) -> Iterator[None]:
    """Works at a place in a trace."""
    token = here.set(position)
    try:
        yield
    finally:
        here.reset(token)


@contextmanager
def collecting() -> Iterator[Collector]:
    """Listens on a free port of the loopback."""
    collector = Collector()
    with ThreadPoolExecutor(4) as threads:
        server: Any = grpc.server(threads)
        pb_grpc.add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]
        collector.address = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        try:
            yield collector
        finally:
            server.stop(None).wait()


def _seen(process: str, span: Any) -> Seen:
    return Seen(
        name=span.name,
        process=process,
        kind=span.kind,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        attributes=_attributes(span.attributes),
        failed=span.status.code == span.status.STATUS_CODE_ERROR,
        began=span.start_time_unix_nano,
        ended=span.end_time_unix_nano,
        text=str(span),
    )


def _attributes(attributes: Any) -> dict[str, Any]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in attributes}
