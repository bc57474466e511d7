"""How one process is seen: what it counts, and the port that shows it."""

import structlog
from prometheus_client import CollectorRegistry

from serving.settings import ServerSettings
from serving.telemetry.calls import ServedCalls
from serving.telemetry.exposition import MetricsServer
from serving.telemetry.metrics import ProcessMetrics

log = structlog.get_logger()


class Telemetry:
    """Of one server.

    Args:
        process: its name.
        settings: where its metrics are shown, if anywhere.
        registry: that the metrics of what it serves are in.
    """

    def __init__(self, process: str, settings: ServerSettings, registry: CollectorRegistry) -> None:
        self.calls = ServedCalls(registry)
        """What the boundary tells of calls."""
        self.metrics = ProcessMetrics(registry, process)
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

    def close(self) -> None:
        """Shows them no more; blocks for a moment."""
        if self._shown is not None:
            self._shown.close()
