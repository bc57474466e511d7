"""Ratings to learn from and to test on, as places among the few values that a rating may have."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from offline.dataset.errors import DataError
from offline.dataset.schema import Dataset
from offline.reviews.parts import Part, parts_of
from services.generator.prompts import rating_text

RATING_PARTS: Final = "rating_parts.npy"
"""The bundle's file of what each interaction's rating is for, int8 [interactions]; evaluation reads
it."""
MOST_VALUES: Final = 20
"""Each value is something that the model can say; one to five, in halves, are nine."""


@dataclass(frozen=True)
class Rated:
    """Ratings; all arrays are [ratings]."""

    users: NDArray[np.int64]
    items: NDArray[np.int64]
    values: NDArray[np.int64]
    """Which of the values that a rating may have, by place."""


@dataclass(frozen=True)
class Ratings:
    """The ratings of a dataset.

    Attributes:
        values: What a rating may be, ascending.
        parts: `[interactions]` what each is for; see `offline.reviews.parts.Part`.
        rated: All of them, in the order of the dataset.
    """

    values: tuple[float, ...]
    parts: NDArray[np.int8]
    rated: Rated

    @classmethod
    def of(cls, data: Dataset, seed: int) -> "Ratings":
        """Those of a dataset.

        Args:
            data: Whose interactions are rated.
            seed: Draws which are tested on.

        Raises:
            DataError: It has none, or they have too many values.
        """
        if data.ratings is None:
            raise DataError(
                "the data have no ratings to learn from: name their column with --rating-column, "
                "or leave the family out with --family rating=0"
            )
        values, places = np.unique(data.ratings, return_inverse=True)
        if len(values) > MOST_VALUES:
            raise DataError(
                f"ratings have {len(values):,} different values, and a model can say {MOST_VALUES} "
                "at most: round them, or leave the family out with --family rating=0"
            )
        users = np.repeat(np.arange(len(data.user_ids)), np.diff(data.indptr))
        rated = Rated(users, data.item_index.astype(np.int64), places.ravel().astype(np.int64))
        return cls(tuple(values.tolist()), parts_of(data, seed), rated)

    def part(self, part: Part) -> Rated:
        """Those that are for something."""
        rows = np.flatnonzero(self.parts == part)
        rated = self.rated
        return Rated(rated.users[rows], rated.items[rows], rated.values[rows])


def rating_codes(values: int, tokenizer: Tokenizer, levels: int, pad: int) -> NDArray[np.int32]:
    """Ratings as token ids, padded to the length of an item's code, int32 [values, levels].

    Args:
        values: How many values a rating may have.
        tokenizer: Of the model, which has a token for each; see `rating_text`.
        levels: The length of an item's code, which the graphs read.
        pad: The token that fills codes up.
    """
    tokens = [tokenizer.token_to_id(rating_text(value)) for value in range(values)]
    codes = np.full((values, levels), pad, np.int32)
    codes[:, 0] = [token for token in tokens if token is not None]
    return codes
