"""What a serving file says: configurations of calls, and variants with their shares of users."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from tandem.v1 import recommendation_service_pb2 as pb

MAX_VARIANTS: Final = 32
"""Of a file, and of those that have series of their own in metrics."""


@dataclass(frozen=True)
class Limits:
    """When a canary is withdrawn, from what its calls came to in a window of time."""

    max_bad_share: float
    """Of its answers, over that of the control's: how many may have failed or be degraded."""
    max_latency_ratio: float
    """Of its 95th percentile of latency to the control's."""
    min_calls: int
    """Fewer calls in the window decide nothing."""
    window_seconds: float


@dataclass(frozen=True, eq=False)
class Variant:
    """One way of answering, for a share of the users."""

    name: str
    percent: float
    """Of the users, from 0 to 100."""
    bundle: str = ""
    """The gateway's bundle that answers, with services of its own; empty for that of the call."""
    bundle_version: str = ""
    """What answers; empty for the version that serves."""
    defaults: pb.RecommendRequest = field(default_factory=pb.RecommendRequest)
    """What holds where a call says nothing itself: the variant's strategy and configuration."""
    attributes: frozenset[str] = frozenset()
    """Those that items must have for the defaults to make sense."""
    limits: Limits | None = None
    """Of a canary; None for one that is compared with."""


@dataclass(frozen=True)
class ShadowPlan:
    """Which calls are replayed, and to whom."""

    variant: str
    share: float
    """Of the calls, from 0 to 1."""
    max_in_flight: int = 4
    """Replays at a time, at least 1; others are dropped."""


@dataclass(frozen=True, eq=False)
class Plan:
    """A whole file."""

    experiment: str = ""
    """Another name assigns users anew."""
    configs: Mapping[str, pb.RecommendRequest] = field(default_factory=dict)
    """Requests without a user, by name."""
    variants: Mapping[str, Variant] = field(default_factory=dict)
    shadow: ShadowPlan | None = None
