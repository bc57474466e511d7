"""Diversity: maximal marginal relevance, which weighs how well an item fits against its likes.

J. Carbonell and J. Goldstein, "The Use of MMR, Diversity-Based Reranking for Reordering Documents
and Producing Summaries", SIGIR 1998.
"""

import numpy as np
from numpy.typing import NDArray


def most_marginal(
    relevance: NDArray[np.float64], vectors: NDArray[np.float32], count: int, diversity: float
) -> NDArray[np.int64]:
    """Chooses items one after another, each beside those that are chosen already.

    The first is the most relevant. The next is, each time, the one with the largest
    `(1 - diversity) * relevance - diversity * likeness`, where likeness is its largest inner
    product with a chosen item; of equal ones the first.

    Args:
        relevance: float64 [items].
        vectors: float32 [items, dimension], of unit norm.
        count: how many to choose.
        diversity: from 0, relevance alone, to 1, unlikeness alone.

    Returns:
        int64 [at most `count`], the places of the chosen items, in the order of their choice.
    """
    chosen = np.empty(min(count, len(relevance)), np.int64)
    likeness = np.full(len(relevance), -np.inf)
    worth = relevance
    left = np.ones(len(relevance), np.bool_)
    for turn in range(len(chosen)):
        chosen[turn] = best = int(np.argmax(np.where(left, worth, -np.inf)))
        left[best] = False
        np.maximum(likeness, vectors @ vectors[best], out=likeness)
        worth = (1.0 - diversity) * relevance - diversity * likeness
    return chosen
