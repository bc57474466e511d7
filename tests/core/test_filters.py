"""What filters cost: what is refused, what stops, what is remembered, and wide ranges."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import filters
from core.catalog import Catalog, Update
from core.errors import DeadlineExceeded, InvalidArgument
from core.filters import AllOf, AnyOf, Filter, Not, OneOf, Range, evaluate, satisfying
from core.masks import MaskMemory
from tests.core.filter_model import Attributes, attributes, conditions, holds, item

YEARS = [Range("year", 1990.0 + i, 1991.0 + i) for i in range(20)]


class Counting(Catalog):
    """A catalog that counts what it is asked."""

    asked = 0

    def within(self, attribute: str, low: float, high: float) -> np.ndarray:
        self.asked += 1
        return super().within(attribute, low, high)


@pytest.fixture
def catalog() -> Counting:
    return Counting([item(i, {"year": (1990.0 + i,)}) for i in range(30)])


def test_a_costly_filter_is_refused_before_it_is_evaluated(
    catalog: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filters, "MAX_WORK", 20 * 30 - 1)
    for costly in (AnyOf(tuple(YEARS)), Not(AllOf(tuple(YEARS)))):
        with pytest.raises(
            InvalidArgument, match=r"20 \* 30 = 600, and 599 is the limit"
        ) as refused:
            evaluate(costly, catalog)
        assert refused.value.reason == "FILTER_TOO_COSTLY"
        assert refused.value.metadata == {"work": "600", "limit": "599"}
    assert catalog.asked == 0
    assert evaluate(AnyOf(tuple(YEARS[1:])), catalog).sum() == 20


def test_values_of_a_list_count_less(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filters, "MAX_WORK", 3 * 30)
    years = tuple(1990.0 + i for i in range(24))
    assert evaluate(OneOf("year", years[:23]), catalog).sum() == 23
    with pytest.raises(InvalidArgument):
        evaluate(OneOf("year", years), catalog)


def test_work_ends_between_two_conditions(catalog: Counting) -> None:
    def proceed() -> None:
        if catalog.asked == 5:
            raise DeadlineExceeded("late", reason="DEADLINE_EXCEEDED")

    with pytest.raises(DeadlineExceeded):
        evaluate(AnyOf(tuple(YEARS)), catalog, proceed)
    assert catalog.asked == 5


def test_what_was_evaluated_is_not_evaluated_again(catalog: Counting) -> None:
    first = evaluate(AnyOf(tuple(YEARS)), catalog)
    assert catalog.asked == 20
    assert evaluate(AnyOf(tuple(YEARS)), catalog).tolist() == first.tolist()
    evaluate(Not(AllOf((YEARS[3], YEARS[7]))), catalog)
    assert catalog.asked == 20
    first[:] = False  # it is the caller's own
    assert evaluate(AnyOf(tuple(YEARS)), catalog).any()


def test_another_version_remembers_nothing(catalog: Catalog) -> None:
    assert evaluate(YEARS[0], catalog).tolist()[:3] == [True, True, False]
    following = catalog.apply([Update(item(0, {"year": (1999.0,)}))])
    assert evaluate(YEARS[0], following).tolist()[:3] == [False, True, False]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 40)), max_size=40))
def test_remembered_masks_are_the_latest_that_fit(used: list[tuple[int, int]]) -> None:
    memory = MaskMemory(limit=100)
    sizes = dict(reversed(used))
    order: list[int] = []
    for key, _ in used:
        if memory.get(key) is None:
            memory.put(key, np.zeros(sizes[key], np.uint8))
        order = [*(other for other in order if other != key), key]
        while sum(sizes[other] for other in order) > 100:
            del order[0]
        assert memory.nbytes == sum(sizes[other] for other in order)
    assert [key for key in sizes if memory.get(key) is not None] == [
        key for key in sizes if key in order
    ]


@given(st.lists(conditions, max_size=4), st.lists(attributes, max_size=5))
def test_items_satisfy_what_a_reader_would_say(
    several: list[Filter], items: list[Attributes]
) -> None:
    satisfied = satisfying(several, items)
    assert satisfied.shape == (len(several), len(items))
    assert satisfied.tolist() == [
        [holds(condition, item(0, own)) for own in items] for condition in several
    ]


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=60), st.floats(-6, 6), st.floats(0, 12))
def test_a_range_is_exact_however_wide(numbers: list[float], low: float, width: float) -> None:
    catalog = Catalog([item(i, {"n": (number,)}) for i, number in enumerate(numbers)])
    expected = [low <= number <= low + width for number in numbers]
    assert catalog.within("n", low, low + width).tolist() == expected
