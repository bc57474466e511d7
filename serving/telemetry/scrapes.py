"""What processes show of themselves, read twice: rates, shares and quantiles in between."""

import math
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

TIMEOUT_SECONDS = 1.0


@dataclass(frozen=True)
class Scrape:
    """All series of a process at a moment."""

    samples: Sequence[Sample] = ()
    at: float = 0.0
    """In seconds, on the monotonic clock."""
    error: str = ""
    """Why there are none."""

    @classmethod
    def read(cls, address: str) -> "Scrape":
        """Reads `http://ADDRESS/metrics`; one that cannot be read says why."""
        url = f"http://{address}/metrics"
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer:
                text = answer.read().decode()
            return cls.parse(text, time.monotonic())
        except (OSError, ValueError) as error:
            return cls(error=str(getattr(error, "reason", error)))

    @classmethod
    def parse(cls, text: str, at: float) -> "Scrape":
        """Reads Prometheus' text.

        Raises:
            ValueError: it is none.
        """
        families = text_string_to_metric_families(text)
        return cls([sample for family in families for sample in family.samples], at)

    def value(self, name: str, **labels: str) -> float:
        """The sum of the series of a name that have some labels; 0 for none."""
        return sum(s.value for s in self.samples if _matches(s, name, labels))

    def label(self, name: str, label: str) -> str:
        """A label of the first series of a name; empty for none."""
        return next(iter(self.labels(name, label)), "")

    def labels(self, name: str, label: str, **given: str) -> list[str]:
        """A label of each series of a name that has some labels."""
        return [s.labels.get(label, "") for s in self.samples if _matches(s, name, given)]

    def by(self, name: str, label: str) -> dict[str, float]:
        """The sums of the series of a name, by the value of a label."""
        sums: defaultdict[str, float] = defaultdict(float)
        for sample in self.samples:
            if sample.name == name:
                sums[sample.labels[label]] += sample.value
        return dict(sums)


@dataclass(frozen=True)
class Interval:
    """What happened between two scrapes of a process."""

    before: Scrape
    after: Scrape = field(default_factory=Scrape)

    @property
    def seconds(self) -> float:
        """Between them."""
        return self.after.at - self.before.at

    def grown(self, name: str, **labels: str) -> float:
        """By how much a counter grew; from 0 where the process is a new one, and by nothing where
        it could not be read before."""
        if self.before.error:
            return 0.0
        before, after = (s.value(name, **labels) for s in (self.before, self.after))
        return after - before if after >= before else after

    def rate(self, name: str, **labels: str) -> float:
        """The same, for each second."""
        return self.grown(name, **labels) / self.seconds

    def mean(self, histogram: str, **labels: str) -> float:
        """Of what a histogram observed; NaN for nothing."""
        count = self.grown(f"{histogram}_count", **labels)
        return self.grown(f"{histogram}_sum", **labels) / count if count else math.nan

    def quantile(self, histogram: str, share: float, **labels: str) -> float:
        """Of what a histogram observed, between the bounds as if evenly; NaN for nothing."""
        bounds = {
            sample.labels["le"]
            for sample in self.after.samples
            if _matches(sample, f"{histogram}_bucket", labels)
        }
        buckets = sorted(
            (float(bound), self.grown(f"{histogram}_bucket", le=bound, **labels))
            for bound in bounds
        )
        return _quantile(buckets, share)


def _quantile(buckets: Iterable[tuple[float, float]], share: float) -> float:
    """As Prometheus' `histogram_quantile`: of cumulative buckets, by their upper bounds."""
    listed = list(buckets)
    if not listed or not listed[-1][1]:
        return math.nan
    rank = share * listed[-1][1]
    lower, below = 0.0, 0.0
    for upper, count in listed:
        if count >= rank and count > below:
            if math.isinf(upper):
                return lower
            return lower + (upper - lower) * (rank - below) / (count - below)
        lower, below = upper, count
    return lower


def _matches(sample: Sample, name: str, labels: Mapping[str, str]) -> bool:
    return sample.name == name and labels.items() <= sample.labels.items()
