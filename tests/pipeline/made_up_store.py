"""Stores of live catalogs, as a candidate service would leave them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from core.catalog import AttributeValues, CatalogItem
from core.codes import ItemCode
from services.candidate.catalog.fingerprint import BundleFingerprint
from services.candidate.catalog.store import ItemStore
from services.candidate.changes import PlacedChange, PlacedItem

NOTHING = np.zeros(2, np.float32)


def put(item_id: str, text: str = "new", **attributes: AttributeValues) -> PlacedItem:
    """An item that was upserted; where it was placed is nothing to a build."""
    item = CatalogItem(item_id, text, text, attributes, popularity=9)
    return PlacedItem(item, NOTHING, NOTHING, ItemCode("<a_1>", (1,)))


def append(path: Path, *batches: Sequence[PlacedChange]) -> None:
    """Appends changes to the store at a path, which is made if it is not there."""
    store = ItemStore.open(path)
    if store.base is None:
        store.rebase(BundleFingerprint("shop", "before", "digest", "encoder"), [])
    for changes in batches:
        store.append(changes)
    store.close()
