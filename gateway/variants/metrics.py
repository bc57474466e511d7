"""How variants do, for Prometheus. The names of variants come from the serving file alone."""

from collections.abc import Callable, Collection, Iterable, Iterator
from copy import copy
from typing import Final, Self

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from serving.telemetry.labels import Labeled
from serving.telemetry.metrics import SECONDS

OUTCOMES: Final = ("whole", "degraded", "failed")


class _States(Collector):
    """Reads the variants' states when somebody asks."""

    def __init__(self) -> None:
        self.read: dict[str, Callable[[], Iterable[tuple[str, str]]]] = {}
        """Of each bundle, by its name."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """As Prometheus asks for it."""
        family = GaugeMetricFamily(
            "tandem_gateway_variant_info",
            "1; the labels say which variants the serving file has, and what each is: on, where it "
            "has its users; withdrawn, as a canary that passed a limit; not_held, unfit "
            "or other_histories, where its version of the bundle is not held, lacks an attribute "
            "that it needs, or keeps histories elsewhere.",
            labels=["bundle", "variant", "state"],
        )
        for bundle, read in self.read.items():
            for state in read():
                family.add_metric((bundle, *state), 1)
        yield family


class VariantMetrics:
    """Counts answers by variant; for the bundle of calls that name none, and see `of`.

    Args:
        registry: of the process.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._counter = Counter(
            "tandem_gateway_variant_answers_total",
            "Requests that a variant answered, by what they came to: whole, degraded, or failed by "
            "no mistake of the caller.",
            ["bundle", "variant", "outcome"],
            registry=registry,
        )
        self._histogram = Histogram(
            "tandem_gateway_variant_seconds",
            "What a variant took to answer a request, or to fail, from the request's turn on.",
            ["bundle", "variant"],
            buckets=SECONDS,
            registry=registry,
        )
        self._states = _States()
        registry.register(self._states)
        self._begin("")

    def of(self, bundle: str) -> Self:
        """Counts in the same metrics for another bundle, whose variants are its own."""
        if bundle == self._bundle:
            return self
        other = copy(self)
        other._begin(bundle)
        return other

    def _begin(self, bundle: str) -> None:
        self._bundle = bundle
        self._names: frozenset[str] = frozenset()
        self.follow((), tuple)

    def follow(
        self, names: Collection[str], states: Callable[[], Iterable[tuple[str, str]]]
    ) -> None:
        """Counts for the variants of a file from now on, and forgets those that are in it no more.

        Args:
            names: of the variants.
            states: reads each one's state.
        """
        for gone in self._names - set(names):
            self._counter.remove_by_labels({"bundle": self._bundle, "variant": gone})
            self._histogram.remove_by_labels({"bundle": self._bundle, "variant": gone})
        self._names = frozenset(names)
        self._answers = Labeled(self._counter, (self._bundle,), self._names, OUTCOMES)
        self._seconds = Labeled(self._histogram, (self._bundle,), self._names)
        self._states.read[self._bundle] = states

    def ended(self, variant: str, outcome: str, seconds: float) -> None:
        """Notes what a request came to: one of `OUTCOMES`."""
        self._answers.of(self._bundle, variant, outcome).inc()
        self._seconds.of(self._bundle, variant).observe(seconds)
