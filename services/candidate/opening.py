"""Opening a catalog: a bundle, and on top of it what its store says has changed since."""

from pathlib import Path

import structlog

from runtime.bundle import Bundle
from runtime.catalog import Delete
from runtime.errors import SettingsError
from services.candidate.changes import PlacedItem
from services.candidate.engine import CandidateEngine
from services.candidate.live import LiveCatalog
from services.candidate.placement import Placement
from services.candidate.store import Base, ItemStore, Stored
from services.candidate.writing import Draft, NewItem, Wish, Writer

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
            _carry_over(store, base, Draft(engine, placement), engine)
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


def _carry_over(store: ItemStore, base: Base, draft: Draft, engine: CandidateEngine) -> None:
    """Makes the store's changes anew, on top of another version of its bundle.

    Items that the version has itself are dropped: it was built with them. Deleted ones that it has
    are deleted again. A copy of the store as it was stays beside it.
    """
    before = store.base
    assert before is not None  # noqa: S101
    copy = store.path.with_name(f"{store.path.name}.{before.version}")
    store.copy(copy)
    for page in store.replay():
        draft.add(_wishes(page, engine, same_encoder=before.encoder == base.encoder))
    store.rebase(base, draft.changes)
    log.info("store rebased", path=str(store.path), copy=str(copy), changes=len(draft.changes))


def _wishes(page: list[Stored], engine: CandidateEngine, *, same_encoder: bool) -> list[Wish]:
    known = set(engine.catalog.ids(engine.catalog.lookup(s.change.item_id for s in page)[0]))
    placed = [
        stored.change
        for stored in page
        if isinstance(stored.change, PlacedItem) and stored.change.item_id not in known
    ]
    wishes: list[Wish] = [
        Delete(stored.change.item_id)
        for stored in page
        if isinstance(stored.change, Delete) and stored.change.item_id in known
    ]
    if placed and same_encoder:
        vectors = [change.content for change in placed]
    else:
        vectors = list(engine.embed([change.item.text for change in placed])) if placed else []
    for change, vector in zip(placed, vectors, strict=True):
        item = change.item
        wishes.append(NewItem(item.item_id, item.title, item.text, item.attributes, vector))
    return wishes
