"""What is called in a measurement, and what comes of it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from tandem.v1 import recommendation_service_pb2 as pb

RECOMMEND: Final = "/tandem.v1.RecommendationService/Recommend"
PATIENCE_SECONDS: Final = 2.0
"""A call's deadline: an answer after it is none."""


@dataclass(frozen=True)
class Load:
    """What is to be called."""

    address: str
    requests: Sequence[bytes]
    """Sent in turn."""
    seconds: float
    method: str = RECOMMEND
    callers: int = 0
    """Closed-loop ones."""
    connections: int = 4
    """That these share."""
    rate: float = 0.0
    """Calls a second of an open-loop one; see `bench.open_loop`."""


@dataclass
class Outcome:
    """What came of it. Times are in milliseconds."""

    seconds: float = 0.0
    accepted: list[float] = field(default_factory=list)
    """Of calls that were answered in full."""
    rejected: list[float] = field(default_factory=list)
    """Of calls that were shed."""
    stages: dict[str, list[float]] = field(default_factory=dict)
    own: list[float] = field(default_factory=list)
    """What each call took beyond its downstream calls: here, on the way, and in the gateway."""
    degraded: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    """Calls that ended otherwise, by canonical code."""
    response_bytes: int = 0
    late_ms: float = 0.0
    """How far an open-loop caller was behind at its worst: it could not keep the rate."""

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.accepted) / self.seconds

    def p(self, percent: float) -> float:
        """A percentile of the times of accepted calls."""
        return percentile(self.accepted, percent)

    def note(self, response: bytes, ms: float) -> None:
        """Takes an answer in."""
        self.response_bytes = len(response)
        answer = pb.RecommendResponse.FromString(response)
        if answer.degraded:
            self.degraded += 1
            return
        self.accepted.append(ms)
        stages = {t.stage: t.duration.ToNanoseconds() / 1e6 for t in answer.timings}
        for stage, stage_ms in stages.items():
            self.stages.setdefault(stage, []).append(stage_ms)
        self.own.append(ms - sum(stages.get(stage, 0.0) for stage in ("search", "rerank")))


def together(outcomes: Sequence[Outcome]) -> Outcome:
    """What came of several turns of a load."""
    return Outcome(
        seconds=sum(outcome.seconds for outcome in outcomes),
        accepted=[ms for outcome in outcomes for ms in outcome.accepted],
        rejected=[ms for outcome in outcomes for ms in outcome.rejected],
        degraded=sum(outcome.degraded for outcome in outcomes),
        failed=sum((outcome.failed for outcome in outcomes), Counter()),
    )


def percentile(values: Sequence[float], percent: float) -> float:
    """NaN for none."""
    return float(np.percentile(values, percent)) if values else float("nan")
