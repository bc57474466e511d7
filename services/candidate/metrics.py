"""What the candidate service counts, beside the calls that every server counts."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge

from services.candidate.retrieval.shortlist import Basis
from serving.telemetry.labels import Labeled
from serving.telemetry.metrics import CatalogMetrics


class CandidateMetrics:
    """What the candidate service counts.

    Args:
        registry: of the process.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        registry = registry or CollectorRegistry()
        self.catalog = CatalogMetrics(registry)
        self._searches = Labeled(
            Counter(
                "tandem_candidate_searches_total",
                "Shortlists that were made, by what they were made from.",
                ["source"],
                registry=registry,
            ),
            [basis.value for basis in Basis],
        )
        self._waiting = Gauge(
            "tandem_candidate_calls_waiting",
            "Calls that wait for a thread to compute on.",
            registry=registry,
        )
        self._writes = Gauge(
            "tandem_candidate_changes_waiting",
            "Changes of the catalog that wait to be written.",
            registry=registry,
        )

    def follow(self, waiting: Callable[[], int], writes: Callable[[], int]) -> None:
        """Reads the queues from now on: of calls, and of changes."""
        self._waiting.set_function(waiting)
        self._writes.set_function(writes)

    def searched(self, basis: Basis) -> None:
        """Notes a shortlist."""
        self._searches.of(basis.value).inc()
