"""Made-up reviews: each user likes one thing, and each item has one."""

import dataclasses

import numpy as np

from offline.dataset.reviews import Reviews
from offline.dataset.schema import Dataset
from offline.reviews.examples import Written
from offline.reviews.features import Features
from offline.reviews.parts import Part
from tests.offline.reviews.test_parts import dataset

THINGS = ("strap", "tone", "cable", "pedal", "tuner", "string")
ITEMS = len(THINGS)
USERS = 8


def reviewed() -> Dataset:
    """Everybody has had everything, in an order of their own."""
    histories = [list(np.roll(range(ITEMS), user)) for user in range(USERS)]
    data = dataset(histories, items=ITEMS)
    things = [THINGS[item] for item in data.item_index]
    texts = tuple(f"Bought it twice. The {thing} is what makes it." for thing in things)
    return dataclasses.replace(data, reviews=Reviews(texts, tuple(f"a {t}" for t in things)))


def written(data: Dataset | None = None) -> Written:
    """The same, with so few reviews that a feature word stands in three."""
    data = data or reviewed()
    assert data.reviews is not None
    made = Written.of(data, data.reviews)
    rows = np.flatnonzero(made.parts == Part.TRAINING)
    counted = [(int(data.item_index[row]), data.reviews.texts[row]) for row in rows]
    return dataclasses.replace(made, features=Features.of(counted, least=2, largest_share=0.5))
