"""Which token comes next: the likeliest, or one drawn among the likely ones."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn.

    With `top_p`, from the smallest set of tokens that has that share of the probability (nucleus
    sampling, Holtzman et al., https://arxiv.org/abs/1904.09751).
    """

    top_p: float
    """Above 0, at most 1."""
    seed: int
    """Equal seeds draw equal texts."""


class Chooser:
    """Chooses the tokens of one text, one after the other.

    Args:
        sampling: how; None takes the likeliest each time.
    """

    def __init__(self, sampling: Sampling | None) -> None:
        self._sampling = sampling
        self._random = None if sampling is None else np.random.default_rng(sampling.seed)

    def choose(self, logits: NDArray[np.float32]) -> int:
        """The next token, by the logits [vocabulary] of all."""
        if self._sampling is None or self._random is None:
            return int(logits.argmax())
        likely, shares = nucleus(logits, self._sampling.top_p)
        drawn = np.searchsorted(shares.cumsum(), self._random.random() * shares.sum())
        return int(likely[min(drawn, len(likely) - 1)])


def nucleus(
    logits: NDArray[np.float32], top_p: float
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The smallest set of tokens that has a share of the probability: likeliest first, and the
    probability of each."""
    powers = np.exp((logits - logits.max()).astype(np.float64))
    order = np.argsort(-logits, kind="stable")
    shares = powers[order] / powers.sum()
    count = int(np.searchsorted(shares.cumsum(), top_p)) + 1
    return order[:count], shares[:count]
