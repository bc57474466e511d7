"""Carrying the changes of a store over to another version of its bundle, also while it is served.

    the store's changes ──▶ made anew on the other version, beside what is served (`catch_up`)
    what was written meanwhile ──▶ made anew too, while no one writes; then the store is the
                                   other version's (`finish`)

Who goes back to the version before finds its changes as they were, in the copy that was kept, and
those that were made since on top of them.
"""

from collections.abc import Iterator, Mapping, Sequence

import structlog

from core.bundle import Bundle
from core.catalog import CatalogItem, Delete
from core.errors import SettingsError
from services.candidate.catalog.cold_start import ColdStartPlacer
from services.candidate.catalog.fingerprint import BundleFingerprint
from services.candidate.catalog.rows import StoredChange
from services.candidate.catalog.store import ItemStore, read_changes
from services.candidate.catalog.transaction import (
    CatalogEdit,
    CatalogTransaction,
    CatalogWriter,
    NewItem,
    replayed,
)
from services.candidate.changes import ChangeSet, PlacedChange, PlacedItem
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


class Rebase:
    """The store's changes, made anew on top of another version of its bundle. Blocking.

    Changes of items that the version has itself are dropped up to the one that it was built with;
    deleted ones that it has are deleted again. Where the version is the one before the present one,
    its changes are taken as they were; where it has the same catalog, as they are.

    Args:
        store: with the changes of another version.
        bundle: the version to carry them over to.
        engine: of that bundle.
    """

    def __init__(self, store: ItemStore, bundle: Bundle, engine: CandidateEngine) -> None:
        self.engine = engine
        """That of the version, with the changes that were read so far."""
        self._store = store
        self._base = BundleFingerprint.of(bundle)
        self._placer = ColdStartPlacer.read(bundle)
        self._catalog = engine.catalog
        """The bundle's own."""
        self._changes: dict[str, PlacedChange] = {}
        """By item, the last that changed last."""
        self._read = 0
        """The sequence up to which the store was read."""
        before = store.base
        assert before is not None  # noqa: S101 - a store without base has nothing to carry over
        self._before = before
        self.same_encoder = before.encoder == self._base.encoder
        """Whether both versions make the same vectors of texts."""
        self._built_with = _built_with(bundle, store)
        kept = store.kept_as(self._base.version)
        if before.digest == self._base.digest:
            self._take(store.replay())
            self._read = store.sequence
        elif store.before == self._base and kept.is_file():
            self._take(read_changes(kept))
            self._read, self._built_with = store.rebased, 0

    def catch_up(self) -> None:
        """Makes what is in the store by now; to be done before `finish`, which has less to do."""
        for page in self._store.replay(self._read):
            transaction = CatalogTransaction(self.engine, self._placer)
            transaction.add(self._edits(page))
            self._keep(transaction.changes)
            staying = self._placer.staying(self.engine, transaction.changes)
            change_set = ChangeSet(transaction.changes, self._read, staying)
            self.engine = self.engine.applied(change_set)
            self._placer.allocator.commit()
            self._read = page[-1].sequence

    def finish(self) -> CatalogWriter:
        """Makes the rest, gives the store to the version, and keeps a copy of what it was.

        Nobody may write to the store meanwhile.

        Returns:
            What makes the next changes, on top of `engine`.

        Raises:
            ResourceExhausted, Unavailable: the store cannot be written to, and is as it was.
        """
        self.catch_up()
        copy = self._store.kept_as(self._before.version)
        self._store.copy(copy)
        self._store.rebase(self._base, list(self._changes.values()))
        self.engine = self.engine.applied(ChangeSet((), self._store.sequence))
        log.info(
            "store rebased",
            path=str(self._store.path),
            copy=str(copy),
            changes=len(self._changes),
        )
        return CatalogWriter(self._placer, self._store)

    def _take(self, pages: Iterator[list[StoredChange]]) -> None:
        """Takes changes that were placed in this very version."""

        def kept() -> Iterator[list[StoredChange]]:
            for page in pages:
                self._keep([stored.change for stored in page])
                yield page

        self.engine = replayed(self.engine, self._placer, kept())

    def _keep(self, changes: Sequence[PlacedChange]) -> None:
        for change in changes:
            self._changes.pop(change.item_id, None)
            gone = isinstance(change, Delete)
            if not gone or self._catalog.places([change.item_id])[0] >= 0:
                self._changes[change.item_id] = change

    def _edits(self, page: Sequence[StoredChange]) -> list[CatalogEdit]:
        positions, _ = self._catalog.lookup(stored.change.item_id for stored in page)
        items = (self._catalog.items[position] for position in positions.tolist())
        there = {item.item_id: item for item in items}
        edits: list[CatalogEdit] = []
        placed: list[PlacedItem] = []
        for stored in page:
            change = stored.change
            if isinstance(change, Delete):
                edits.append(change)
            elif change.item_id not in there or stored.sequence > self._built_with:
                placed.append(change)
        vectors = _vectors(placed, there, None if self.same_encoder else self.engine)
        for change in placed:
            item = change.item
            vector = vectors.get(item.item_id)
            edits.append(NewItem(item.item_id, item.title, item.text, item.attributes, vector))
        return edits


def _built_with(bundle: Bundle, store: ItemStore) -> int:
    """The last change of the store that a bundle was built with, of the items that it has.

    A bundle that does not know this store has those items from elsewhere: it replaces all changes.
    """
    known = bundle.manifest.store
    return known.sequence if known is not None and known.id == store.id else store.sequence


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
