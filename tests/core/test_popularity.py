"""Popularity against sorting, as items are appended."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.popularity import ItemPopularity

counts = st.lists(st.integers(0, 4), max_size=12).map(lambda values: np.array(values, np.int64))


@given(counts, counts, st.integers(0, 30), st.data())
def test_appending_is_counting_again(
    first: np.ndarray, second: np.ndarray, count: int, data: st.DataObject
) -> None:
    joined = np.concatenate([first, second])
    popularity = ItemPopularity.of(first).extended(second)
    assert popularity.order.tolist() == ItemPopularity.of(joined).order.tolist()
    size = len(joined)
    allowed = np.array(data.draw(st.lists(st.booleans(), min_size=size, max_size=size)), np.bool_)
    best = sorted(np.flatnonzero(allowed).tolist(), key=lambda item: (-joined[item], item))
    assert popularity.best(count, allowed)[0].tolist() == best[:count]


def test_shares_sum_to_one() -> None:
    popularity = ItemPopularity.of(np.array([0, 3, 1]))
    shares = np.exp(popularity.best(3, None)[1])
    assert shares.tolist() == pytest.approx([4 / 7, 2 / 7, 1 / 7])
