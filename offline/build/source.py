"""Where a build's data comes from: MovieLens or the user's own logs, and the live catalog."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

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

if TYPE_CHECKING:
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


@dataclass(frozen=True)
class MovieLensSource:
    """One of GroupLens' data sets, downloaded when it is not there."""

    name: MovieLens
    directory: Path

    @property
    def store(self) -> None:
        """None by itself."""

    def facts(self) -> dict[str, Any]:
        """Its name: the content is pinned by checksum."""
        return {"movielens": self.name}

    def load(self, extra: Mapping[str, Item] | None = None) -> Dataset:
        """Downloads it once, and reads it."""
        fetch(self.name, self.directory)
        return load_movielens(self.name, self.directory, extra=extra)


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
            settings[file] = sha256(settings[file])
        return settings

    def load(self, extra: Mapping[str, Item] | None = None) -> Dataset:
        """Reads and checks them."""
        return load_logs(self.config, extra)


@dataclass(frozen=True)
class WithStore:
    """Another source, with the items that the live catalog added or replaced since.

    Those that it deleted stay: histories hold them, and the store goes on deleting them.
    """

    source: Source
    snapshot: "Snapshot"

    @property
    def name(self) -> str:
        """That of the source."""
        return self.source.name

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

    def load(self, extra: Mapping[str, Item] | None = None) -> Dataset:
        """Reads the source with the items of the store."""
        return self.source.load({**self._items(), **(extra or {})})

    def _items(self) -> dict[str, Item]:
        return {
            item.item_id: Item(item.item_id, item.title, item.text, item.attributes)
            for item in self.snapshot.items.values()
        }
