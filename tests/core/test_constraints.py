"""Constraints allow what a loop over the items would."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from core.catalog import Catalog
from core.constraints import UNCONSTRAINED, Constraints
from core.filters import Range
from serving import validation as edge
from tests.core.filter_model import item

ITEMS = 8
NAMES = [f"i{i}" for i in range(ITEMS)]
CATALOG = Catalog([item(i, {"year": (1990.0 + i,)}) for i in range(ITEMS)])

some = st.lists(st.sampled_from([*NAMES, "nowhere"]), max_size=6).map(tuple)
constraints = st.builds(
    Constraints,
    excluded=some,
    filter=st.none() | st.integers(1990, 1999).map(lambda year: Range("year", float(year))),
    allowed=some,
    include_seen=st.booleans(),
)


@given(constraints)
def test_the_mask_is_that_of_filter_and_list(of: Constraints) -> None:
    mask = of.mask(CATALOG)
    passes = np.ones(ITEMS, np.bool_) if mask is None else mask
    low = 0.0 if of.filter is None else of.filter.low  # type: ignore[union-attr]
    assert passes.tolist() == [
        1990 + i >= low and (not of.allowed or NAMES[i] in of.allowed) for i in range(ITEMS)
    ]


@given(constraints, some)
def test_what_is_forbidden_by_name(of: Constraints, seen: tuple[str, ...]) -> None:
    expected = {
        name
        for name in NAMES
        if name in of.excluded
        or (name in seen and not of.include_seen)
        or (of.allowed and name not in of.allowed)
    }
    assert of.forbidden(NAMES, seen) == expected


@given(constraints)
def test_constraints_survive_the_wire(of: Constraints) -> None:
    assert edge.constraints(edge.constraints_message(of)) == of


def test_nothing_is_forbidden_by_default_but_what_is_seen() -> None:
    assert UNCONSTRAINED.mask(CATALOG) is None
    assert UNCONSTRAINED.forbidden(NAMES, ("i3",)) == {"i3"}
