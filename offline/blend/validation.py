"""What a choice is worth to users that it was not made on: folds of users, and gains in pairs."""

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from offline.bootstrap import bootstrap_ci
from offline.metrics import discounted_gains

FOLDS: Final = 5
MOST_USERS: Final = 2000
"""Users that are asked; more would not change the weights and take long."""
CUTOFF: Final = 10
"""Places of a list that count: NDCG@10."""

Gains = NDArray[np.float64]
"""NDCG@10 of each user, float64 [users]."""


def folds(users: int, seed: int = 0) -> NDArray[np.int64]:
    """Puts users into folds of equal size by chance, int64 [users]."""
    return np.random.default_rng(seed).permutation(users) % FOLDS


def gains_of(ranks: NDArray[np.float64]) -> Gains:
    """The NDCG@10 of ranks, infinite for what is not in a list."""
    return discounted_gains(ranks, CUTOFF)


@dataclass(frozen=True)
class Difference:
    """By how much one thing's NDCG@10 exceeds another's over the same users."""

    mean: float
    low: float
    """Lower end of the 95% interval, by bootstrap over users."""
    high: float
    """Its upper end."""

    @classmethod
    def between(cls, one: Gains, other: Gains) -> "Difference":
        """The difference of two, in pairs."""
        low, high = bootstrap_ci(one - other)
        return cls(float((one - other).mean()), float(low), float(high))

    @property
    def is_gain(self) -> bool:
        """Whether it is more than chance, at 95%."""
        return self.low > 0


@dataclass(frozen=True)
class Decision:
    """Whether a source of scores is worth its cost."""

    source: str
    kept: bool
    gain: Difference
    """Out of fold, over what goes without it."""

    def __str__(self) -> str:
        gain = self.gain
        verdict = "kept" if self.kept else "left out because that may be chance"
        if not (gain.low or gain.high):
            verdict = "left out because it changes no list"
        return (
            f"{self.source}: {signed(gain.mean)} NDCG@10 "
            f"({signed(gain.low)} to {signed(gain.high)}), {verdict}"
        )

    def to_json(self) -> dict[str, Any]:
        """As the manifest keeps it."""
        return {**asdict(self), "reason": str(self)}


def signed(value: float) -> str:
    """A difference as the field's tables have it, such as +.0042."""
    return f"{value:+.4f}".replace("0.", ".", 1)
