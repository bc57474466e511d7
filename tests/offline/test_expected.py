"""What the query encoder expects of each user: against brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from offline.generator.items.expected import LIKELIEST, ExpectedItems, expect


class Newest:
    """Expects what is near the newest item."""

    def __init__(self) -> None:
        self.read: list[int] = []

    def encode(self, history: NDArray[np.float32]) -> NDArray[np.float32]:
        self.read.append(len(history))
        query: NDArray[np.float32] = 2 * history[-1]
        return query


def made_up(
    seed: int, items: int, users: int
) -> tuple[NDArray[np.float32], list[NDArray[np.int32]]]:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(items, 4)).astype(np.float32)
    return vectors, [
        rng.integers(0, items, rng.integers(0, 9)).astype(np.int32) for _ in range(users)
    ]


@given(st.integers(0, 2**32 - 1), st.sampled_from([3, 30, LIKELIEST + 50]))
@settings(max_examples=30, deadline=None)
def test_the_likeliest_of_what_a_user_has_not_had(seed: int, items: int) -> None:
    vectors, sequences = made_up(seed, items, users=5)
    expected = expect(Newest(), vectors, sequences, max_history=4)
    for user, sequence in enumerate(sequences):
        if not len(sequence):
            assert expected.chances[user].sum() == 0
            continue
        chance = np.exp(vectors.astype(np.float64) @ (2 * vectors[sequence[-1]]))
        if len(set(sequence.tolist())) < items:
            chance[sequence] = 0
        best = np.sort(chance)[::-1][:LIKELIEST]
        found = dict(zip(expected.items[user].tolist(), expected.chances[user], strict=True))
        assert sorted(found.values(), reverse=True) == pytest.approx(
            (best / best.sum()).tolist(), abs=1e-5
        )
        for item, value in found.items():
            assert value == pytest.approx(chance[item] / best.sum(), abs=1e-5)


def test_so_many_of_the_newest_items_are_read() -> None:
    encoder = Newest()
    vectors = np.eye(9, dtype=np.float32)
    expect(encoder, vectors, [np.arange(3, dtype=np.int32), np.arange(8, dtype=np.int32)], 4)
    assert encoder.read == [3, 4]


def test_items_are_drawn_by_their_chances() -> None:
    items = np.array([[1, 2, 3], [4, 5, 6]], np.int32)
    expected = ExpectedItems(items, np.array([[0.5, 0.5, 0.0], [0.1, 0.2, 0.7]]))
    users = np.repeat([0, 1], 20_000)
    drawn = expected.draw(users, np.random.default_rng(0))
    share = np.bincount(drawn, minlength=7)[1:] / 20_000
    assert share.tolist() == pytest.approx([0.5, 0.5, 0.0, 0.1, 0.2, 0.7], abs=0.02)


def test_a_users_vector_is_the_mean_of_the_expected_ones() -> None:
    table = np.array([[3.0, 0.0], [0.0, 0.5], [9.0, 9.0]], np.float32)
    items = np.array([[0, 1], [2, 0], [0, 1]], np.int32)
    expected = ExpectedItems(items, np.array([[0.6, 0.8], [1.0, 0.0], [0.0, 0.0]]))
    found = expected.vectors(table)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [[0.6, 0.8], [2**-0.5, 2**-0.5], [0.0, 0.0]], atol=1e-6)
