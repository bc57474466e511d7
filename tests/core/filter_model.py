"""Filters as a reader of the contract would evaluate them: one item at a time."""

import math

from hypothesis import strategies as st

from core.catalog import CatalogItem
from core.filters import AllOf, AnyOf, Filter, Not, OneOf, Range

NAMES = ("genre", "year", "studio")
TEXTS = ("Drama", "War", "1990", "")
NUMBERS = (1990.0, 1991.5, -0.0, 2.0**53)

Attributes = dict[str, tuple[str | float, ...]]

_values = st.sampled_from(TEXTS) | st.sampled_from(NUMBERS)
_names = st.sampled_from(NAMES)
_bounds = st.sampled_from((*NUMBERS, -math.inf, math.inf))

attributes: st.SearchStrategy[Attributes] = st.dictionaries(
    _names, st.lists(_values, max_size=3).map(tuple)
)
conditions: st.SearchStrategy[Filter] = st.recursive(
    st.builds(OneOf, _names, st.lists(_values, min_size=1, max_size=3).map(tuple))
    | st.tuples(_names, _bounds, _bounds).map(lambda r: Range(r[0], *sorted(r[1:]))),
    lambda inner: (
        st.builds(AllOf, st.lists(inner, min_size=1, max_size=3).map(tuple))
        | st.builds(AnyOf, st.lists(inner, min_size=1, max_size=3).map(tuple))
        | st.builds(Not, inner)
    ),
    max_leaves=8,
)


def item(number: int, attributes: Attributes, title: str = "Film") -> CatalogItem:
    return CatalogItem(f"i{number}", f"{title} {number}", "text", attributes, popularity=number)


def holds(condition: Filter, item: CatalogItem) -> bool:
    """The contract's sentences, as code over one item."""
    match condition:
        case OneOf(name, wanted):
            return any(value in wanted for value in item.attributes.get(name, ()))
        case Range(name, low, high):
            numbers = [v for v in item.attributes.get(name, ()) if not isinstance(v, str)]
            return any(low <= number <= high for number in numbers)
        case AllOf(filters):
            return all(holds(f, item) for f in filters)
        case AnyOf(filters):
            return any(holds(f, item) for f in filters)
        case Not(inner):
            return not holds(inner, item)


def attributes_of(condition: Filter) -> set[str]:
    """The attributes that a filter names."""
    match condition:
        case OneOf(name) | Range(name):
            return {name}
        case AllOf(filters) | AnyOf(filters):
            return set().union(*map(attributes_of, filters))
        case Not(inner):
            return attributes_of(inner)
