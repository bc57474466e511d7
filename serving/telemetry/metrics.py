"""The metrics that every process has, in a registry of its own, so that one may run beside another.

Names are Prometheus' way: `tandem_`, what is counted, its unit, `_total` for counters. Gauges are
read when somebody asks; counters and histograms cost a microsecond.
"""

import importlib.metadata
import platform
from collections import Counter as Tally
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from core.errors import StatusCode
from serving.telemetry.labels import Labeled
from serving.telemetry.reasons import REASONS

# Prometheus takes no notice of them, and they double the series.
disable_created_metrics()  # type: ignore[no-untyped-call]

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Bounds of histograms of time: from a quick search to the longest that a call may take."""
CODES: Final = frozenset({"OK", "CANCELLED", "UNIMPLEMENTED", *(code.name for code in StatusCode)})
"""That calls end with."""
NO_REASON: Final = ""


class _InFlight(Collector):
    """Counts calls in flight when somebody asks."""

    def __init__(self, methods: Callable[[], Iterable[str]]) -> None:
        self._methods = methods

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """As Prometheus asks for it."""
        family = GaugeMetricFamily(
            "tandem_server_calls_in_flight", "Calls that are served now.", labels=["method"]
        )
        for method, count in Tally(self._methods()).items():
            family.add_metric([method], count)
        yield family


class CallMetrics:
    """Counts the calls that a server answers.

    Args:
        registry: of the process.
        methods: those that there are, as `/tandem.v1.RecommendationService/Recommend`; may grow.
        in_flight: the method of each call that is in hand.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        methods: Collection[str],
        in_flight: Callable[[], Iterable[str]],
    ) -> None:
        self._calls = Labeled(
            Counter(
                "tandem_server_calls_total",
                "Calls that ended. The reason is that of the error, and empty for an answer.",
                ["method", "code", "reason"],
                registry=registry,
            ),
            methods, CODES, REASONS | {NO_REASON},
        )  # fmt: skip
        self._seconds = Labeled(
            Histogram(
                "tandem_server_call_seconds",
                "From a call's arrival to its end, but for calls that were OVERLOADED on arrival.",
                ["method"],
                buckets=SECONDS,
                registry=registry,
            ),
            methods,
        )
        registry.register(_InFlight(in_flight))

    def ended(self, method: str, code: str, reason: str, seconds: float) -> None:
        """Notes a call that was served."""
        self._calls.of(method, code, reason).inc()
        self._seconds.of(method).observe(seconds)

    def refused(self, method: str, code: str, reason: str) -> None:
        """Notes a call that was not even read."""
        self._calls.of(method, code, reason).inc()


class _Bundles(Collector):
    """Names the bundles that are held when somebody asks."""

    def __init__(self, held: Callable[[], Iterable[tuple[str, str, str]]]) -> None:
        self._held = held

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """As Prometheus asks for it."""
        family = GaugeMetricFamily(
            "tandem_bundle_info",
            "1; the labels say which versions of the bundle are held, and which of them is serving "
            "and which beside it; and the name of the bundle where a gateway has several.",
            labels=["bundle", "version", "state"],
        )
        for held in self._held():
            family.add_metric(held, 1)
        yield family


class ProcessMetrics:
    """What a process is and what it takes.

    Args:
        registry: of the process.
        process: its name.
        held: the versions that it holds: the name of the bundle, the version, and its state.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        process: str,
        held: Callable[[], Iterable[tuple[str, str, str]]],
    ) -> None:
        ProcessCollector(registry=registry)
        GCCollector(registry=registry)
        build = Gauge(
            "tandem_build_info",
            "1; the labels say what runs.",
            ["process", "version", "python", "grpc"],
            registry=registry,
        )
        versions = map(importlib.metadata.version, ("tandem-recsys", "grpcio"))
        tandem, grpc = versions
        build.labels(process, tandem, platform.python_version(), grpc).set(1)
        registry.register(_Bundles(held))


class CatalogMetrics:
    """What a service's catalog is.

    Args:
        registry: of the process.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._sequence = Gauge(
            "tandem_catalog_sequence",
            "Of the last change in the catalog that is served; 0 is the bundle's own.",
            registry=registry,
        )
        self._items = Gauge(
            "tandem_catalog_items", "Items of the catalog that is served.", registry=registry
        )

    def follow(self, sequence: Callable[[], int], items: Callable[[], int]) -> None:
        """Reads them from a catalog from now on."""
        self._sequence.set_function(sequence)
        self._items.set_function(items)
