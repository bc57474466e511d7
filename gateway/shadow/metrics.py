"""What the shadow counts: how a variant's lists differ from those that callers got."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram

from gateway.shadow.differences import DEPTHS, Differences
from gateway.variants.plan import MAX_VARIANTS
from serving.telemetry.labels import Labeled
from serving.telemetry.metrics import NO_REASON, SECONDS
from serving.telemetry.reasons import REASONS

COMPARED: Final = "compared"
FAILED: Final = "failed"
DROPPED: Final = "dropped"

_TENTHS: Final = tuple(tenths / 10 for tenths in range(11))
_ANSWERS: Final = ("caller", "variant")


class ShadowMetrics:
    """Differences, times and outcomes of replayed calls, by variant.

    Args:
        registry: of the process.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._variants: set[str] = set()
        self._replays = Labeled(
            Counter(
                "tandem_gateway_shadow_replays_total",
                "Calls that were replayed to a variant, by what came of it: compared, failed with "
                "a reason, or dropped, because as many were in flight or calls kept the gateway "
                "busy.",
                ["variant", "outcome", "reason"],
                registry=registry,
            ),
            self._variants, (COMPARED, FAILED, DROPPED), (*REASONS, NO_REASON),
        )  # fmt: skip
        self._overlap = Labeled(
            Histogram(
                "tandem_gateway_shadow_overlap",
                "The share of the first k items of a caller's list that are among the variant's "
                "first k, of lists that have as many.",
                ["variant", "k"],
                buckets=_TENTHS,
                registry=registry,
            ),
            self._variants, tuple(map(str, DEPTHS)),
        )  # fmt: skip
        self._rbo = Labeled(
            Histogram(
                "tandem_gateway_shadow_rbo",
                "Rank-biased overlap of a caller's list and the variant's, with p = 0.9: 1 for the "
                "same, 0 for nothing in common.",
                ["variant"],
                buckets=_TENTHS[1:],
                registry=registry,
            ),
            self._variants,
        )
        self._seconds = Labeled(
            Histogram(
                "tandem_gateway_shadow_seconds",
                "What the answers that were compared took, without waiting for a turn: that of the "
                "caller, and that of the variant.",
                ["variant", "answer"],
                buckets=SECONDS,
                registry=registry,
            ),
            self._variants, _ANSWERS,
        )  # fmt: skip

    def know(self, variant: str) -> None:
        """Gives a variant of the serving file series of its own, while there are few; those known
        later are counted as `other`."""
        if len(self._variants) < MAX_VARIANTS:
            self._variants.add(variant)

    def compared(
        self, variant: str, found: Differences, caller_seconds: float, variant_seconds: float
    ) -> None:
        """Notes two answers to the same request."""
        for depth, share in found.overlaps.items():
            self._overlap.of(variant, str(depth)).observe(share)
        self._rbo.of(variant).observe(found.rbo)
        self._seconds.of(variant, "caller").observe(caller_seconds)
        self._seconds.of(variant, "variant").observe(variant_seconds)

    def ended(self, variant: str, outcome: str, reason: str = NO_REASON) -> None:
        """Notes what a replay came to.

        Args:
            variant: that was to answer.
            outcome: compared, failed or dropped.
            reason: of the error.
        """
        self._replays.of(variant, outcome, reason).inc()
