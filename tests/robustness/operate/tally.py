"""What came of the calls of a soak."""

from array import array
from collections import Counter
from dataclasses import dataclass, field
from time import perf_counter
from typing import Final

import numpy as np

from tandem.v1 import recommendation_service_pb2 as pb

PARTS: Final = 10
"""Of a soak; the first counts as warming up."""
WINDOWS: Final = 30
"""That the drift of p99 is found by."""


def versions_of(answer: pb.RecommendResponse) -> set[str]:
    """Every version of the bundle that had a part in an answer."""
    return {answer.bundle_version, *(t.bundle_version for t in answer.timings if t.bundle_version)}


@dataclass
class Tally:
    """Counts, and the times of the calls that nobody cut off."""

    calls: Counter[str] = field(default_factory=Counter)
    """By kind, those that failed too."""
    failures: Counter[str] = field(default_factory=Counter)
    """By kind, code and reason; degraded answers are failures."""
    cut_off: int = 0
    """Calls that failed because their connection was cut."""
    mixed: int = 0
    """Answers in which two versions had a part."""
    versions: Counter[str] = field(default_factory=Counter)
    """Answers by the version that they are of."""
    ended: "array[float]" = field(default_factory=lambda: array("d"))
    """When calls ended, on the clock of `perf_counter`; beside it, what they took."""
    ms: "array[float]" = field(default_factory=lambda: array("d"))

    def answered(self, kind: str, answer: pb.RecommendResponse) -> None:
        """Looks at an answer with recommendations."""
        versions = versions_of(answer)
        self.versions[answer.bundle_version] += 1
        self.mixed += len(versions) > 1
        if answer.degraded:
            reasons = {each.reason for each in answer.degradations}
            self.failures[f"{kind}: degraded, {', '.join(sorted(reasons))}"] += 1

    def took(self, since: float) -> None:
        """Notes what a call took that was due at some time."""
        now = perf_counter()
        self.ended.append(now)
        self.ms.append((now - since) * 1e3)

    def p99(self, began: float, seconds: float, parts: int) -> list[float]:
        """The 99th percentile of each of some parts of a soak of equal length, in milliseconds;
        without those in which no call ended."""
        ms = np.array(self.ms)
        part = ((np.array(self.ended) - began) / seconds * parts).astype(int)
        return [float(np.percentile(ms[part == n], 99)) for n in range(parts) if any(part == n)]
