"""`tandem top`: rates and quantiles as Prometheus has them, and a view of servers that run."""

import io
import math

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from rich.console import Console

from cli.top.view import rendered
from gateway.domain import Answer, Degradation, Fallback, Recommended, Strategy
from gateway.metrics import GatewayMetrics
from serving.telemetry.calls import ServedCalls
from serving.telemetry.exposition import MetricsServer
from serving.telemetry.metrics import ProcessMetrics
from serving.telemetry.scrapes import Interval, Scrape
from tests.cli.command import run

METHOD = "/tandem.v1.RecommendationService/Recommend"


def scrape(registry: CollectorRegistry, at: float) -> Scrape:
    return Scrape.parse(generate_latest(registry).decode(), at)


def test_rates_are_those_between_two_looks() -> None:
    registry = CollectorRegistry()
    calls = Counter("calls_total", "Calls.", ["code"], registry=registry)
    calls.labels("OK").inc(5)
    before = scrape(registry, 10.0)
    calls.labels("OK").inc(6)
    calls.labels("NOT_FOUND").inc(2)
    seen = Interval(before, scrape(registry, 14.0))
    assert seen.rate("calls_total") == 2.0
    assert seen.rate("calls_total", code="OK") == 1.5
    assert seen.rate("nothing_total") == 0.0


def test_a_process_that_began_anew_counts_from_nothing() -> None:
    old, new = CollectorRegistry(), CollectorRegistry()
    Counter("calls_total", "Calls.", registry=old).inc(100)
    Counter("calls_total", "Calls.", registry=new).inc(3)
    assert Interval(scrape(old, 1.0), scrape(new, 2.0)).grown("calls_total") == 3


@given(
    st.lists(st.floats(0, 3), min_size=1, max_size=50),
    st.floats(0.01, 1),
    st.lists(st.floats(0, 3), max_size=10),
)
def test_a_quantile_is_in_the_bucket_of_the_true_one(
    observed: list[float], share: float, earlier: list[float]
) -> None:
    registry, bounds = CollectorRegistry(), [0.5, 1.0, 2.0]
    histogram = Histogram("seconds", "Seconds.", buckets=bounds, registry=registry)
    for value in earlier:
        histogram.observe(value)
    before = scrape(registry, 1.0)
    for value in observed:
        histogram.observe(value)
    found = Interval(before, scrape(registry, 2.0)).quantile("seconds", share)
    # The smallest value that so many are not above.
    true = sorted(observed)[math.ceil(share * len(observed) - 1e-9) - 1]
    upper = next((bound for bound in bounds if true <= bound), 2.0)
    lower = max((bound for bound in (0.0, *bounds) if bound < upper), default=0.0)
    assert lower - 1e-9 <= found <= upper + 1e-9


def test_nothing_observed_has_no_quantile() -> None:
    registry = CollectorRegistry()
    Histogram("seconds", "Seconds.", registry=registry)
    seen = Interval(scrape(registry, 1.0), scrape(registry, 2.0))
    assert math.isnan(seen.quantile("seconds", 0.5))
    assert math.isnan(seen.mean("seconds"))


class Gateway:
    """What a gateway counts."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessMetrics(self.registry, "gateway", lambda: [("", "tiny/1", "serving")])
        self.calls = ServedCalls(self.registry)
        self.calls.know(METHOD)
        self.metrics = GatewayMetrics(self.registry)

    def answer(self, calls: int, *degradations: Degradation) -> None:
        items = Recommended("a", 1.0, retrieval=1.0), Recommended("b", 1.0, generator=1.0)
        for _ in range(calls):
            self.calls.metrics.ended(METHOD, "OK", "", 0.0075)
            self.metrics.stage("search", 0.004)
            self.metrics.answered(Answer(items, (), Strategy.FUSE, degradations=degradations))


def text_of(intervals: dict[str, Interval]) -> str:
    console = Console(record=True, width=120, file=io.StringIO())
    console.print(rendered(intervals))
    return console.export_text()


def test_the_view_shows_what_happened_in_between() -> None:
    gateway = Gateway()
    gateway.answer(100)
    before = scrape(gateway.registry, 10.0)
    gateway.answer(15)
    gateway.answer(5, Degradation("rank", "QUEUE_FULL", Fallback.RETRIEVAL))
    gateway.calls.metrics.ended(METHOD, "INTERNAL", "INTERNAL", 0.0075)
    shown = text_of({"a": Interval(before, scrape(gateway.registry, 12.0))})
    (row,) = [line.split() for line in shown.splitlines() if "Recommend" in line]
    # All of them took from 5 to 10 ms.
    assert row == ["RecommendationService/Recommend", "10.5", "0.5", "7.5", "10.0", "0"]
    assert "25.0% degraded, 50.0% of the items from the shortlist" in shown
    assert "search 4.0" in shown
    assert "tiny/1" in shown


def test_a_process_that_comes_has_no_rates_yet() -> None:
    gateway = Gateway()
    gateway.answer(100)
    shown = text_of({"a": Interval(Scrape(error="refused"), scrape(gateway.registry, 12.0))})
    assert "tiny/1" in shown
    assert "/Recommend" not in shown


def test_one_look_shows_what_there_is_and_what_is_away() -> None:
    server = MetricsServer(Gateway().registry, "127.0.0.1", 0)
    address = f"127.0.0.1:{server.port},127.0.0.1:1"
    result = run("top", "--once", "--every", "0.1", "--address", address)
    server.close()
    assert result.code == 0, result.stderr
    assert "tiny/1" in result.stdout
    assert "Connection refused" in result.stdout
