"""What is counted of the texts that are written."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from services.generator.text.places import Finished, Stop
from serving.telemetry.metrics import SECONDS


class TextMetrics:
    """What is counted of texts.

    Args:
        registry: of the process.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        name = "tandem_generator_text"
        self._first = Histogram(
            f"{name}_first_seconds",
            "From a text's arrival to its first token.",
            buckets=SECONDS,
            registry=registry,
        )
        self._tokens = Counter(f"{name}_tokens_total", "Tokens of texts.", registry=registry)
        self._ended = Counter(
            f"{name}s_total", "Texts that came to an end, by why.", ["stop"], registry=registry
        )
        for stop in Stop:
            self._ended.labels(stop.value)
        self._waiting = Gauge(
            f"{name}s_waiting", "Texts that are prepared or wait.", registry=registry
        )
        self._running = Gauge(f"{name}s_running", "Texts that are written.", registry=registry)

    def follow(self, waiting: Callable[[], int], running: Callable[[], int]) -> None:
        """Reads how many texts there are from now on."""
        self._waiting.set_function(waiting)
        self._running.set_function(running)

    def finished(self, text: Finished) -> None:
        """Notes the end of a text."""
        self._first.observe(text.prepared + text.queued + text.first)
        self._tokens.inc(text.tokens)
        self._ended.labels(text.stop.value).inc()
