"""A catalog of coded items that changes, against dictionaries that are rebuilt from scratch."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import catalog as catalog_module
from core.catalog import Catalog, CatalogItem, Delete
from core.errors import BundleError, InvalidArgument
from services.generator.catalog.coded import CodedCatalog, CodedChange, CodedUpsert
from services.generator.decoding.trie import Trie

Code = tuple[int, ...]
Model = dict[str, tuple[CatalogItem, Code]]

EOS, PAD = 1, 0
IDS = [f"i{number}" for number in range(5)]
NOTHING = np.empty(0, dtype=np.int32)


def item(item_id: str, title: str = "Film") -> CatalogItem:
    return CatalogItem(item_id, title, title, {"title": (title,)}, popularity=1)


def text(code: Code) -> str:
    return "".join(f"<{token}>" for token in code)


def upsert(item_id: str, code: Code, title: str = "Film") -> CodedUpsert:
    return CodedUpsert(item(item_id, title), text(code), code)


def stored(code: Code, levels: int, *, ends: bool) -> list[int]:
    return [*code, *[EOS] * ends, *[PAD] * (levels - len(code) - ends)]


def coded(model: Model, levels: int, *, ends: bool = False) -> CodedCatalog:
    rows = [stored(code, levels, ends=ends) for _, code in model.values()]
    return CodedCatalog.of(
        Catalog(item for item, _ in model.values()),
        [text(code) for _, code in model.values()],
        np.array(rows, np.int32).reshape(-1, levels),
        vocabulary=9,
    )


def changed(model: Model, changes: Sequence[CodedChange]) -> Model:
    following = dict(model)
    for change in changes:
        match change:
            case Delete(item_id):
                following.pop(item_id, None)
            case CodedUpsert(item, _, tokens):
                following[item.item_id] = (item, tuple(tokens))
    return following


def check(version: CodedCatalog, model: Model, *, ends: bool = False) -> None:
    """The version has the model's items with their codes, and no others."""
    levels = version.codes.shape[1]
    positions, _ = version.catalog.lookup(IDS)
    present = [item_id for item_id in IDS if item_id in model]
    assert version.catalog.ids(positions) == present
    assert [version.catalog.items[p] for p in positions] == [model[i][0] for i in present]
    assert [version.code_texts[p] for p in positions] == [text(model[i][1]) for i in present]
    assert version.codes[positions].tolist() == [
        stored(model[i][1], levels, ends=ends) for i in present
    ]
    assert len(version.catalog) == len(version.codes) == len(version.code_texts)
    anew = Trie.build(version.codes, version.catalog.live)
    for field in fields(Trie):
        assert getattr(version.trie, field.name).tolist() == getattr(anew, field.name).tolist()


# Three tokens on two levels are few enough for codes to meet.
codes = st.tuples(st.integers(2, 4), st.integers(2, 4))
short_codes = st.integers(2, 4).map(lambda token: (token,))
titles = st.sampled_from(["Film", "Play"])


@st.composite
def stories(draw: st.DrawFn) -> tuple[Model, list[list[CodedChange]], bool]:
    """A first version, some batches of changes, and whether codes have different lengths."""
    ends = draw(st.booleans())
    some = codes | short_codes if ends else codes
    first = draw(st.lists(st.tuples(st.sampled_from(IDS), some), max_size=5, unique_by=lambda p: p))
    model: Model = {}
    for item_id, code in first:
        if code not in {taken for _, taken in model.values()}:
            model[item_id] = (item(item_id), code)
    if ends:  # what tells the catalog that its codes have different lengths
        model["long"], model["short"] = (item("long"), (8, 8)), (item("short"), (8,))
    change = st.builds(upsert, st.sampled_from(IDS), some, titles) | st.builds(
        Delete, st.sampled_from(IDS)
    )
    return model, draw(st.lists(st.lists(change, max_size=5), max_size=5)), ends


@given(stories())
def test_every_version_is_as_if_built_from_scratch(
    story: tuple[Model, list[list[CodedChange]], bool],
) -> None:
    model, batches, ends = story
    current = coded(model, 2 + ends, ends=ends)
    versions = [(current, model)]
    for batch in batches:
        following = changed(model, batch)
        taken = [code for _, code in following.values()]
        if len(set(taken)) < len(taken):
            with pytest.raises(InvalidArgument) as refused:
                current.apply(batch)
            assert refused.value.reason == "CODE_TAKEN"
            continue
        current, model = current.apply(batch), following
        versions.append((current, model))
    for number, (version, expected) in enumerate(versions):
        assert version.version == number
        check(version, expected, ends=ends)
        # A position means the same item and the same code, as long as there are few tombstones.
        known = len(version.codes)
        assert current.codes[:known].tolist() == version.codes.tolist()
        assert current.code_texts[:known] == version.code_texts[:]


@given(stories())
def test_a_compacted_version_is_as_if_built_from_scratch(
    story: tuple[Model, list[list[CodedChange]], bool],
) -> None:
    model, batches, ends = story
    current = coded(model, 2 + ends, ends=ends)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalog_module, "MANY_TOMBSTONES", 0)
        for batch in batches:
            following = changed(model, batch)
            if len({code for _, code in following.values()}) == len(following):
                current, model = current.apply(batch), following
            check(current, model, ends=ends)


def abc() -> tuple[CodedCatalog, Model]:
    codes = {"i0": (2, 2), "i1": (2, 3), "i2": (3, 2)}
    model: Model = {item_id: (item(item_id), code) for item_id, code in codes.items()}
    return coded(model, 2), model


def test_an_item_keeps_its_code_when_only_its_attributes_change() -> None:
    first, _ = abc()
    second = first.apply([upsert("i0", (2, 2), "Play")])
    assert second.catalog.lookup(["i0"])[0].tolist() == [0]
    assert second.catalog.items[0].title == "Play"
    assert first.catalog.items[0].title == "Film"
    assert second.trie is first.trie
    assert second.codes is first.codes
    for title in map(str, range(300)):
        second = second.apply([upsert("i0", (2, 2), title)])
    assert (len(second.catalog), second.version) == (3, 301)


def test_codes_may_change_for_ever_in_bounded_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog_module, "MANY_TOMBSTONES", 5)
    current, model = abc()
    for turn in range(100):
        batch = [upsert("i0", (2, 2 + turn % 3 * 2)), upsert("i4", (4, 2 + turn % 5))]
        current, model = current.apply(batch), changed(model, batch)
        check(current, model)
        assert len(current.catalog) == len(current.codes) <= 3 + 2 + 5 + 2


def test_an_item_moves_when_only_its_code_changes() -> None:
    first, _ = abc()
    second = first.apply([upsert("i0", (4, 4))])
    assert second.catalog.lookup(["i0"])[0].tolist() == [3]
    assert second.codes[3].tolist() == [4, 4]


def test_what_is_there_already_changes_nothing() -> None:
    first, _ = abc()
    second = first.apply([upsert("i0", (2, 2)), Delete("i4")])
    assert second.version == 1
    assert second.trie is first.trie
    assert second.catalog.live.tolist() == [True] * 3


def test_items_may_swap_codes_and_take_those_of_removed_ones() -> None:
    first, model = abc()
    swapped = [upsert("i0", (2, 3)), upsert("i1", (2, 2))]
    batch: list[CodedChange] = [*swapped, upsert("i4", (3, 2)), Delete("i2")]
    check(first.apply(batch), changed(model, batch))


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ([upsert("i4", (2, 3))], "the code of item 'i4' is that of item 'i1'; give it another"),
        ([upsert("i0", (3, 2))], "'i0' is that of item 'i2'"),
        ([Delete("i2"), upsert("i3", (4, 4)), upsert("i4", (4, 4))], "'i4' is that of item 'i3'"),
    ],
)
def test_a_code_that_another_item_has_is_refused(batch: list[CodedChange], message: str) -> None:
    first, model = abc()
    with pytest.raises(InvalidArgument, match=message) as refused:
        first.apply([upsert("i0", (4, 2)), *batch])
    assert refused.value.reason == "CODE_TAKEN"
    check(first, model)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ((), "has 0 tokens; codes of this catalog have 2"),
        ((2,), "has 1 tokens; codes of this catalog have 2"),
        ((2, 3, 4), "has 3 tokens"),
        ((2, 9), "has the token 9, which no code can have"),
        ((2, -1), "has the token -1"),
        ((PAD, 2), "has the token 0"),
        ((EOS, 2), "has the token 1"),
    ],
)
def test_a_code_of_another_kind_is_refused(tokens: Code, message: str) -> None:
    first, model = abc()
    with pytest.raises(InvalidArgument, match=message) as refused:
        first.apply([Delete("i0"), upsert("i4", tokens)])
    assert refused.value.reason == "INVALID_CODE"
    check(first, model)


def test_codes_of_different_lengths_end_and_are_padded() -> None:
    first = coded({"i0": (item("i0"), (2, 2)), "i1": (item("i1"), (2,))}, 3, ends=True)
    # With and without the end and the padding, as a stored row or a tokenizer gives them.
    second = first.apply([upsert("i2", (3,)), upsert("i3", (3, 2, EOS)), upsert("i4", (4, EOS, 0))])
    assert second.codes[2:].tolist() == [[3, EOS, PAD], [3, 2, EOS], [4, EOS, PAD]]
    with pytest.raises(InvalidArgument, match="has 3 tokens; codes of this catalog have 1 to 2"):
        second.apply([upsert("i0", (2, 2, 2))])


def test_a_catalog_may_become_empty_and_be_filled_again() -> None:
    first, model = abc()
    empty = first.apply([Delete(item_id) for item_id in model])
    assert empty.trie.items == 0
    assert not empty.trie.alive(None, NOTHING).any()
    full = empty.apply([upsert("i1", (2, 2)), upsert("i0", (2, 3))])
    check(full, {"i1": (item("i1"), (2, 2)), "i0": (item("i0"), (2, 3))})


def test_codes_of_other_items_are_refused() -> None:
    rows = np.array([[2, 2], [2, 3]], np.int32)
    with pytest.raises(BundleError, match="the catalog has 1 items, but there are 2 codes as text"):
        CodedCatalog.of(Catalog([item("i0")]), ["<2><2>", "<2><3>"], rows)


def test_requests_see_one_version_each_while_another_thread_applies_hundreds() -> None:
    """Every batch moves all items to other codes, those of the batch before."""
    ids = [f"i{number}" for number in range(64)]
    grid: list[Code] = [(2 + i, 2 + j, 2 + k) for i in range(4) for j in range(4) for k in range(4)]

    def generation(number: int) -> list[tuple[str, Code]]:
        return [(ids[i], grid[(i + number) % 64]) for i in range(64)]

    first: Model = {i: (item(i, "0"), code) for i, code in generation(0)}
    current = [coded(first, 3)]
    started = threading.Barrier(4)
    done = threading.Event()

    def read() -> None:
        started.wait()
        while not done.is_set():
            version = current[0]
            positions, missing = version.catalog.lookup(ids)
            assert not missing
            (number,) = {version.catalog.items[p].title for p in positions}
            assert int(number) == version.version
            codes = [tuple(code) for code in version.codes[positions].tolist()]
            assert codes == [code for _, code in generation(version.version)]
            assert [version.code_texts[p] for p in positions] == list(map(text, codes))
            allowed = version.catalog.having("title", [number])
            assert sorted(version.trie.leaf_item.tolist()) == sorted(positions.tolist())
            assert version.trie.alive(allowed, NOTHING).all()
            assert not version.trie.alive(allowed, positions).any()
            tree = version.trie.prefixes(positions)
            assert [tuple(code) for code in version.trie.token[tree.child].tolist()] == codes

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read) for _ in range(3)]
        started.wait()
        try:
            for number in range(1, 301):
                batch = [upsert(i, code, str(number)) for i, code in generation(number)]
                current[0] = current[0].apply(batch)
        finally:
            done.set()
    for reader in readers:
        reader.result()
    assert current[0].version == 300
