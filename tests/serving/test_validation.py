"""Every limit of the contract's comments is enforced, with a reason."""

import math

import pytest

from core.errors import InvalidArgument
from core.filters import AllOf, AnyOf, Not, OneOf, Range
from serving import validation as edge
from tandem import filters
from tandem.v1.common_pb2 import AttributeValue, ItemFilter


@pytest.mark.parametrize(
    ("asked", "given"), [(0, 10), (1, 1), (100, 100), (101, 100), (2**31 - 1, 100)]
)
def test_sizes_default_and_are_coerced_down(asked: int, given: int) -> None:
    assert edge.result_count(asked, default=10, limit=100) == given


def test_a_negative_size_is_refused() -> None:
    with pytest.raises(InvalidArgument) as caught:
        edge.result_count(-1, default=10, limit=100)
    assert caught.value.reason == "NEGATIVE_MAX_RESULTS"


@pytest.mark.parametrize(
    ("ids", "reason"),
    [
        ([""], "EMPTY_ID"),
        (["a"] * 4, "TOO_MANY_ITEMS"),
        (["x" * 513], "ID_TOO_LONG"),
        (["é" * 257], "ID_TOO_LONG"),  # 514 bytes
        (["\U0001f600" * 129], "ID_TOO_LONG"),
    ],
)
def test_bad_identifiers_are_refused(ids: list[str], reason: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        edge.item_ids(ids, field="history_item_ids", limit=3)
    assert caught.value.reason == reason
    assert caught.value.metadata["field"] == "history_item_ids"


def test_long_identifiers_within_the_limit_pass() -> None:
    ids = ["x" * 512, "é" * 256, "\U0001f600" * 128]
    assert edge.item_ids(ids, field="f", limit=3) == ids
    assert edge.item_ids([], field="f", limit=3) == []


def nested(depth: int) -> ItemFilter:
    condition = filters.equals("a", "x")
    for _ in range(depth - 1):
        condition = ~condition
    return condition.message


def wide(count: int) -> ItemFilter:
    leaf = filters.equals("a", "x").message
    return ItemFilter(any_of=ItemFilter.AnyOf(filters=[leaf] * (count - 1)))


def test_filters_within_the_limits_pass() -> None:
    assert isinstance(edge.item_filter(nested(8)), Not)
    assert isinstance(edge.item_filter(wide(256)), AnyOf)


def test_a_filter_is_read_as_it_was_built() -> None:
    built = (
        (filters.equals("genre", "Drama") | filters.one_of("genre", ["War", "Crime"]))
        & filters.between("year", 1990, 1999)
        & ~filters.between("year", low=1995)
    )
    assert edge.item_filter(built.message) == AllOf(
        (
            AnyOf((OneOf("genre", ("Drama",)), OneOf("genre", ("War", "Crime")))),
            Range("year", 1990.0, 1999.0),
            Not(Range("year", 1995.0, math.inf)),
        )
    )


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (nested(9), "FILTER_TOO_LARGE"),
        (wide(257), "FILTER_TOO_LARGE"),
        (filters.one_of("a", ["x"] * 10_000).message, "FILTER_TOO_LARGE"),
        (ItemFilter(), "EMPTY_FILTER"),
        (ItemFilter(all_of=ItemFilter.AllOf()), "EMPTY_FILTER"),
        (ItemFilter(any_of=ItemFilter.AnyOf(filters=[ItemFilter()])), "EMPTY_FILTER"),
        ((~filters.Condition(ItemFilter())).message, "EMPTY_FILTER"),
        (filters.equals("", "x").message, "EMPTY_FILTER"),
        (filters.between("", 1, 2).message, "EMPTY_FILTER"),
        (filters.one_of("a", []).message, "EMPTY_FILTER"),
        (
            ItemFilter(equals=ItemFilter.Equals(attribute="a", value=AttributeValue())),
            "EMPTY_FILTER",
        ),
        (filters.equals("a", math.nan).message, "NOT_A_NUMBER"),
        (filters.between("a", math.nan, 1).message, "NOT_A_NUMBER"),
        (filters.between("a", 1, math.nan).message, "NOT_A_NUMBER"),
        (filters.between("a", 2, 1).message, "EMPTY_RANGE"),
    ],
)
def test_bad_filters_are_refused(message: ItemFilter, reason: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        edge.item_filter(message)
    assert caught.value.reason == reason


def test_a_filter_of_any_depth_ends_in_an_answer() -> None:
    """As deep as protobuf reads; what is deeper is no message at all."""
    message = filters.equals("a", "x").message
    for _ in range(45):  # two messages each: protobuf itself stops reading at a depth of 100
        outer = ItemFilter()
        outer.all_of.filters.append(message)
        message = outer
    with pytest.raises(InvalidArgument) as caught:
        edge.item_filter(message)
    assert caught.value.reason == "FILTER_TOO_LARGE"


def test_a_wide_filter_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def attribute(name: str) -> str:
        read.append(name)
        return name

    monkeypatch.setattr(edge, "_attribute", attribute)
    with pytest.raises(InvalidArgument):
        edge.item_filter(wide(100_000))
    assert len(read) < 256
