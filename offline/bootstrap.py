"""How far a mean over users is to be trusted: percentile bootstrap intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Difference", "bootstrap_ci", "paired_bootstrap"]


def bootstrap_ci(
    values: NDArray[np.float64], *, level: float = 0.95, resamples: int = 1000, seed: int = 0
) -> NDArray[np.float64]:
    """Percentile bootstrap interval of the mean, resampling users.

    Args:
        values: `[users]` or `[users, metrics]`; the metrics share their resamples.
        level: The share of resampled means inside.
        resamples: How many.
        seed: Equal seeds give equal intervals.

    Returns:
        `[2]` or `[2, metrics]`: the lower and the upper end.
    """
    users = len(values)
    if users == 0:
        return np.full((2, *values.shape[1:]), np.nan)
    generator = np.random.default_rng(seed)
    means = np.empty((resamples, *values.shape[1:]))
    for i in range(resamples):
        means[i] = _resample(generator, users) @ values / users
    tail = (1.0 - level) / 2.0
    interval: NDArray[np.float64] = np.quantile(means, [tail, 1.0 - tail], axis=0)
    return interval


@dataclass(frozen=True)
class Difference:
    """By how much one thing exceeds another over the same users, and the 95% interval around it."""

    mean: float
    low: float
    high: float

    @classmethod
    def between(cls, one: NDArray[np.float64], other: NDArray[np.float64]) -> Difference:
        """The difference of two, `[users]`, in pairs of what is known of both (NaN is unknown)."""
        known = one - other
        known = known[~np.isnan(known)]
        if not len(known):
            return cls(0.0, 0.0, 0.0)
        low, high = bootstrap_ci(known)
        return cls(float(known.mean()), float(low), float(high))

    @property
    def is_gain(self) -> bool:
        """Whether it is more than chance: the whole interval lies above 0."""
        return self.low > 0


def paired_bootstrap(
    one: NDArray[np.float64],
    other: NDArray[np.float64],
    users: NDArray[np.integer],
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Difference:
    """Compare two ways of answering the same questions, resampling users and trainings.

    The questions of one user stay together: they are not independent of each other. So do all
    questions of one training, where there are several.

    Args:
        one: `[questions]` or `[trainings, questions]` gains, such as those of `gains`.
        other: What is subtracted, of the same shape; equal places are compared.
        users: `[questions]` whose question it is.
        level: The share of resampled means inside.
        resamples: How many.
        seed: Equal seeds give equal intervals.

    Returns:
        The mean of `one - other` over all questions, with its percentile interval.

    Raises:
        ValueError: The shapes disagree, or there are no questions.
    """
    if one.shape != other.shape or one.shape[-1:] != users.shape or not one.size:
        raise ValueError(f"gains {one.shape} and {other.shape} do not fit users {users.shape}")
    gained = np.atleast_2d(one - other)
    _, of_user, questions = np.unique(users, return_inverse=True, return_counts=True)
    sums = np.stack([np.bincount(of_user, row) for row in gained])  # [trainings, users]
    generator = np.random.default_rng(seed)
    means = np.empty(resamples)
    for i in range(resamples):
        taken, trained = (_resample(generator, size) for size in reversed(sums.shape))
        means[i] = trained @ sums @ taken / (trained.sum() * (questions @ taken))
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return Difference(float(gained.mean()), float(low), float(high))


def _resample(generator: np.random.Generator, size: int) -> NDArray[np.int64]:
    """How often each of so many is drawn, in as many draws."""
    return np.bincount(generator.integers(size, size=size), minlength=size)
