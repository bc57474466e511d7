"""Which interactions the families that know the item are trained and tested on.

Ratings, explanations and summaries are asked about an interaction that is given, so they are split
as P5 splits them (https://arxiv.org/abs/2203.13366): one interaction in ten is for testing and one
for validation, drawn at random, such that every user and every item in them is in training too.

One model also ranks, and for that each user's last two interactions are held out by leave-one-out
(`offline.dataset.split`). A prompt that names a user and an item tells that the two met, so none of
those held out is learned from in any family. They may be drawn for testing here. In the other
direction nothing leaks: what ranking learns of an interaction, that the two met, is what the
question of these families says anyway, and it learns neither the rating nor the text.
"""

from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from offline.dataset.schema import Dataset
from offline.dataset.split import training_length

SHARE: Final = 0.1
"""Of all interactions, for testing, and as many for validation."""


class Part(IntEnum):
    """What an interaction is for."""

    TRAINING = 0
    VALIDATION = 1
    TEST = 2
    UNUSED = 3
    """Held out by ranking, and not drawn for anything here."""


def parts_of(data: Dataset, seed: int = 0) -> NDArray[np.int8]:
    """The `Part` of each interaction, int8 [interactions].

    Args:
        data: The interactions.
        seed: Equal seeds draw the same.
    """
    users = np.repeat(np.arange(len(data.user_ids)), np.diff(data.indptr))
    return draw(users, data.item_index, learnable(data), seed)


def learnable(data: Dataset) -> NDArray[np.bool_]:
    """Which interactions ranking does not hold out, bool [interactions]."""
    lengths = np.diff(data.indptr)
    learned = np.array([training_length(int(n), data.tested) for n in lengths], dtype=np.int64)
    place = np.arange(len(data.item_index)) - np.repeat(data.indptr[:-1], lengths)
    own: NDArray[np.bool_] = place < np.repeat(learned, lengths)
    return own


def draw(
    users: NDArray[np.integer],
    items: NDArray[np.integer],
    learned: NDArray[np.bool_],
    seed: int,
) -> NDArray[np.int8]:
    """Draws validation and test interactions, one after another in a random order.

    One whose user or item would be left without any training interaction is passed over. So where
    interactions are few, fewer than a tenth may be drawn.

    Args:
        users: [interactions] whose each is.
        items: [interactions] with what.
        learned: [interactions] which may be learned from.
        seed: Equal seeds draw the same.

    Returns:
        The `Part` of each, int8 [interactions].
    """
    parts = np.where(learned, Part.TRAINING, Part.UNUSED).astype(np.int8)
    of_user = np.bincount(users[learned], minlength=int(users.max(initial=-1)) + 1)
    of_item = np.bincount(items[learned], minlength=int(items.max(initial=-1)) + 1)
    left = {Part.TEST: round(SHARE * len(users)), Part.VALIDATION: round(SHARE * len(users))}
    for row in np.random.default_rng(seed).permutation(len(users)):
        part = max(left, key=lambda part: left[part])
        if not left[part]:
            break
        user, item, own = users[row], items[row], int(learned[row])
        if of_user[user] > own and of_item[item] > own:
            parts[row] = part
            left[part] -= 1
            of_user[user] -= own
            of_item[item] -= own
    return parts
