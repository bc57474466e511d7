"""Items that come and go while a model that reads whole items is served."""

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from core.catalog import CatalogItem, Delete
from core.errors import BundleError, InvalidArgument
from services.generator.catalog.coded import CodedCatalog, CodedUpsert
from services.generator.catalog.follower import make
from services.generator.decoding.engine import RankingQuery, UserContext
from tests.generator.decoding.test_engine import NONE, random_context, wish
from tests.generator.made_up_items import CONTENT, MadeUpItems

OTHER = np.linspace(-1, 1, CONTENT, dtype=np.float32)


@pytest.fixture
def live(made_up_items: MadeUpItems) -> MadeUpItems:
    return made_up_items


def over(live: MadeUpItems, snapshot: CodedCatalog) -> MadeUpItems:
    """The same model over another version of the catalog."""
    return dataclasses.replace(live, engine=live.engine.over(snapshot))


def upsert(
    snapshot: CodedCatalog,
    item_id: str,
    text: str,
    code_of: int,
    content: NDArray[np.float32] | None,
) -> CodedUpsert:
    """An item with the code of a position."""
    item = CatalogItem(item_id, text, text, {}, popularity=0)
    return CodedUpsert(
        item, snapshot.code_texts[code_of], snapshot.codes[code_of].tolist(), content
    )


def vector_of(live: MadeUpItems, content: NDArray[np.float32]) -> NDArray[np.float32]:
    projection = live.engine.snapshot.projection
    assert projection is not None
    vector = content @ projection[:-1] + projection[-1]
    unit: NDArray[np.float32] = vector / np.linalg.norm(vector)
    return unit


def check(live: MadeUpItems, *contexts: UserContext) -> None:
    """Lists and exact scores are those of a model with these very items."""
    shortlist = np.flatnonzero(live.engine.snapshot.catalog.live).astype(np.int32)
    for context in contexts:
        exact = live.exact(context)
        assert np.exp(exact.astype(np.float64)).sum() == pytest.approx(1, abs=1e-5)
        (reranked,) = live.engine.rerank([RankingQuery(context, shortlist=shortlist)])
        np.testing.assert_allclose(reranked.scores, exact[reranked.items], atol=1e-4)
        (found,) = live.engine.generate([wish(context, len(shortlist))])
        assert sorted(found.items.tolist()) == shortlist.tolist()
        np.testing.assert_allclose(found.scores, exact[found.items], atol=1e-4)


def test_a_new_item_is_placed_by_its_text_and_scored_like_all_others(live: MadeUpItems) -> None:
    first, new = live.engine.snapshot, live.items
    new_item = upsert(first, "new", "New", 3, OTHER)
    live = over(live, first.apply([Delete("i3"), Delete("i4"), new_item]))
    vectors = live.engine.snapshot.vectors
    assert vectors is not None
    np.testing.assert_allclose(vectors[new], vector_of(live, OTHER), atol=1e-6)
    rng = np.random.default_rng(0)
    read = UserContext(None, np.array([new, 3, 1, new], np.int32))  # new, and gone
    check(live, UserContext(None, NONE), read, random_context(rng, new))


def test_a_changed_text_moves_an_item_and_an_old_one_keeps_what_was_trained(
    live: MadeUpItems,
) -> None:
    first, new = live.engine.snapshot, live.items
    assert first.vectors is not None
    same = upsert(first, "i5", first.catalog.items[5].text, 5, None)
    second = first.apply([same, upsert(first, "i6", "another text", 6, OTHER)])
    # The other attributes of i5 differ, so it gets a position; its vector is that of training.
    assert second.vectors is not None
    positions, _ = second.catalog.lookup(["i5", "i6"])
    assert sorted(positions.tolist()) == [new, new + 1]
    np.testing.assert_array_equal(second.vectors[positions[0]], first.vectors[5])
    np.testing.assert_allclose(second.vectors[positions[1]], vector_of(live, OTHER), atol=1e-6)
    assert np.abs(second.vectors[positions[1]] - first.vectors[6]).max() > 0.1
    check(over(live, second), UserContext(None, positions.astype(np.int32)))


def test_an_item_whose_vector_alone_changes_moves(live: MadeUpItems) -> None:
    first = live.engine.snapshot
    second = first.apply([upsert(first, "i6", "another text", 6, OTHER)])
    third = second.apply([Delete("i6")]).apply([upsert(first, "i6", "another text", 6, -OTHER)])
    assert third.vectors is not None
    position, _ = third.catalog.lookup(["i6"])
    np.testing.assert_allclose(third.vectors[position[0]], vector_of(live, -OTHER), atol=1e-6)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "item 'new' has no vector of its text"),
        (np.empty(0, np.float32), f"item 'new' needs a text vector of {CONTENT} numbers"),
        (np.ones(CONTENT + 1, np.float32), f"item 'new' needs a text vector of {CONTENT} numbers"),
    ],
)
def test_an_item_without_a_vector_is_refused_by_name_and_the_others_are_made(
    live: MadeUpItems, content: NDArray[np.float32] | None, problem: str
) -> None:
    first = live.engine.snapshot
    strange = upsert(first, "new", "New", 3, content)
    with pytest.raises(InvalidArgument, match=problem) as refused:
        first.apply([Delete("i3"), strange])
    assert (refused.value.reason, refused.value.metadata["item_id"]) == ("INVALID_VECTOR", "new")
    fine = upsert(first, "fine", "Fine", 3, OTHER)
    version, (refusal,) = make(first, [strange, Delete("i3"), fine])
    assert refusal.change is strange
    assert refusal.error.reason == "INVALID_VECTOR"
    assert version.catalog.lookup(["fine", "new", "i3"])[1] == ["new", "i3"]


def test_a_deleted_item_never_comes_out(live: MadeUpItems) -> None:
    context = UserContext(None, np.array([1, 2], np.int32))
    (before,) = live.engine.generate([wish(context, 10)])
    gone = live.engine.snapshot.catalog.ids(before.items)
    later = over(live, live.engine.snapshot.apply(map(Delete, gone)))
    (after,) = later.engine.generate([wish(context, live.items)])
    assert len(after.items) == live.items - 10
    assert not set(after.items.tolist()) & set(before.items.tolist())
    check(later, context)


def test_vectors_of_other_items_are_refused(live: MadeUpItems) -> None:
    first = live.engine.snapshot
    assert first.vectors is not None
    with pytest.raises(BundleError, match=r"generator_items\.npy has 299 rows for 300 items"):
        CodedCatalog.of(
            first.catalog, list(first.code_texts), first.codes, vectors=first.vectors[1:]
        )
