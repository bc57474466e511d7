"""Maximal marginal relevance against its definition, one choice after another."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.mmr import most_marginal
from tests.candidate.made_up import unit


def cosine(vectors: np.ndarray, place: int) -> np.ndarray:
    likeness: np.ndarray = vectors @ vectors[place]
    return likeness


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 20), st.integers(0, 25), st.floats(0, 1))
def test_every_choice_is_the_best_that_is_left(
    seed: int, items: int, count: int, diversity: float
) -> None:
    rng = np.random.default_rng(seed)
    vectors = unit(rng.normal(size=(items, 4)).astype(np.float32))
    relevance = rng.uniform(-1, 1, items)
    chosen = most_marginal(relevance, count, diversity, partial(cosine, vectors)).tolist()
    assert len(set(chosen)) == len(chosen) == min(items, count)
    for turn, best in enumerate(chosen):
        before, left = chosen[:turn], [i for i in range(items) if i not in chosen[:turn]]

        def worth(item: int, before: list[int] = before) -> float:
            if not before:
                return float(relevance[item])
            likeness = max(float(vectors[item] @ vectors[other]) for other in before)
            return (1 - diversity) * float(relevance[item]) - diversity * likeness

        assert worth(best) == pytest.approx(max(map(worth, left)), abs=1e-6)


def test_without_diversity_relevance_decides() -> None:
    relevance = np.array([0.1, 0.9, 0.9, 0.5])
    order = most_marginal(relevance, 4, 0.0, partial(cosine, np.eye(4)))
    assert order.tolist() == [1, 2, 3, 0]


def test_a_twin_waits_for_what_is_different() -> None:
    vectors = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    relevance = np.array([0.9, 0.9, 0.3])
    # The twin is worth .5 * .9 - .5 * 1 = -.05, what is different .5 * .3 - 0 = .15.
    assert most_marginal(relevance, 3, 0.5, partial(cosine, vectors)).tolist() == [0, 2, 1]


def test_what_is_in_the_list_anyway_counts_from_the_first_choice() -> None:
    relevance = np.array([0.9, 0.8])
    likeness = np.array([1.0, 0.0])  # to what is there: -.05 against .4
    order = most_marginal(relevance, 2, 0.5, partial(cosine, np.eye(2)), beside=likeness)
    assert order.tolist() == [1, 0]


class AtMostOneEven:
    def __init__(self) -> None:
        self.closed = False

    def among(self, left: np.ndarray) -> np.ndarray:
        odd = left & (np.arange(len(left)) % 2 == 1)
        return odd if self.closed and odd.any() else left

    def take(self, place: int) -> None:
        self.closed |= place % 2 == 0


def test_what_may_be_chosen_can_depend_on_what_is_chosen() -> None:
    relevance = np.array([0.9, 0.1, 0.8, 0.2])
    eye = partial(cosine, np.eye(4))
    order = most_marginal(relevance, 4, 0.0, eye, eligibility=AtMostOneEven())
    assert order.tolist() == [0, 3, 1, 2]
