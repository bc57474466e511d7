"""Leave-one-out: which of a user's interactions are asked for, and which are learned from.

A user's last interaction is the test target, the last but one the validation target, and what comes
before is training. A user with fewer than three interactions is never evaluated and is training as
a whole. Where histories are long, several of the last interactions can be tested, each given
everything before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Split", "held_out", "training_length"]

Split = Literal["validation", "test"]


def training_length(interactions: int, tested: int = 1) -> int:
    """How many of a user's interactions are learned from, the oldest ones.

    Args:
        interactions: Of the user.
        tested: How many of the last are test targets; the one before them is for validation.

    >>> [training_length(interactions) for interactions in (2, 3, 10)]
    [2, 1, 8]
    """
    return interactions - tested - 1 if interactions > tested + 1 else interactions


def held_out(lengths: Iterable[int], split: Split, tested: int = 1) -> Iterator[tuple[int, int]]:
    """The targets of a split: places of users, and in their interactions, by user, oldest first.

    Args:
        lengths: How many interactions each user has.
        split: Which targets.
        tested: As in `training_length`.

    >>> list(held_out([3, 2, 10], "test"))
    [(0, 2), (2, 9)]
    """
    for user, interactions in enumerate(lengths):
        learned = training_length(interactions, tested)
        targets = range(learned, interactions)
        for place in targets[:1] if split == "validation" else targets[1:]:
            yield user, place
