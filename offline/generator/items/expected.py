"""What is expected of each user next: what a user's name is learned from, beside their own items.

A prompt that names a user shows no history, so that all that is known of the user is in one token.
Their own items say what they have had, and what comes next is something else. The way from one to
the other is what the query encoder has learned from everybody, and it is trained by then: a user's
token starts as the vector that it expects next, and a part of the targets is drawn from its
likeliest items, none of which the user has had (distillation, https://arxiv.org/abs/1503.02531).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.candidate.retrieval.encoders import QueryEncoder

LIKELIEST: Final = 100
"""Items of each user that are kept, at most."""


@dataclass(frozen=True)
class ExpectedItems:
    """The likeliest next items of every user.

    Attributes:
        items: int32 [users, items]
        chances: float64 [users, items], which sum to 1; to 0 of a user without any history.
    """

    items: NDArray[np.int32]
    chances: NDArray[np.float64]

    def draw(self, users: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int32]:
        """One of each user's items by chance, int32 [users]."""
        reached = self.chances[users].cumsum(axis=1) <= rng.random((len(users), 1))
        place = reached.sum(axis=1).clip(max=self.items.shape[1] - 1)
        drawn: NDArray[np.int32] = self.items[users, place]
        return drawn

    def vectors(self, table: NDArray[np.float32]) -> NDArray[np.float32]:
        """The mean of each user's expected items, of unit norm, float32 [users, dimension].

        Args:
            table: float32 [items, dimension], of any space.
        """
        units = table / np.linalg.norm(table, axis=1, keepdims=True).clip(min=1e-9)
        means = np.stack([c @ units[i] for c, i in zip(self.chances, self.items, strict=True)])
        lengths = np.linalg.norm(means, axis=1, keepdims=True).clip(min=1e-9)
        vectors: NDArray[np.float32] = (means / lengths).astype(np.float32)
        return vectors


def expect(
    encoder: QueryEncoder,
    vectors: NDArray[np.float32],
    sequences: Sequence[NDArray[np.int32]],
    max_history: int,
) -> ExpectedItems:
    """Asks the query encoder about every user.

    Args:
        encoder: trained on these sequences or others.
        vectors: float32 [items, dimension], the item vectors that it compares with.
        sequences: each user's training items, oldest first.
        max_history: newest items that it reads.
    """
    count = min(LIKELIEST, len(vectors))
    items = np.zeros((len(sequences), count), np.int32)
    chances = np.zeros((len(sequences), count))
    for user, sequence in enumerate(sequences):
        if not len(sequence):
            continue
        scores = vectors @ encoder.encode(vectors[sequence[-max_history:]])
        if len(np.unique(sequence)) < len(vectors):  # who has had everything may have it again
            scores[sequence] = -np.inf
        best = np.argpartition(-scores, count - 1)[:count]
        likely = np.exp(scores[best].astype(np.float64) - scores[best].max())
        items[user], chances[user] = best, likely / likely.sum()
    return ExpectedItems(items, chances)
