"""What a choice is worth to users that it was not made on: folds of users, and gains in pairs."""

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from offline.bootstrap import Difference
from offline.metrics import discounted_gains

FOLDS: Final = 5
MOST_USERS: Final = 2000
"""Users that are asked; more would not change the weights and take long."""
LEAST_GAIN: Final = 0.01
"""The share of NDCG@10 that a source must add to be worth its computation."""
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
class Worth:
    """What weights are worth to users that they were not fitted on."""

    gains: Gains
    likelihood: NDArray[np.float64]
    """The logarithm of how likely they made what came next, among the items that were ranked,
    float64 [users]; NaN where it was not among them."""


@dataclass(frozen=True)
class Decision:
    """Whether a source of scores is worth its cost: what it adds, out of fold.

    It is, where it makes what came next likelier by more than chance, and lists gain. The first is
    tested, because it uses every user's target wherever that stands: of a thousand users it can
    tell what NDCG@10, which most of them leave at 0, cannot. The second is asked because a source
    may know much about places far below those that anybody looks at.
    """

    source: str
    ndcg: float
    """NDCG@10 without it."""
    gain: Difference
    """Of NDCG@10."""
    likelier: Difference
    """Of the logarithm of the likelihood, in nats."""

    @classmethod
    def of(cls, source: str, added: Worth, without: Worth) -> "Decision":
        """Decides by what goes with it and what goes without."""
        return cls(
            source,
            float(without.gains.mean()),
            Difference.between(added.gains, without.gains),
            Difference.between(added.likelihood, without.likelihood),
        )

    @property
    def kept(self) -> bool:
        """Whether the source gets a weight."""
        return self.likelier.is_gain and self._lists_gain

    @property
    def _lists_gain(self) -> bool:
        return self.gain.mean > LEAST_GAIN * self.ndcg

    def __str__(self) -> str:
        return (
            f"{self.source}: NDCG@10 {_interval(self.gain)}, log-likelihood "
            f"{_interval(self.likelier)}; {self._verdict}"
        )

    @property
    def _verdict(self) -> str:
        if self.kept:
            return "kept"
        if not (self.gain.low or self.gain.high):
            return "left out because it changes no list"
        if not self.likelier.is_gain:
            return "left out because that may be chance"
        return f"left out because lists gain less than {LEAST_GAIN:.0%}"

    def to_json(self) -> dict[str, Any]:
        """As the manifest keeps it."""
        return {**asdict(self), "kept": self.kept, "reason": str(self)}


def _interval(difference: Difference) -> str:
    mean, low, high = map(signed, (difference.mean, difference.low, difference.high))
    return f"{mean} ({low} to {high})"


def signed(value: float) -> str:
    """A difference as the field's tables have it, such as +.0042."""
    return f"{value:+.4f}".replace("0.", ".", 1)
