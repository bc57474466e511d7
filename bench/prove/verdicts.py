"""What the comparison says: differences of the arms, and a sentence about each."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bench.prove.proof import SeedOutcome
from offline.blend.validation import signed
from offline.bootstrap import Difference, paired_bootstrap
from offline.metrics import Ranking, gains

METRICS: Final = ("hr@10", "ndcg@10")
DECIDES: Final = "ndcg@10"
"""Filtered: what the verdicts are about."""


@dataclass(frozen=True)
class Claim:
    """What a positive difference of two arms would show."""

    one: str
    other: str
    says: str
    """To follow "shown: " or "not shown: "."""

    @property
    def name(self) -> str:
        """As the field writes it."""
        return f"{self.one} − {self.other}"


CLAIMS: Final = (
    Claim("B", "A", "the generator helps"),
    Claim("B", "C", "it helps because it is generative, beyond what any second model brings"),
    Claim("B", "D", "it helps that its codes say something of the items"),
    Claim("B", "S", "the decoder of codes adds to the softmax over items that it starts from"),
    Claim("C", "A", "a second query encoder helps"),
)


@dataclass(frozen=True)
class Verdict:
    """A claim, and what was found."""

    claim: Claim
    hr: Difference
    ndcg: Difference

    @property
    def shown(self) -> bool:
        """Whether the gain in NDCG@10 is more than chance."""
        return self.ndcg.is_gain

    def __str__(self) -> str:
        found, claim = self.ndcg, self.claim
        interval = f"95% {signed(found.low)} to {signed(found.high)}"
        if self.shown:
            start, reason = "Shown", "all above 0"
        elif found.high < 0:
            start, reason = "Not shown, but the opposite", "all below 0"
        else:
            start, reason = "Not shown", "which holds 0"
        figure = f"{claim.name} is {signed(found.mean)} NDCG@10 ({interval}, {reason})"
        return f"{start}: {claim.says}. {figure}."

    def to_json(self) -> dict[str, Any]:
        """As the report keeps it."""
        return {
            "claim": self.claim.says,
            "difference": self.claim.name,
            "hr@10": asdict(self.hr),
            "ndcg@10": asdict(self.ndcg),
            "shown": self.shown,
            "sentence": str(self),
        }


def verdicts(outcomes: Sequence[SeedOutcome]) -> list[Verdict]:
    """All claims, each with its differences over users and seeds, filtered."""
    return [
        Verdict(claim, *(_difference(outcomes, claim, metric) for metric in METRICS))
        for claim in CLAIMS
    ]


def _difference(outcomes: Sequence[SeedOutcome], claim: Claim, metric: str) -> Difference:
    one, other = (values(outcomes, arm, "filtered", metric) for arm in (claim.one, claim.other))
    return paired_bootstrap(one, other, outcomes[0].users)


def values(
    outcomes: Sequence[SeedOutcome], row: str, ranking: Ranking, metric: str
) -> NDArray[np.float64]:
    """A metric's values, float64 [seeds, questions]."""
    return np.stack([gains(metric, outcome.of(row, ranking)) for outcome in outcomes])
