"""Click-through and hit share for Prometheus: counts to divide, read when somebody asks."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from gateway.attribution.counts import Attribution, Count


class AttributionMetrics(Collector):
    """What was seen and clicked of what the gateway showed, as events told it."""

    def __init__(self, attribution: Attribution) -> None:
        self._attribution = attribution

    def collect(self) -> Iterator[CounterMetricFamily]:
        """As Prometheus asks for it."""
        items, lists = self._attribution.items(), self._attribution.lists()
        yield from _families("item", "Items that", items, ("variant", "strategy", "position"))
        yield from _families("list", "Lists of which an item", lists, ("variant", "strategy"))


def _families(
    name: str, what: str, counts: list[Count], labels: tuple[str, ...]
) -> Iterator[CounterMetricFamily]:
    """One of what was seen, and one of what was clicked."""
    was = "were" if name == "item" else "was"
    seen = CounterMetricFamily(
        f"tandem_gateway_{name}_impressions", f"{what} {was} seen, as events say.", labels=labels
    )
    clicked = CounterMetricFamily(
        f"tandem_gateway_{name}_clicks", f"{what} {was} clicked, as events say.", labels=labels
    )
    for count in counts:
        values = count.labels[: len(labels)]
        seen.add_metric(values, count.seen)
        clicked.add_metric(values, count.clicked)
    yield seen
    yield clicked
