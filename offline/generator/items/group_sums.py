"""The logarithm of the summed likelihood of the items of each group, in few passes over memory.

With thousands of items this is most of what a training step reads and writes, so the scores are
overwritten by what the gradient needs of them instead of being kept beside it.
"""

from typing import Any

import torch
from torch import Tensor


def group_sums(scores: Tensor, group: Tensor) -> tuple[Tensor, Tensor]:
    """`scores.logsumexp(2)`, and the scores of one group of each row; overwrites the scores.

    Args:
        scores: float [rows, groups, width], which nobody else reads.
        group: int64 [rows] the group of each row whose scores are returned.

    Returns:
        [rows, groups] the logarithms of the sums, and [rows, width] the scores.
    """
    sums: tuple[Tensor, Tensor] = _GroupSums.apply(scores, group)  # type: ignore[no-untyped-call]
    return sums


class _GroupSums(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor, group: Tensor) -> tuple[Tensor, Tensor]:
        rows = torch.arange(len(group), device=group.device)
        inside = scores[rows, group]
        largest = scores.amax(dim=2, keepdim=True)
        powers = scores.sub_(largest).exp_()
        totals = powers.sum(dim=2)
        ctx.save_for_backward(powers, totals, rows, group)
        return totals.log() + largest.squeeze(2), inside

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        powers, totals, rows, group = ctx.saved_tensors
        of_sums, of_inside = gradients
        gradient = powers * (of_sums / totals)[:, :, None]
        gradient.index_put_((rows, group), of_inside, accumulate=True)
        return gradient, None
