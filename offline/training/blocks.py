"""Losses over a whole catalog in memory that does not grow with the catalog.

A step scores every item for some thousand targets. Where that is too much to hold at once, targets
are taken block by block, and what is between a block's inputs and its losses is computed again for
the gradient instead of being kept (https://arxiv.org/abs/1604.06174).
"""

from collections.abc import Callable
from typing import Final

from torch import Tensor
from torch.utils.checkpoint import checkpoint

LARGEST: Final = 1 << 26
"""Scores that are held at once: 256 MiB, some times over."""


def block_rows(items: int) -> int:
    """How many targets, each with the scores of so many items, are taken at once."""
    return max(1, LARGEST // items)


def recomputed(function: Callable[..., Tensor], *inputs: Tensor, again: bool) -> Tensor:
    """Runs a function; its intermediate values are computed again for the gradient if so asked."""
    if not again:
        return function(*inputs)
    result: Tensor = checkpoint(function, *inputs, use_reentrant=False)
    return result


def weighted_mean(losses: Tensor, weights: Tensor | None, known: Tensor) -> Tensor:
    """The mean of losses.

    Args:
        losses: float32 [targets].
        weights: float32, of the shape of `known`; None where all count alike.
        known: bool, where there is a target.
    """
    if weights is None:
        return losses.mean()
    counted = weights.to(losses.device)[known]
    return (losses * counted).sum() / counted.sum()
