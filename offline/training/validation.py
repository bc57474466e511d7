"""What a model is judged by while it is trained."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from offline.dataset.schema import Holdout
from offline.metrics import ndcg, ranks_from_scores
from offline.training.config import TrainingConfig

Scores = Callable[[Sequence[NDArray[np.int32]]], NDArray[np.float32]]
"""[histories, items] what a model makes of every item after each history."""

_USERS_AT_ONCE: Final = 256
"""Scores of so many users are held at a time."""


@dataclass(frozen=True)
class Validation:
    """NDCG@10 on held-out items, seen items left out."""

    holdout: Holdout
    """Who is asked, and for what."""
    scores: Scores
    """Of the model as it is."""

    @classmethod
    def of(cls, holdout: Holdout, scores: Scores, config: TrainingConfig) -> "Validation":
        """With at most `validation_users` of the users, picked by the seed."""
        if len(holdout.users) <= config.validation_users:
            return cls(holdout, scores)
        rng = np.random.default_rng(config.seed)
        picked = np.sort(rng.choice(len(holdout.users), config.validation_users, replace=False))
        histories = [holdout.histories[i] for i in picked]
        return cls(Holdout(holdout.users[picked], histories, holdout.targets[picked]), scores)

    def ndcg(self) -> float:
        """NDCG@10 on the targets; 0 without any user to ask."""
        histories, targets = self.holdout.histories, self.holdout.targets
        if not len(targets):
            return 0.0
        ranks = [
            ranks_from_scores(
                self.scores(histories[start : start + _USERS_AT_ONCE]),
                targets[start : start + _USERS_AT_ONCE],
                seen=histories[start : start + _USERS_AT_ONCE],
            )
            for start in range(0, len(targets), _USERS_AT_ONCE)
        ]
        return ndcg(np.concatenate(ranks), 10)
