"""Labels whose values are from closed sets.

Each combination of a metric's labels is a series of its own, kept for as long as the process lives:
what a caller can choose freely must not become one.
"""

from collections.abc import Collection
from typing import Final, Generic, TypeVar

from prometheus_client.metrics import MetricWrapperBase

OTHER: Final = "other"
"""Stands for every value that is not in the set."""

M = TypeVar("M", bound=MetricWrapperBase)


class Labeled(Generic[M]):
    """The series of a metric, by the values of its labels; quicker than the metric's `labels`.

    Args:
        metric: has labels.
        known: the values of each label, in their order.
    """

    def __init__(self, metric: M, *known: Collection[str]) -> None:
        self._metric = metric
        self._known = known
        self._series: dict[tuple[str, ...], M] = {}

    def of(self, *values: str) -> M:
        """The series of some values."""
        if (series := self._series.get(values)) is not None:
            return series
        closed = [
            value if value in known else OTHER
            for value, known in zip(values, self._known, strict=True)
        ]
        series = self._metric.labels(*closed)
        if OTHER not in closed:  # others are looked up each time, so that they are not kept
            self._series[values] = series
        return series
