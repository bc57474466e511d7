"""The live catalog's way into the next bundle, and on from there."""

import shutil
from pathlib import Path

import pytest

from core.bundle import Bundle
from core.catalog import Delete
from core.manifest import StoreSection
from services.candidate.catalog.opening import open_catalog
from services.candidate.catalog.store import ItemStore, read_items
from services.candidate.retrieval.engine import CandidateEngine
from tests.pipeline.conftest import ITEMS, Shop
from tests.pipeline.made_up_store import append, put


def copied(shop: Shop, path: Path) -> Path:
    assert shop.store is not None
    return Path(shutil.copy(shop.store, path))


@pytest.mark.slow
def test_what_was_added_is_trained_and_what_is_newer_comes_after(
    shop: Shop, tmp_path: Path
) -> None:
    bundle, path = shop.bundle, copied(shop, tmp_path / "items.db")
    assert bundle.manifest.store == StoreSection(id=read_items(path).id, sequence=2)
    items = {item.item_id: item for item in bundle.catalog.items}
    assert len(items) == ITEMS
    assert items[f"s{ITEMS - 1}"].title == f"product {ITEMS - 1}"
    assert items[f"s{ITEMS - 1}"].popularity > 0
    assert "s1" in items  # histories hold it; the store deletes it again

    append(path, [put("s2", "product renamed"), put("s99", "product 99")])  # after the build
    live = open_catalog(bundle, CandidateEngine.load(bundle, threads=1), path, rebase=True)
    catalog = live.engine.catalog
    positions, missing = catalog.lookup(["s1", "s2", f"s{ITEMS - 1}", "s99"])
    titles = [catalog.items[position].title for position in positions.tolist()]
    assert missing == ["s1"]
    assert titles == ["product renamed", f"product {ITEMS - 1}", "product 99"]
    assert live._writer is not None
    live._writer.store.close()
    store = ItemStore.open(path)
    changed = [stored.change.item_id for stored in store.after(0, 10)]
    assert sorted(changed) == ["s1", "s2", "s99"]  # the last item is the bundle's own now
    store.close()


@pytest.mark.slow
def test_a_store_that_has_only_deleted_since_trains_nothing_anew(
    shop: Shop, tmp_path: Path
) -> None:
    path = copied(shop, tmp_path / "items.db")
    append(path, [Delete("s3")])
    done = shop.build("--store", str(path), "--bundles", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("already built from the same inputs") == 10
    built = Bundle.open(tmp_path / "shop" / "current")
    assert built.manifest.store == StoreSection(id=read_items(path).id, sequence=3)
    assert built.version != shop.bundle.version
    assert built.manifest.files == shop.bundle.manifest.files
