"""Carrying the changes of a store over to another version of its bundle."""

from collections.abc import Mapping

import structlog

from core.bundle import Bundle
from core.catalog import CatalogItem, Delete
from core.errors import SettingsError
from services.candidate.catalog.cold_start import ColdStartPlacer
from services.candidate.catalog.fingerprint import BundleFingerprint
from services.candidate.catalog.rows import StoredChange
from services.candidate.catalog.store import ItemStore
from services.candidate.catalog.transaction import CatalogEdit, CatalogTransaction, NewItem
from services.candidate.changes import PlacedItem
from services.candidate.index.flat import Vector
from services.candidate.retrieval.engine import CandidateEngine

log = structlog.get_logger()


def check_rebase(store: ItemStore, base: BundleFingerprint, *, allowed: bool) -> None:
    """Checks that a store may be carried over.

    Raises:
        SettingsError: it belongs to another bundle, or nobody has allowed it.
    """
    there = store.base
    if there is not None and (there.name != base.name or not allowed):
        raise SettingsError(
            f"the store {store.path} belongs to the bundle {there.name}/{there.version}, not to "
            f"{base.name}/{base.version}: give another --store, or, for another version of the "
            "same bundle, --rebase-store"
        )


def carry_over(
    store: ItemStore, bundle: Bundle, base: BundleFingerprint, engine: CandidateEngine
) -> None:
    """Makes the store's changes anew, on top of another version of its bundle.

    Changes of items that the version has itself are dropped up to the one that it was built with;
    deleted ones that it has are deleted again. A copy of the store as it was stays beside it.

    Args:
        store: with the changes of another version.
        bundle: the version to carry them over to.
        base: the fingerprint of that bundle.
        engine: of that bundle.
    """
    before = store.base
    assert before is not None  # noqa: S101
    copy = store.path.with_name(f"{store.path.name}.{before.version}")
    store.copy(copy)
    transaction = CatalogTransaction(engine, ColdStartPlacer.read(bundle))
    built_with, same_encoder = _built_with(bundle, store), before.encoder == base.encoder
    for page in store.replay():
        transaction.add(_edits(page, engine, built_with, same_encoder=same_encoder))
    store.rebase(base, transaction.changes)
    changes = len(transaction.changes)
    log.info("store rebased", path=str(store.path), copy=str(copy), changes=changes)


def _built_with(bundle: Bundle, store: ItemStore) -> int:
    """The last change of the store that a bundle was built with, of the items that it has.

    A bundle that does not know this store has those items from elsewhere: it replaces all changes.
    """
    known = bundle.manifest.store
    return known.sequence if known is not None and known.id == store.id else store.sequence


def _edits(
    page: list[StoredChange], engine: CandidateEngine, built_with: int, *, same_encoder: bool
) -> list[CatalogEdit]:
    positions, _ = engine.catalog.lookup(stored.change.item_id for stored in page)
    items = (engine.catalog.items[position] for position in positions.tolist())
    there = {item.item_id: item for item in items}
    edits: list[CatalogEdit] = []
    placed: list[PlacedItem] = []
    for stored in page:
        known = stored.change.item_id in there
        if isinstance(stored.change, PlacedItem):
            if not known or stored.sequence > built_with:
                placed.append(stored.change)
        elif known:
            edits.append(Delete(stored.change.item_id))
    vectors = _vectors(placed, there, None if same_encoder else engine)
    for change in placed:
        item = change.item
        vector = vectors.get(item.item_id)
        edits.append(NewItem(item.item_id, item.title, item.text, item.attributes, vector))
    return edits


def _vectors(
    placed: list[PlacedItem], there: Mapping[str, CatalogItem], encoder: CandidateEngine | None
) -> dict[str, Vector]:
    """The vectors that items bring along, or those that another encoder gives them.

    Items that the bundle has with the same text bring none: they keep what they were trained to.
    """
    moved = [
        change
        for change in placed
        if change.item_id not in there or change.item.text != there[change.item_id].text
    ]
    if encoder is None or not moved:
        return {change.item_id: change.content for change in moved}
    embedded = encoder.embed([change.item.text for change in moved])
    return {change.item_id: vector for change, vector in zip(moved, embedded, strict=True)}
