"""What the gateway counts, beside the calls that every server counts."""

from collections.abc import Collection
from copy import copy
from typing import Final, Protocol, Self

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from gateway.attribution.counts import Attribution
from gateway.attribution.metrics import AttributionMetrics
from gateway.domain import Answer, Fallback, Recommended, Strategy
from gateway.shadow.metrics import ShadowMetrics
from gateway.variants.metrics import VariantMetrics
from serving.telemetry.labels import Labeled
from serving.telemetry.metrics import CODES, SECONDS
from serving.telemetry.reasons import REASONS

STAGES: Final = (
    "history", "search", "generate", "rerank", "rank", "blend", "popularity", "items",
    "diagnose_search", "diagnose_items",
)  # fmt: skip
SERVICES: Final = ("candidate", "generator")
ATTEMPTS: Final = ("first", "retry", "hedge")
POPULARITY: Final = "popularity"


class Load(Protocol):
    """What waits for its turn, and what has it."""

    @property
    def running(self) -> int:
        """Calls that are worked on."""

    @property
    def waiting(self) -> int:
        """Calls that wait for their turn."""


class Addresses(Protocol):
    """The addresses of a service."""

    @property
    def count(self) -> int:
        """How many are known."""

    @property
    def set_aside(self) -> int:
        """How many of them are left alone."""


class Called(Protocol):
    """A service, as its caller knows it."""

    service: str
    sequence: int

    @property
    def targets(self) -> Addresses:
        """Where it is."""


class ServiceMetrics:
    """How the services of a bundle answer the gateway.

    Args:
        registry: of the process.
        bundles: the names of all bundles. It counts for that of calls that name none, whose name is
            empty; see `of`.
    """

    def __init__(self, registry: CollectorRegistry, bundles: Collection[str] = ("",)) -> None:
        self._bundle = ""
        self._calls = Labeled(
            Counter(
                "tandem_gateway_service_calls_total",
                "Calls of a service, by what they came to after all attempts. An error is by the "
                "code that the gateway makes of it.",
                ["bundle", "service", "code"],
                registry=registry,
            ),
            bundles, SERVICES, CODES,
        )  # fmt: skip
        self._attempts = Labeled(
            Counter(
                "tandem_gateway_service_attempts_total",
                "Attempts of calls of a service: the first of each call, retries and hedges.",
                ["bundle", "service", "attempt"],
                registry=registry,
            ),
            bundles, SERVICES, ATTEMPTS,
        )  # fmt: skip
        self._circuits = Gauge(
            "tandem_gateway_circuits_open",
            "Addresses of a service that are left alone because calls of them failed.",
            ["bundle", "service"],
            registry=registry,
        )
        self._addresses = Gauge(
            "tandem_gateway_service_addresses",
            "Addresses of a service that are known.",
            ["bundle", "service"],
            registry=registry,
        )
        self._sequence = Gauge(
            "tandem_gateway_service_catalog_sequence",
            "Of the last change in the catalog that a service answered from last.",
            ["bundle", "service"],
            registry=registry,
        )

    def of(self, bundle: str) -> Self:
        """Counts in the same metrics for another bundle."""
        other = copy(self)
        other._bundle = bundle
        return other

    def follow(self, called: Called) -> None:
        """Reads a service's gauges from its caller from now on."""
        labels = (self._bundle, called.service)
        self._circuits.labels(*labels).set_function(lambda: called.targets.set_aside)
        self._addresses.labels(*labels).set_function(lambda: called.targets.count)
        self._sequence.labels(*labels).set_function(lambda: called.sequence)

    def attempted(self, service: str, attempt: str) -> None:
        """Notes an attempt: one of `ATTEMPTS`."""
        self._attempts.of(self._bundle, service, attempt).inc()

    def ended(self, service: str, code: str) -> None:
        """Notes what a call came to."""
        self._calls.of(self._bundle, service, code).inc()


class GatewayMetrics:
    """What the gateway counts.

    Args:
        registry: of the process.
        bundles: the names of its bundles.
    """

    def __init__(
        self, registry: CollectorRegistry | None = None, bundles: Collection[str] = ("",)
    ) -> None:
        registry = registry or CollectorRegistry()
        self.services = ServiceMetrics(registry, bundles)
        self.attribution = Attribution()
        """What was seen and clicked of what was shown."""
        registry.register(AttributionMetrics(self.attribution))
        self.variants, self.shadow = VariantMetrics(registry), ShadowMetrics(registry)
        """What variants answered; and how their lists differ from those that callers got."""
        self._stages = Labeled(
            Histogram(
                "tandem_gateway_stage_seconds",
                "What a stage of a request took, whether it succeeded or failed.",
                ["stage"],
                buckets=SECONDS,
                registry=registry,
            ),
            STAGES,
        )
        self._answers = Labeled(
            Counter(
                "tandem_gateway_answers_total",
                "Lists that were recommended, by the strategy that made them.",
                ["strategy"],
                registry=registry,
            ),
            (*Strategy, POPULARITY),
        )
        self._items = Labeled(
            Counter(
                "tandem_gateway_items_total",
                "Items that were recommended, by what found them: the shortlist, the generator "
                "alone, popularity, or a pin alone.",
                ["source"],
                registry=registry,
            ),
            ("shortlist", "generator", POPULARITY, "pin"),
        )
        self._degraded = Counter(
            "tandem_gateway_degraded_answers_total",
            "Answers that do without at least one stage.",
            registry=registry,
        )
        self._degradations = Labeled(
            Counter(
                "tandem_gateway_degradations_total",
                "Stages that an answer does without, by why and by what took their place.",
                ["stage", "reason", "fallback"],
                registry=registry,
            ),
            STAGES, REASONS, tuple(Fallback),
        )  # fmt: skip
        self._running, self._waiting = _load_gauges(registry)

    def follow(self, load: Load) -> None:
        """Reads from it, from now on, how many requests run and wait."""
        self._running.set_function(lambda: load.running)
        self._waiting.set_function(lambda: load.waiting)

    def stage(self, name: str, seconds: float) -> None:
        """Notes what a stage took."""
        self._stages.of(name).observe(seconds)

    def answered(self, answer: Answer) -> None:
        """Notes an answer: what made it, and what it does without."""
        strategy = POPULARITY if answer.strategy is None else answer.strategy
        self._answers.of(strategy).inc()
        sources = [_source(item, strategy) for item in answer.items]
        for source in set(sources):
            self._items.of(source).inc(sources.count(source))
        if answer.degradations:
            self._degraded.inc()
        for degradation in answer.degradations:
            self._degradations.of(degradation.stage, degradation.reason, degradation.fallback).inc()


def _load_gauges(registry: CollectorRegistry) -> tuple[Gauge, Gauge]:
    """How many requests run, and how many wait."""
    return (
        Gauge("tandem_gateway_requests_running", "Requests that are worked on.", registry=registry),
        Gauge(
            "tandem_gateway_requests_waiting",
            "Requests that wait for their turn.",
            registry=registry,
        ),
    )


def _source(item: Recommended, strategy: str) -> str:
    if item.retrieval is not None:
        return "shortlist"
    if item.generator is not None:
        return "generator"
    return "pin" if item.pinned else strategy
