"""Item transitions, computed by hand and against a dense matrix."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.candidate.retrieval import transitions
from services.candidate.retrieval.transitions import SMOOTHING, Transitions
from tests.candidate.made_up import positions, random_transitions

# 0 → 1 (3), 0 → 2 (1), 1 → 2 (2), nothing after 2 and 3.
TABLE = Transitions(
    indptr=np.array([0, 2, 3, 3, 3]),
    items=positions(1, 2, 2),
    weights=np.array([3, 1, 2], dtype=np.float32),
    window=2,
    decay=0.5,
)


def test_one_item_by_hand() -> None:
    items, probability = TABLE.after(positions(0))
    assert items.tolist() == [1, 2]
    assert probability.tolist() == [0.75, 0.25]


def test_the_item_before_counts_decayed() -> None:
    items, probability = TABLE.after(positions(0, 1))
    assert items.tolist() == [1, 2]
    # 1: 3 * 0.5; 2: 2 + 1 * 0.5
    np.testing.assert_allclose(probability, [1.5 / 4, 2.5 / 4])


def test_items_beyond_the_window_do_not_count() -> None:
    items, _ = TABLE.after(positions(0, 2, 3))
    assert items.size == 0
    assert TABLE.after(positions())[0].size == 0


def test_log_probabilities_by_hand() -> None:
    reached, probability = TABLE.after(positions(0))
    logs = TABLE.log_probability(positions(3, 1), reached, probability)
    floor = SMOOTHING / 4
    expected = [math.log(floor), math.log(floor + (1 - SMOOTHING) * 0.75)]
    assert logs.tolist() == pytest.approx(expected)


def test_without_successors_all_items_are_equal() -> None:
    reached, probability = TABLE.after(positions(3))
    logs = TABLE.log_probability(positions(0, 1, 2, 3), reached, probability)
    assert len(set(logs.tolist())) == 1


@given(st.integers(0, 1000), st.lists(st.integers(0, 11), max_size=8), st.sampled_from([0, 64]))
def test_equals_the_dense_matrix(seed: int, history: list[int], dense_up_to: int) -> None:
    table = random_transitions(np.random.default_rng(seed), items=12)
    dense = np.zeros((12, 12))
    for i in range(12):
        row = slice(table.indptr[i], table.indptr[i + 1])
        dense[i, table.items[row]] = table.weights[row]
    expected = np.zeros(12)
    for steps_back, item in enumerate(reversed(history[-table.window :])):
        expected += table.decay**steps_back * dense[item]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transitions, "DENSE", dense_up_to)
        reached, probability = table.after(positions(*history))
    assert reached.dtype == np.int32
    assert reached.tolist() == np.flatnonzero(expected).tolist()
    if len(reached):
        np.testing.assert_allclose(probability, expected[reached] / expected.sum(), rtol=1e-6)
        everything = table.log_probability(positions(*range(12)), reached, probability)
        np.testing.assert_allclose(np.exp(everything).sum(), SMOOTHING + 1 - SMOOTHING)
