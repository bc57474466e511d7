"""Training, validation and test of the families that know the item."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from offline.dataset.schema import Dataset, Item
from offline.reviews.parts import Part, draw, learnable, parts_of


def dataset(histories: list[list[int]], items: int) -> Dataset:
    lengths = [len(history) for history in histories]
    flat = np.array([item for history in histories for item in history], dtype=np.int32)
    return Dataset(
        "made-up",
        tuple(Item(f"i{item}", f"i{item}", f"i{item}", {}) for item in range(items)),
        tuple(f"u{user}" for user in range(len(histories))),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        flat,
        np.arange(len(flat), dtype=np.int64),
    )


def users_of(data: Dataset) -> NDArray[np.int64]:
    return np.repeat(np.arange(len(data.user_ids)), np.diff(data.indptr))


datasets = st.lists(
    st.lists(st.integers(0, 6), min_size=1, max_size=12), min_size=1, max_size=30
).map(lambda histories: dataset(histories, items=7))


@given(data=datasets, seed=st.integers(0, 5))
def test_users_and_items_asked_about_are_in_training(data: Dataset, seed: int) -> None:
    parts = parts_of(data, seed)
    asked = (parts == Part.TEST) | (parts == Part.VALIDATION)
    for ids in (users_of(data), data.item_index):
        assert set(ids[asked]) <= set(ids[parts == Part.TRAINING])


@given(data=datasets, seed=st.integers(0, 5))
def test_nothing_that_ranking_holds_out_is_learned(data: Dataset, seed: int) -> None:
    parts = parts_of(data, seed)
    assert not (parts[~learnable(data)] == Part.TRAINING).any()
    learned = [len(sequence) for sequence in data.train()]
    assert learnable(data).sum() == sum(learned)


@given(data=datasets, seed=st.integers(0, 5))
def test_drawing_follows_from_the_seed(data: Dataset, seed: int) -> None:
    assert np.array_equal(parts_of(data, seed), parts_of(data, seed))


@pytest.mark.parametrize("held", [0, 2])
def test_a_tenth_each_is_drawn_where_there_is_plenty(held: int) -> None:
    rng = np.random.default_rng(0)
    users, items = np.repeat(np.arange(50), 20), rng.integers(0, 20, 1000)
    learned = np.tile(np.arange(20) < 20 - held, 50)
    parts = draw(users, items, learned, seed=3)
    assert [int((parts == part).sum()) for part in (Part.VALIDATION, Part.TEST)] == [100, 100]


def test_another_seed_draws_others() -> None:
    data = dataset([list(range(7)) * 3] * 20, items=7)
    assert not np.array_equal(parts_of(data, 0), parts_of(data, 1))
