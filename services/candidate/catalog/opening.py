"""Opening a catalog: a bundle, and on top of it what its store says has changed since."""

from pathlib import Path

import structlog

from core.bundle import Bundle
from services.candidate.catalog.cold_start import ColdStartPlacer
from services.candidate.catalog.fingerprint import BundleFingerprint
from services.candidate.catalog.live import LiveCatalog
from services.candidate.catalog.rebase import Rebase, check_rebase
from services.candidate.catalog.store import ItemStore
from services.candidate.catalog.transaction import CatalogWriter, replayed
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
    base = BundleFingerprint.of(bundle)
    store = ItemStore.open(path)
    try:
        there = store.base
        if there is None:
            store.rebase(base, [])
        if there is None or there.digest == base.digest:
            placer = ColdStartPlacer.read(bundle)
            present = replayed(engine, placer, store.replay())
            live = LiveCatalog(present, CatalogWriter(placer, store))
        else:
            check_rebase(store, base, allowed=rebase)
            carried = Rebase(store, bundle, engine)
            writer = carried.finish()
            live = LiveCatalog(carried.engine, writer)
    except BaseException:
        store.close()
        raise
    log.info("store opened", path=str(path), sequence=store.sequence)
    return live
