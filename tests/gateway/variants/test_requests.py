"""Requests over configurations: what is set above goes before, and what is forbidden stays so."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.filters import evaluate
from gateway.domain import Strategy
from gateway.requests import read_query
from gateway.variants.requests import completed, layered
from serving.validation import item_filter
from tandem.v1 import recommendation_service_pb2 as pb
from tandem.v1.common_pb2 import AttributeValue, ItemFilter
from tests.tiny_bundle import GENRES, catalog

SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "max_results": st.integers(1, 100),
    "strategy": st.sampled_from([1, 2, 3, 4]),
    "diversity": st.floats(0, 1),
    "forbid_degraded": st.just(True),
    "diagnostics": st.just(True),
}
LISTS: dict[str, Any] = {
    "pinned_items": pb.PinnedItem(item_id="i1", position=2),
    "attribute_caps": pb.AttributeCap(attribute="genre", max_items=1),
    "boosts": pb.ConditionBoost(boost=0.5),
}
leaves = st.sampled_from(GENRES).map(
    lambda genre: ItemFilter(
        equals=ItemFilter.Equals(attribute="genre", value=AttributeValue(text=genre))
    )
) | st.integers(1990, 2002).map(
    lambda year: ItemFilter(range=ItemFilter.Range(attribute="year", min=year))
)
filters = leaves | st.lists(leaves, min_size=1, max_size=3).map(
    lambda several: ItemFilter(all_of=ItemFilter.AllOf(filters=several))
)


@st.composite
def requests(draw: st.DrawFn) -> pb.RecommendRequest:
    request = pb.RecommendRequest()
    for name, values in SCALARS.items():
        if draw(st.booleans()):
            setattr(request, name, draw(values))
    for name, element in LISTS.items():
        if draw(st.booleans()):
            getattr(request, name).append(element)
    request.constraints.excluded_item_ids.extend(draw(st.lists(st.sampled_from("abc"), max_size=2)))
    if draw(st.booleans()):
        request.constraints.filter.CopyFrom(draw(filters))
    if draw(st.booleans()):
        request.constraints.include_seen = True
    if draw(st.booleans()):
        request.item_fields.paths.append(draw(st.sampled_from(["title", "attributes"])))
    return request


def passing(request: pb.RecommendRequest) -> set[int]:
    """The items of the tiny bundle that a request's filter lets through."""
    items = catalog()
    if not request.constraints.HasField("filter"):
        return set(range(len(items)))
    return set(evaluate(item_filter(request.constraints.filter), items).nonzero()[0].tolist())


@given(requests(), requests())
def test_what_is_set_above_goes_before(
    lower: pb.RecommendRequest, upper: pb.RecommendRequest
) -> None:
    whole = layered(lower, upper)
    above = {field.name for field, _ in upper.ListFields()}
    for name in (*SCALARS, *LISTS, "item_fields"):
        assert getattr(whole, name) == getattr(upper if name in above else lower, name), name
    seen = lower.constraints.include_seen or upper.constraints.include_seen
    assert whole.constraints.include_seen == seen


@given(requests(), requests())
def test_filters_and_exclusions_of_both_hold(
    lower: pb.RecommendRequest, upper: pb.RecommendRequest
) -> None:
    whole = layered(lower, upper)
    assert passing(whole) == passing(lower) & passing(upper)
    excluded = {*lower.constraints.excluded_item_ids, *upper.constraints.excluded_item_ids}
    assert set(whole.constraints.excluded_item_ids) == excluded


@given(requests(), requests(), requests())
def test_layers_come_to_the_same_in_any_order(
    first: pb.RecommendRequest, second: pb.RecommendRequest, third: pb.RecommendRequest
) -> None:
    assert layered(first, layered(second, third)) == layered(layered(first, second), third)


def test_joined_filters_are_no_deeper_than_need_be() -> None:
    deep = ItemFilter(range=ItemFilter.Range(attribute="year", min=1.0))
    for _ in range(6):
        deep = ItemFilter(negation=deep)
    several = pb.RecommendRequest()
    several.constraints.filter.all_of.filters.extend([deep, deep])
    whole = layered(several, several)
    assert len(item_filter(whole.constraints.filter).filters) == 4  # type: ignore[union-attr]


@pytest.mark.parametrize(("length", "kept"), [(0, ["a", "b", "c"]), (3, ["a", "c"]), (1, ["a"])])
def test_pins_of_a_configuration_fit_any_list(length: int, kept: list[str]) -> None:
    config = pb.RecommendRequest(
        pinned_items=[
            pb.PinnedItem(item_id="a", position=1),
            pb.PinnedItem(item_id="b", position=8),
            pb.PinnedItem(item_id="c"),
        ]
    )
    asked = pb.RecommendRequest(user_id="ann", max_results=length)
    query = read_query(
        completed(asked, None, config), default_strategy=Strategy.FUSE, attributes=()
    )
    assert [pin.item_id for pin in query.rules.pins] == kept


def test_pins_of_a_call_are_its_own_mistake() -> None:
    asked = pb.RecommendRequest(user_id="ann", max_results=3)
    asked.pinned_items.add(item_id="a", position=8)
    assert completed(asked, pb.RecommendRequest(diversity=0.5)).pinned_items == asked.pinned_items


def test_without_layers_the_request_is_as_it_came() -> None:
    asked = pb.RecommendRequest(user_id="ann")
    assert completed(asked, None) is asked
