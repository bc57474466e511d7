"""Texts for items that have none."""

import dataclasses

import numpy as np
import pytest

from offline.dataset.errors import DataWarning
from offline.dataset.reviews import Reviews
from offline.dataset.schema import Dataset
from offline.reviews.items import described
from offline.reviews.parts import Part, parts_of
from tests.offline.reviews.test_parts import dataset


def written(seed: int = 0) -> Dataset:
    rng = np.random.default_rng(seed)
    data = dataset([list(rng.integers(0, 8, 9)) for _ in range(20)], items=8)
    rows = range(len(data.item_index))
    return dataclasses.replace(
        data,
        reviews=Reviews(tuple(f"review{r}." for r in rows), tuple(f"summary{r}" for r in rows)),
    )


def test_items_are_described_by_training_texts_alone() -> None:
    data = written()
    with pytest.warns(DataWarning, match="8 of 8 items described"):
        texts = " ".join(item.text for item in described(data).items)
    words = set(texts.replace(".", " ").split())
    training = np.flatnonzero(parts_of(data) == Part.TRAINING)
    assert {word for word in words if word.startswith("summary")} == {
        f"summary{row}" for row in training
    }
    assert {int(word[6:]) for word in words if word.startswith("review")} <= set(training.tolist())


def test_what_is_asked_about_changes_no_description() -> None:
    data = written()
    asked = parts_of(data) != Part.TRAINING
    assert data.reviews is not None
    hidden = Reviews(
        *(
            tuple("hidden" if ask else text for ask, text in zip(asked, texts, strict=True))
            for texts in (data.reviews.texts, data.reviews.summaries)
        )
    )
    with pytest.warns(DataWarning):
        before, after = described(data), described(dataclasses.replace(data, reviews=hidden))
    assert before.items == after.items


def test_items_with_a_text_of_their_own_keep_it() -> None:
    data = written()
    items = tuple(dataclasses.replace(item, text="A thing.") for item in data.items)
    own = dataclasses.replace(data, items=items)
    assert described(own).items == items
