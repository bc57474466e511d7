"""How one process is seen: what it counts, the port that shows it, and the spans that it sends."""

import importlib.metadata
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import structlog
from prometheus_client import CollectorRegistry

from serving.settings import ServerSettings
from serving.telemetry.calls import ServedCalls
from serving.telemetry.dump import state_of
from serving.telemetry.exposition import MetricsServer
from serving.telemetry.metrics import ProcessMetrics
from serving.telemetry.tracing import Tracing

if TYPE_CHECKING:
    from serving.telemetry.export import Exporter

log = structlog.get_logger()


class Telemetry:
    """Of one server.

    Args:
        process: its name.
        settings: where its metrics are shown, and its spans sent, if anywhere.
        registry: that the metrics of what it serves are in.
        held: the versions that it holds: the name of the bundle, the version, and its state.
    """

    def __init__(
        self,
        process: str,
        settings: ServerSettings,
        registry: CollectorRegistry,
        held: Callable[[], Iterable[tuple[str, str, str]]],
    ) -> None:
        self._exporter = _exporter(process, settings.otlp_endpoint)
        tracer = None if self._exporter is None else self._exporter.tracer
        self.calls = ServedCalls(registry, Tracing(tracer, settings.trace_share))
        """What the boundary tells of calls."""
        ProcessMetrics(registry, process, held)
        self.port: int | None = None
        """That metrics are shown on."""
        self._settings = settings
        self._registry = registry
        self._shown: MetricsServer | None = None

    def start(self) -> None:
        """Shows the metrics.

        Raises:
            SettingsError: the port is taken, or the address is not one of this machine's.
        """
        host, port = self._settings.metrics_host, self._settings.metrics_port
        if port is not None:
            self._shown = MetricsServer(self._registry, host, port)
            self.port = self._shown.port
            log.info("metrics", host=host, port=self.port)

    def dump(self) -> None:
        """Writes to the log what the server is at."""
        log.warning("state", **state_of(self.calls, self._registry))

    def close(self) -> None:
        """Shows them no more, and sends the last spans; blocks for some seconds at most."""
        if self._shown is not None:
            self._shown.close()
        if self._exporter is not None:
            self._exporter.close()


def _exporter(process: str, endpoint: str | None) -> "Exporter | None":
    if endpoint is None:
        return None
    from serving.telemetry.export import Exporter  # who has no collector need not load it

    return Exporter(process, importlib.metadata.version("tandem-recsys"), endpoint)
