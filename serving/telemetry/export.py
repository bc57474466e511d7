"""The way of spans to a collector, by OTLP over gRPC; loaded where there is one alone.

It is a thread with a bounded queue. A collector that is away, or hangs, costs spans and a line in
the log, and never a call; nor does a server wait long for it when it stops.
"""

import threading
from typing import Final

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Tracer

QUEUE: Final = 4_096
"""Spans that wait; further ones are dropped."""
BATCH: Final = 512
EVERY_SECONDS: Final = 1.0
TIMEOUT_SECONDS: Final = 5.0
"""For a batch, all its attempts together."""
CLOSE_SECONDS: Final = 2.0
"""For what is left when the server stops."""


class Exporter:
    """Sends spans to a collector.

    Args:
        process: that they are of. More about where it runs is taken from the variable
            `OTEL_RESOURCE_ATTRIBUTES`, as OpenTelemetry has it.
        version: of Tandem.
        endpoint: of the collector, `http://HOST:PORT`, or `https://…` for TLS.
    """

    def __init__(self, process: str, version: str, endpoint: str) -> None:
        self._exporter = OTLPSpanExporter(endpoint=endpoint, timeout=TIMEOUT_SECONDS)
        resource = Resource.create(
            {"service.name": f"tandem-{process}", "service.version": version}
        )
        # Which calls are recorded was decided before a span is made.
        self._provider = TracerProvider(
            sampler=ALWAYS_ON, resource=resource, shutdown_on_exit=False
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(
                self._exporter,
                max_queue_size=QUEUE,
                schedule_delay_millis=EVERY_SECONDS * 1e3,
                max_export_batch_size=BATCH,
            )
        )
        self.tracer: Tracer = self._provider.get_tracer("tandem", version)
        """Records them."""

    def close(self) -> None:
        """Sends what is left, for `CLOSE_SECONDS` at most."""
        cut_off = threading.Timer(CLOSE_SECONDS, self._exporter.shutdown)
        cut_off.daemon = True
        cut_off.start()
        try:
            self._provider.shutdown()
        finally:
            cut_off.cancel()
