"""A store that goes on with a bundle that was built with it, or without."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from core.bundle import Bundle
from core.catalog import CatalogItem, Delete
from core.codes import ItemCode
from core.manifest import StoreSection
from services.candidate.catalog.cold_start import ColdStartPlacer
from services.candidate.catalog.fingerprint import BundleFingerprint
from services.candidate.catalog.opening import open_catalog
from services.candidate.catalog.store import ItemStore
from services.candidate.changes import PlacedChange, PlacedItem
from services.candidate.retrieval.engine import CandidateEngine
from tests.candidate.made_up import BEHAVIOR, CONTENT, make_catalog, make_world
from tests.candidate.small_bundle import write_small_bundle

NEXT = make_world(items=32)  # two more than the bundle before it, i30 and i31
VECTOR = np.eye(CONTENT, dtype=np.float32)[0]


def put(item_id: str, title: str = "live", text: str = "a live Film") -> PlacedItem:
    item = CatalogItem(item_id, title, text, {"genre": ("Live",)}, popularity=0)
    behavior = np.eye(BEHAVIOR, dtype=np.float32)[0]
    return PlacedItem(item, VECTOR, behavior, ItemCode("<a_2><b_20>", (2, 20)))


class Shelf:
    """A store with changes of one bundle, and the next bundle."""

    def __init__(self, root: Path, changes: Sequence[PlacedChange]) -> None:
        before = Bundle.open(write_small_bundle(root / "before", make_world()))
        self.next = Bundle.open(write_small_bundle(root / "next", NEXT))
        self.path = root / "items.sqlite"
        store = ItemStore.open(self.path)
        store.rebase(BundleFingerprint.of(before), [])
        store.append(changes)
        self.id = store.id
        store.close()

    @contextmanager
    def rebased(
        self, built_with: StoreSection | None
    ) -> Iterator[tuple[CandidateEngine, ColdStartPlacer, list[str]]]:
        """The next version with the store on top of it, and what the store still changes."""
        manifest = self.next.manifest.model_copy(update={"store": built_with})
        bundle = Bundle(self.next.path, manifest)
        engine = CandidateEngine.load(bundle, threads=1)
        live = open_catalog(bundle, engine, self.path, rebase=True)
        assert live._writer is not None
        store = live._writer.store
        changed = [stored.change.item_id for stored in store.after(0, 100)]
        try:
            yield live.engine, ColdStartPlacer.read(bundle), sorted(changed)
        finally:
            store.close()


def built_with(shelf: Shelf, sequence: int) -> StoreSection:
    return StoreSection(id=shelf.id, sequence=sequence)


@pytest.mark.parametrize(
    ("sequence", "newer"), [(0, ["i30", "i31"]), (1, ["i31"]), (2, []), (9, [])]
)
def test_what_is_newer_than_the_build_stays(
    tmp_path: Path, sequence: int, newer: list[str]
) -> None:
    shelf = Shelf(tmp_path, [put("i30"), put("i31"), Delete("i3"), put("n")])
    with shelf.rebased(built_with(shelf, sequence)) as (engine, _, changed):
        assert changed == ["i3", *newer, "n"]  # the deleted and the unknown in any case
        titles = {item_id: titled(engine, item_id) for item_id in ("i30", "i31", "n")}
    bundle = {"i30": "Film 30", "i31": "Film 31"}
    assert titles == {**bundle, **dict.fromkeys(newer, "live"), "n": "live"}


@pytest.mark.parametrize("other", [None, StoreSection(id="another store", sequence=0)])
def test_a_bundle_that_was_built_without_the_store_replaces_its_items(
    tmp_path: Path, other: StoreSection | None
) -> None:
    shelf = Shelf(tmp_path, [put("i30"), Delete("i3"), Delete("nowhere"), put("n")])
    with shelf.rebased(other) as (engine, _, changed):
        assert changed == ["i3", "n"]
        assert titled(engine, "i30") == "Film 30"


def test_an_item_with_the_text_that_was_trained_keeps_what_it_was_trained_to(
    tmp_path: Path,
) -> None:
    trained = make_catalog(NEXT).items[30]
    shelf = Shelf(tmp_path, [put("i30", "retitled", trained.text), put("i31", text="a query")])
    with shelf.rebased(built_with(shelf, 0)) as (engine, placer, changed):
        assert changed == ["i30", "i31"]
        same, moved = (placer.placed(engine, item_id) for item_id in changed)
        code = placer.codes.of(30)
    assert same is not None
    assert moved is not None
    assert (same.item.title, same.item.attributes) == ("retitled", {"genre": ("Live",)})
    np.testing.assert_array_equal(same.content, NEXT.content[30])
    np.testing.assert_array_equal(same.behavior, NEXT.behavior[30])
    assert same.code == code
    np.testing.assert_array_equal(moved.content, VECTOR)  # the encoder is the same


def titled(engine: CandidateEngine, item_id: str) -> str:
    (position,), _ = engine.catalog.lookup([item_id])
    return engine.catalog.items[int(position)].title
