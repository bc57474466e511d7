"""From a request's filter to the engine's list: against reading every item of the catalog."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from core.catalog import CatalogItem
from core.filters import AllOf, AnyOf, Filter, Not, OneOf, Range
from services.candidate.index.space import SpaceName
from services.candidate.requests import read_search, read_similar
from serving.validation import filter_message
from tandem.v1 import candidate_service_pb2 as pb
from tandem.v1.common_pb2 import ItemConstraints, SimilarityQuery
from tests.candidate.made_up import GENRES, make_world

WORLD = make_world()
CATALOG = WORLD.engine.catalog

years = st.integers(1985, 2025).map(float)
values = st.lists(st.sampled_from((*GENRES, "Western")) | years, min_size=1, max_size=4).map(tuple)
one_of = st.builds(OneOf, st.sampled_from(("genre", "year")), values)
ranges = st.tuples(years | st.just(-math.inf), years | st.just(math.inf)).map(sorted)
between = ranges.map(lambda ends: Range("year", *ends))
several = st.lists(st.deferred(lambda: filters), min_size=1, max_size=3).map(tuple)
filters: st.SearchStrategy[Filter] = st.deferred(
    lambda: one_of | between | several.map(AllOf) | several.map(AnyOf) | filters.map(Not)
)


def holds(condition: Filter, item: CatalogItem) -> bool:
    match condition:
        case OneOf(attribute, wanted):
            return any(value in wanted for value in item.attributes[attribute])
        case Range(attribute, low, high):
            numbers = item.attributes[attribute]
            return any(not isinstance(v, str) and low <= v <= high for v in numbers)
        case AllOf(parts):
            return all(holds(part, item) for part in parts)
        case AnyOf(parts):
            return any(holds(part, item) for part in parts)
        case Not(part):
            return not holds(part, item)


def depth(condition: Filter) -> int:
    match condition:
        case AllOf(parts) | AnyOf(parts):
            return 1 + max(map(depth, parts))
        case Not(part):
            return 1 + depth(part)
        case _:
            return 1


shallow = filters.filter(lambda condition: depth(condition) <= 8)


@settings(deadline=None)
@given(shallow, st.integers(0, 29), st.integers(1, 35))
def test_a_filtered_list_is_full_of_the_best_that_satisfy(
    condition: Filter, item: int, count: int
) -> None:
    satisfying = [i for i in range(30) if i != item and holds(condition, CATALOG.items[i])]
    similar = read_similar(
        pb.SimilarRequest(
            query=SimilarityQuery(
                items=SimilarityQuery.ItemList(item_ids=[f"i{item}"]),
                constraints=ItemConstraints(filter=filter_message(condition)),
                max_results=count,
            )
        )
    )
    found = WORLD.engine.similar_to_items(
        np.array([item], np.int32), similar.count, allowed=similar.constraints.mask(CATALOG)
    )
    cosines = WORLD.engine.vectors(SpaceName.CONTENT) @ WORLD.content[item]
    best = sorted(cosines[satisfying].tolist(), reverse=True)[:count]
    assert set(found.items.tolist()) <= set(satisfying)
    np.testing.assert_allclose(found.scores, best, atol=1e-5)

    search = read_search(
        pb.SearchRequest(
            history_item_ids=[f"i{item}"],
            constraints=ItemConstraints(filter=filter_message(condition)),
        )
    )
    allowed = search.constraints.mask(CATALOG)
    history, _ = CATALOG.lookup(search.history)
    shortlist = WORLD.engine.search(history, search.count, allowed=allowed)
    assert sorted(shortlist.items.tolist()) == satisfying
