"""Opening a catalog: a bundle, and on top of it what its store says has changed since."""

from collections.abc import Mapping
from pathlib import Path

import structlog

from core.bundle import Bundle
from core.catalog import CatalogItem, Delete
from core.errors import SettingsError
from services.candidate.catalog.base import Base
from services.candidate.catalog.live import LiveCatalog
from services.candidate.catalog.placement import Placement
from services.candidate.catalog.rows import Stored
from services.candidate.catalog.store import ItemStore
from services.candidate.catalog.writing import Draft, NewItem, Wish, Writer
from services.candidate.changes import PlacedItem
from services.candidate.index.flat import Vector
from services.candidate.retrieval.engine import CandidateEngine

log = structlog.get_logger()


def open_catalog(
    bundle: Bundle, engine: CandidateEngine, path: Path | None, *, rebase: bool = False
) -> LiveCatalog:
    """Brings a catalog to the state of its store. Blocking: a minute for a million changes.

    Args:
        bundle: a verified bundle.
        engine: of the bundle.
        path: the store, which is made where there is none; None for a catalog that does not change.
        rebase: whether to carry the changes of a store that belongs to another version of the
            bundle over to this one.

    Raises:
        BundleError: the bundle lacks what new items are placed by.
        SettingsError: the store cannot be opened, or belongs to another bundle.
    """
    if path is None:
        return LiveCatalog(engine)
    placement, base = Placement.read(bundle), Base.of(bundle)
    store = ItemStore.open(path)
    try:
        if store.base is None:
            store.rebase(base, [])
        elif store.base.digest != base.digest:
            _check_rebase(store, base, allowed=rebase)
            draft = Draft(engine, placement)
            _carry_over(store, base, draft, engine, built_with=_built_with(bundle, store))
            placement = Placement.read(bundle)  # with the codes as they were before the draft
        writer = Writer(placement, store)
        live = LiveCatalog(writer.replayed(engine), writer)
    except BaseException:
        store.close()
        raise
    log.info("store opened", path=str(path), sequence=store.sequence)
    return live


def _check_rebase(store: ItemStore, base: Base, *, allowed: bool) -> None:
    there = store.base
    if there is not None and (there.name != base.name or not allowed):
        raise SettingsError(
            f"the store {store.path} belongs to the bundle {there.name}/{there.version}, not to "
            f"{base.name}/{base.version}: give another --store, or, for another version of the "
            "same bundle, --rebase-store"
        )


def _built_with(bundle: Bundle, store: ItemStore) -> int:
    """The last change of the store that a bundle was built with, of the items that it has.

    A bundle that does not know this store has those items from elsewhere: it replaces all changes.
    """
    known = bundle.manifest.store
    return known.sequence if known is not None and known.id == store.id else store.sequence


def _carry_over(
    store: ItemStore, base: Base, draft: Draft, engine: CandidateEngine, *, built_with: int
) -> None:
    """Makes the store's changes anew, on top of another version of its bundle.

    Changes of items that the version has itself are dropped up to the one that it was built with;
    deleted ones that it has are deleted again. A copy of the store as it was stays beside it.
    """
    before = store.base
    assert before is not None  # noqa: S101
    copy = store.path.with_name(f"{store.path.name}.{before.version}")
    store.copy(copy)
    for page in store.replay():
        draft.add(_wishes(page, engine, built_with, same_encoder=before.encoder == base.encoder))
    store.rebase(base, draft.changes)
    log.info("store rebased", path=str(store.path), copy=str(copy), changes=len(draft.changes))


def _wishes(
    page: list[Stored], engine: CandidateEngine, built_with: int, *, same_encoder: bool
) -> list[Wish]:
    positions, _ = engine.catalog.lookup(stored.change.item_id for stored in page)
    items = (engine.catalog.items[position] for position in positions.tolist())
    there = {item.item_id: item for item in items}
    wishes: list[Wish] = []
    placed: list[PlacedItem] = []
    for stored in page:
        known = stored.change.item_id in there
        if isinstance(stored.change, PlacedItem):
            if not known or stored.sequence > built_with:
                placed.append(stored.change)
        elif known:
            wishes.append(Delete(stored.change.item_id))
    vectors = _vectors(placed, there, None if same_encoder else engine)
    for change in placed:
        item = change.item
        vector = vectors.get(item.item_id)
        wishes.append(NewItem(item.item_id, item.title, item.text, item.attributes, vector))
    return wishes


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
