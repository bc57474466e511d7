"""Where a build's data comes from: MovieLens or the user's own logs, and the live catalog."""

import dataclasses
import hashlib
import json
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from core.bundle import sha256
from core.manifest import StoreSection
from offline.dataset import (
    Dataset,
    Item,
    LogsConfig,
    MovieLens,
    fetch,
    load_logs,
    load_movielens,
)
from offline.dataset.generated import read_generated, with_generated
from offline.reviews.items import described

if TYPE_CHECKING:
    from gateway.history.tombstones import DeletedUsers
    from services.candidate.catalog.store import Snapshot


class Source(Protocol):
    """Data that can be loaded, and told apart from other data without being loaded."""

    @property
    def name(self) -> str:
        """Of the data, and of the bundle unless told otherwise."""

    @property
    def store(self) -> StoreSection | None:
        """The live catalog's store that items are taken from, if they are."""

    def facts(self) -> dict[str, Any]:
        """What decides the content, as JSON."""

    def load(self, extra: Mapping[str, Item] | None = None) -> Dataset:
        """Reads it, fetching it first where it must be.

        Args:
            extra: items by id that join those of the data, and replace those of the same id.
        """


S = TypeVar("S", bound=Source)


class Filterable(Source, Protocol):
    """Data of which users can be left out."""

    def load(
        self, extra: Mapping[str, Item] | None = None, left_out: Container[str] = ()
    ) -> Dataset:
        """Reads it, fetching it first where it must be.

        Args:
            extra: items by id that join those of the data, and replace those of the same id.
            left_out: ids of users whose interactions do not count.
        """


@dataclass(frozen=True)
class MovieLensSource:
    """One of GroupLens' data sets, downloaded when it is not there."""

    name: MovieLens
    directory: Path
    generated: Path | None = None
    """A table that `tandem enrich` wrote about its items."""

    @property
    def store(self) -> None:
        """None by itself."""

    def facts(self) -> dict[str, Any]:
        """Its name, because the content is pinned by checksum; and what was generated."""
        written = {} if self.generated is None else {"generated": sha256(self.generated)}
        return {"movielens": self.name, **written}

    def load(
        self, extra: Mapping[str, Item] | None = None, left_out: Container[str] = ()
    ) -> Dataset:
        """Downloads it once, and reads it."""
        fetch(self.name, self.directory)
        data = load_movielens(self.name, self.directory, extra=extra, left_out=left_out)
        if self.generated is None:
            return data
        written = read_generated(self.generated)
        return dataclasses.replace(data, items=with_generated(data.items, written, extra or {}))


@dataclass(frozen=True)
class LogsSource:
    """The user's own files."""

    config: LogsConfig

    @property
    def name(self) -> str:
        """What the user calls them."""
        return self.config.name

    @property
    def store(self) -> None:
        """None by itself."""

    def facts(self) -> dict[str, Any]:
        """How they are read, and the checksums of what is in them."""
        settings = dataclasses.asdict(self.config)
        for file in ("interactions", "items"):
            settings[file] = sha256(settings[file]) if settings[file] else None
        return settings

    def load(
        self, extra: Mapping[str, Item] | None = None, left_out: Container[str] = ()
    ) -> Dataset:
        """Reads and checks them; items without a text get one from what was written of them."""
        return described(load_logs(self.config, extra, left_out))


@dataclass(frozen=True)
class SourceOver(Generic[S]):
    """Another source, read in another way; under its name, with its store."""

    source: S

    @property
    def name(self) -> str:
        """That of the source."""
        return self.source.name

    @property
    def store(self) -> StoreSection | None:
        """That of the source."""
        return self.source.store


@dataclass(frozen=True)
class WithStore(SourceOver[Filterable]):
    """Another source, with the items that the live catalog added or replaced since.

    Those that it deleted stay: histories hold them, and the store goes on deleting them.
    """

    snapshot: "Snapshot"

    @property
    def store(self) -> StoreSection:
        """The store, and how far it was."""
        return StoreSection(id=self.snapshot.id, sequence=self.snapshot.sequence)

    def facts(self) -> dict[str, Any]:
        """Those of the source, and the checksum of the items.

        Not the sequence: what is deleted meanwhile, or put as it was, is no reason to train anew.
        """
        if not self.snapshot.items:
            return self.source.facts()
        digest = hashlib.sha256()
        for _, item in sorted(self._items().items()):
            digest.update(json.dumps(dataclasses.asdict(item), sort_keys=True).encode())
        return {**self.source.facts(), "store": digest.hexdigest()}

    def load(
        self, extra: Mapping[str, Item] | None = None, left_out: Container[str] = ()
    ) -> Dataset:
        """Reads the source with the items of the store."""
        return self.source.load({**self._items(), **(extra or {})}, left_out)

    def _items(self) -> dict[str, Item]:
        return {
            item.item_id: Item(item.item_id, item.title, item.text, item.attributes)
            for item in self.snapshot.items.values()
        }


@dataclass(frozen=True)
class WithoutDeleted(SourceOver[Filterable]):
    """Another source, without the users who were deleted from a gateway's histories.

    Somebody who came back is left out, too: the data do not say which rows are of before.
    """

    deleted: "DeletedUsers"

    def facts(self) -> dict[str, Any]:
        """Those of the source, and the checksum of who was deleted, as keyed hashes."""
        if not self.deleted.hashes:
            return self.source.facts()
        digest = hashlib.sha256(b"".join(sorted(self.deleted.hashes)))
        return {**self.source.facts(), "deleted_users": digest.hexdigest()}

    def load(self, extra: Mapping[str, Item] | None = None) -> Dataset:
        """Reads the source without them."""
        return self.source.load(extra, self.deleted)
