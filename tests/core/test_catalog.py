"""The catalog translates identifiers, and evaluates filters as a loop over the items would."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.catalog import Catalog
from core.errors import BundleError, InvalidArgument
from core.filters import AllOf, AnyOf, Filter, Not, OneOf, Range, evaluate
from serving import validation as edge
from tests.core.filter_model import NAMES, Attributes, attributes, conditions, holds, item


@given(st.lists(attributes, min_size=1, max_size=12), conditions)
def test_a_filter_marks_what_a_loop_over_the_items_finds(
    rows: list[Attributes], condition: Filter
) -> None:
    # One item that has every attribute, so that none is unknown.
    rows = [*rows, dict.fromkeys(NAMES, ("rare",))]
    items = [item(i, row) for i, row in enumerate(rows)]
    expected = [holds(condition, item) for item in items]
    assert evaluate(condition, Catalog(items)).tolist() == expected


@given(conditions)
def test_a_filter_survives_the_wire(condition: Filter) -> None:
    sent = edge.filter_message(condition).SerializeToString()
    assert edge.item_filter(type(edge.filter_message(condition)).FromString(sent)) == condition


def test_text_and_number_are_not_confused() -> None:
    catalog = Catalog([item(0, {"year": ("1990",)}), item(1, {"year": (1990.0,)})])
    assert evaluate(OneOf("year", ("1990",)), catalog).tolist() == [True, False]
    assert evaluate(OneOf("year", (1990.0,)), catalog).tolist() == [False, True]
    assert evaluate(Range("year"), catalog).tolist() == [False, True]


@pytest.mark.parametrize("wrap", [lambda f: f, Not, lambda f: AllOf((f,)), lambda f: AnyOf((f,))])
def test_an_unknown_attribute_is_the_callers_mistake(wrap: type[Not]) -> None:
    catalog = Catalog([item(0, {"genre": ("Drama",), "year": (1990.0,)})])
    with pytest.raises(InvalidArgument, match="'genres'; the catalog has: genre, year") as caught:
        evaluate(wrap(OneOf("genres", ("Drama",))), catalog)
    assert caught.value.reason == "UNKNOWN_ATTRIBUTE"


def test_lookup_keeps_order_and_duplicates_and_names_each_missing_id_once() -> None:
    catalog = Catalog([item(i, {}) for i in range(4)])
    positions, missing = catalog.lookup(["i2", "x", "i0", "y", "i2", "x"])
    assert positions.tolist() == [2, 0, 2]
    assert missing == ["x", "y"]
    assert catalog.ids(positions) == ["i2", "i0", "i2"]
    assert catalog.lookup([])[0].shape == (0,)


def test_written_catalog_reads_back(tmp_path: Path) -> None:
    catalog = Catalog(
        [item(0, {"genre": ("Comédie", "War"), "year": (1990.5,)}), item(1, {"genre": ()})]
    )
    catalog.write(tmp_path / "catalog.jsonl")
    again = Catalog.read(tmp_path / "catalog.jsonl")
    assert list(again.items) == list(catalog.items)
    assert again.popularity.tolist() == [0, 1]


def test_an_item_may_not_appear_twice() -> None:
    with pytest.raises(BundleError, match="twice"):
        Catalog([item(0, {}), item(0, {})])
