"""How lists differ: against figures worked out by hand, and the definitions summed term by term."""

import math
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.shadow.differences import differences, overlap, rank_biased_overlap

LISTS = st.builds(
    lambda items, length: items[:length], st.permutations("abcdefghijklmno"), st.integers(0, 12)
)
"""Of up to twelve items, among which any two have some in common."""


def summed(one: list[str], other: list[str], p: float) -> float:
    """The definition's infinite sum of agreements, as far as a float can tell."""
    short, long = sorted((one, other), key=len)
    if not short:
        return float(not long)
    tail = len(set(short) & set(long[: len(short)])) / len(short)
    total, agreement = 0.0, 0.0
    for depth in range(1, math.ceil(math.log(1e-12, p))):
        if depth <= len(long):
            common = len(set(short[:depth]) & set(long[:depth]))
            agreement = (common + tail * max(depth - len(short), 0)) / depth
        total += (1 - p) * p ** (depth - 1) * agreement
    return total


def equation_32(one: list[str], other: list[str], p: float) -> float:
    """RBO_ext as the paper prints it, for lists that are not empty."""
    short, long = sorted((one, other), key=len)
    s, l = len(short), len(long)  # noqa: E741 - the paper's names
    x = [len(set(short[:d]) & set(long[:d])) for d in range(l + 1)]
    both = sum(x[d] / d * p**d for d in range(1, l + 1))
    beyond = sum(x[s] * (d - s) / (s * d) * p**d for d in range(s + 1, l + 1))
    return (1 - p) / p * (both + beyond) + ((x[l] - x[s]) / l + x[s] / s) * p**l


def test_figures_worked_out_by_hand() -> None:
    # Agreement is 0 at depth 1 and 1 from 2 on: all but the weight of the first, 1 - p.
    assert rank_biased_overlap("ab", "ba", 0.9) == pytest.approx(0.9)
    # 1 at depth 1, 1/2 at 2 and ever after: .5 · 1 + .5 · 1/2.
    assert rank_biased_overlap("ab", "ac", 0.5) == pytest.approx(0.75)
    # One item against two, the first the same: 1 at depth 1; at 2, (1 + 1 · 1) / 2 = 1.
    assert rank_biased_overlap("a", "ab", 0.5) == pytest.approx(1.0)
    # The second the same: 0 at depth 1; at 2 and after, (1 + 0) / 2: .5 · 1/2.
    assert rank_biased_overlap("b", "ab", 0.5) == pytest.approx(0.25)
    assert overlap("abcde", "edxyz", 5) == pytest.approx(2 / 5)
    assert overlap("abcde", "a", 5) == pytest.approx(1 / 5)


def test_a_depth_that_no_list_reaches_is_left_out() -> None:
    found = differences(list("abcdef"), list("bacde"))
    assert found.overlaps == {1: 0.0, 5: 1.0}
    assert differences([], []).overlaps == {}


def test_empty_lists_are_equal_and_unlike_others() -> None:
    assert rank_biased_overlap([], []) == 1.0
    assert rank_biased_overlap([], ["a"]) == rank_biased_overlap(["a"], []) == 0.0


@given(LISTS, LISTS, st.sampled_from((0.5, 0.9, 0.98)))
def test_rbo_equals_the_sum_of_its_definition(one: list[str], other: list[str], p: float) -> None:
    assert rank_biased_overlap(one, other, p) == pytest.approx(summed(one, other, p), abs=1e-9)
    if one and other:
        expected = equation_32(one, other, p)
        assert rank_biased_overlap(one, other, p) == pytest.approx(expected, abs=1e-12)


@given(LISTS, LISTS)
def test_measures_are_symmetric_and_from_0_to_1(one: list[str], other: list[str]) -> None:
    found = differences(one, other)
    assert found.overlaps == differences(other, one).overlaps
    assert found.rbo == pytest.approx(differences(other, one).rbo, abs=1e-12)
    assert all(0.0 <= each <= 1.0 for each in (found.rbo, *found.overlaps.values()))
    if not set(one) & set(other) and (one or other):
        assert found.rbo == pytest.approx(0.0, abs=1e-12)


@given(LISTS)
def test_equal_lists_overlap_by_exactly_1(items: list[str]) -> None:
    found = differences(items, list(items))
    assert {found.rbo, *found.overlaps.values()} == {1.0}


@given(LISTS.filter(lambda items: len(items) >= 2), st.data())
def test_a_swap_further_up_weighs_more(items: list[str], data: st.DataObject) -> None:
    def swapped(place: int) -> float:
        other = [*items[:place], items[place + 1], items[place], *items[place + 2 :]]
        return rank_biased_overlap(items, other)

    places = data.draw(st.permutations(range(len(items) - 1)))
    for upper, lower in product(places, places):
        if upper < lower:
            assert swapped(upper) < swapped(lower)
