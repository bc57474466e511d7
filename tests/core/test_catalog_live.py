"""A catalog that changes, against a dictionary that is rebuilt from scratch."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from core.catalog import Catalog, CatalogItem, Change, Delete, Update, Upsert
from core.errors import InvalidArgument
from core.filters import Filter, Not, OneOf, Range, evaluate
from tests.core.filter_model import Attributes, attributes, attributes_of, conditions, holds, item

Model = dict[str, CatalogItem]

NUMBERS = range(6)
IDS = [f"i{number}" for number in NUMBERS]

items = st.builds(item, st.sampled_from(NUMBERS), attributes, st.sampled_from(["Film", "Play"]))
changes: st.SearchStrategy[list[Change]] = st.lists(
    st.builds(Upsert, items) | st.builds(Update, items) | st.builds(Delete, st.sampled_from(IDS)),
    max_size=8,
)


def changed(model: Model, changes: list[Change]) -> Model:
    following = dict(model)
    for change in changes:
        match change:
            case Upsert(item) | Update(item):
                following[item.item_id] = item
            case Delete(item_id):
                following.pop(item_id, None)
    return following


def check(catalog: Catalog, model: Model, condition: Filter) -> None:
    """The catalog answers as one does that is made of the model's items alone."""
    positions, missing = catalog.lookup(IDS)
    assert missing == [item_id for item_id in IDS if item_id not in model]
    assert [catalog.items[p] for p in positions] == [model[i] for i in IDS if i in model]
    assert catalog.ids(positions) == [item_id for item_id in IDS if item_id in model]
    places = dict(zip(IDS, catalog.places(IDS).tolist(), strict=True))
    assert [at for at in places.values() if at >= 0] == positions.tolist()
    assert [item_id for item_id, at in places.items() if at == -1] == missing
    assert sorted(positions.tolist()) == np.flatnonzero(catalog.live).tolist()
    assert catalog.live_count == len(model)
    assert catalog.popularity.tolist() == [item.popularity for item in catalog.items]
    assert catalog.attribute_names == Catalog(model.values()).attribute_names
    for each in (condition, Not(condition)):
        if not attributes_of(each) <= catalog.attribute_names:
            with pytest.raises(InvalidArgument):
                evaluate(each, catalog)
            continue
        mask = evaluate(each, catalog)
        assert mask.shape == (len(catalog),)
        passed = catalog.ids(np.flatnonzero(mask))
        assert sorted(passed) == sorted(i for i, item in model.items() if holds(each, item))


@given(st.lists(items, max_size=6), st.lists(changes, max_size=5), conditions)
def test_every_version_answers_as_if_built_from_scratch(
    first: list[CatalogItem], batches: list[list[Change]], condition: Filter
) -> None:
    model = {item.item_id: item for item in first}
    catalog = Catalog(model.values())
    versions = [(catalog, model)]
    for batch in batches:
        catalog, model = catalog.apply(batch), changed(model, batch)
        versions.append((catalog, model))
    for version, expected in versions:
        check(version, expected, condition)
        # A position means the same item ever after.
        assert catalog.ids(range(len(version))) == version.ids(range(len(version)))


@given(
    st.lists(items, max_size=6), st.lists(st.tuples(changes, st.booleans()), max_size=5), conditions
)
@example([], [([], True)], Range("year", 1990.0, 1990.0))
def test_a_compacted_version_answers_as_before(
    first: list[CatalogItem], batches: list[tuple[list[Change], bool]], condition: Filter
) -> None:
    model = {item.item_id: item for item in first}
    catalog = Catalog(model.values())
    base = catalog.ids(range(len(catalog)))
    for batch, compacts in batches:
        catalog, model = catalog.apply(batch), changed(model, batch)
        if compacts:
            before = catalog
            catalog, kept = catalog.compacted()
            assert catalog.ids(range(len(catalog))) == before.ids(kept)
            assert catalog.live.tolist() == before.live[kept].tolist()
            assert catalog.live[len(base) :].all()
            check(before, model, condition)
        assert catalog.ids(range(len(base))) == base
        check(catalog, model, condition)


@given(st.lists(items, max_size=6), changes, changes, conditions)
def test_two_versions_after_the_same_one_do_not_meet(
    first: list[CatalogItem], left: list[Change], right: list[Change], condition: Filter
) -> None:
    model = {item.item_id: item for item in first}
    catalog = Catalog(model.values())
    nexts = [(catalog.apply(batch), changed(model, batch)) for batch in (left, right)]
    for version, expected in nexts:
        check(version, expected, condition)


def test_positions_are_appended_and_never_used_again() -> None:
    old = Catalog([item(0, {}), item(1, {})])
    new = old.apply([Upsert(item(2, {})), Upsert(item(0, {"genre": ("War",)})), Delete("i1")])
    assert new.lookup(["i0", "i2"])[0].tolist() == [3, 2]
    assert new.live.tolist() == [False, False, True, True]
    assert new.ids(range(4)) == ["i0", "i1", "i2", "i0"]
    assert new.apply([Upsert(item(1, {}))]).lookup(["i1"])[0].tolist() == [4]


def test_an_item_that_is_already_there_stays_where_it_is() -> None:
    catalog = Catalog([item(0, {"genre": ("War",)})])
    again = catalog.apply([Upsert(item(0, {"genre": ("War",)}))])
    assert again.live.tolist() == [True]
    moved = catalog.apply([Delete("i0"), Upsert(item(0, {"genre": ("War",)}))])
    assert moved.live.tolist() == [False, True]


def test_an_update_stays_where_it_is_and_adds_no_row() -> None:
    catalog = Catalog([item(0, {"genre": ("War",), "year": (1990.0,)}), item(1, {"year": (1.0,)})])
    versions = [catalog]
    for year in range(1, 301):
        now: Attributes = {"genre": ("War", f"g{year}"), "year": (1990.0 + year,)}
        versions.append(versions[-1].apply([Update(item(0, now))]))
    last = versions[-1]
    assert (len(last), last.lookup(["i0"])[0].tolist()) == (2, [0])
    assert last.having("genre", ["War"]).tolist() == [True, False]
    assert not last.having("genre", ["g299"]).any()
    assert last.within("year", 1990.0, 2289.0).tolist() == [False, False]
    assert last.within("year", 2290.0, 2290.0).tolist() == [True, False]
    assert catalog.within("year", 1990.0, 1990.0).tolist() == [True, False]
    index = last._version.attributes
    assert sum(len(piece) for piece in index.columns["year"]) == 2
    assert index.postings.get(("genre", "g1")) is None


def test_an_update_of_another_popularity_moves() -> None:
    old = item(0, {})
    other = CatalogItem("i0", old.title, old.text, {}, old.popularity + 1)
    catalog = Catalog([old]).apply([Update(other), Update(item(1, {}))])
    assert catalog.lookup(["i0", "i1"])[0].tolist() == [1, 2]
    assert catalog.popularity.tolist() == [0, 1, 1]


def test_deleting_what_is_not_there_changes_nothing_and_is_known_beforehand() -> None:
    catalog = Catalog([item(0, {})])
    assert catalog.lookup(["i7", "i0"])[1] == ["i7"]
    after = catalog.apply([Delete("i7")])
    assert after.live.tolist() == [True]
    assert after.lookup(["i0", "i7"])[1] == ["i7"]


def test_an_attribute_is_unknown_once_no_live_item_has_it() -> None:
    catalog = Catalog([item(0, {"genre": ("War",)}), item(1, {"year": (1990.0,)})])
    without = catalog.apply([Delete("i0")])
    assert without.attribute_names == {"year"}
    with pytest.raises(InvalidArgument, match="'genre'; the catalog has: year"):
        evaluate(OneOf("genre", ("War",)), without)
    assert evaluate(OneOf("genre", ("War",)), catalog).tolist() == [True, False]


def test_changes_that_break_off_leave_nothing_behind() -> None:
    def broken() -> Iterator[Change]:
        yield Delete("i0")
        yield Upsert(item(5, {"genre": ("Drama",)}))
        raise OSError("the stream broke off")

    catalog = Catalog([item(0, {"genre": ("War",)})])
    with pytest.raises(OSError, match="broke off"):
        catalog.apply(broken())
    check(catalog, {"i0": item(0, {"genre": ("War",)})}, OneOf("genre", ("War",)))


def test_arrays_of_a_version_cannot_be_written() -> None:
    catalog = Catalog([item(0, {})]).apply([Upsert(item(1, {}))])
    for array in (catalog.live, catalog.popularity):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_readers_see_whole_versions_while_a_writer_applies_hundreds() -> None:
    """Each batch moves every item to the next generation: two in one version are half a batch."""
    ids = [f"i{number}" for number in range(50)]

    def generation(number: int) -> list[CatalogItem]:
        return [item(i, {"generation": (float(number), str(number))}) for i in range(50)]

    current = [Catalog(generation(0))]
    started = threading.Barrier(4)
    done = threading.Event()

    def read() -> None:
        started.wait()
        while not done.is_set():
            version = current[0]
            positions, missing = version.lookup(ids)
            assert not missing
            (number, text) = version.items[positions[0]].attributes["generation"]
            for value in (number, text):
                mask = evaluate(OneOf("generation", (value,)), version)
                assert np.flatnonzero(mask).tolist() == sorted(positions.tolist())
                assert (mask == version.live).all()

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read) for _ in range(3)]
        started.wait()
        try:
            for number in range(1, 301):
                current[0] = current[0].apply(map(Upsert, generation(number)))
        finally:
            done.set()
    for reader in readers:
        reader.result()
    assert len(current[0]) == 50 * 301
