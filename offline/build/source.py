"""Where a build's data comes from: MovieLens, or the user's own logs."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from offline.dataset import (
    Dataset,
    LogsConfig,
    MovieLens,
    fetch,
    load_logs,
    load_movielens,
)
from runtime.bundle import sha256


class Source(Protocol):
    """Data that can be loaded, and told apart from other data without being loaded."""

    @property
    def name(self) -> str:
        """Of the data, and of the bundle unless told otherwise."""

    def facts(self) -> dict[str, Any]:
        """What decides the content, as JSON."""

    def load(self) -> Dataset:
        """Reads it, fetching it first where it must be."""


@dataclass(frozen=True)
class MovieLensSource:
    """One of GroupLens' data sets, downloaded when it is not there."""

    name: MovieLens
    directory: Path

    def facts(self) -> dict[str, Any]:
        """Its name: the content is pinned by checksum."""
        return {"movielens": self.name}

    def load(self) -> Dataset:
        """Downloads it once, and reads it."""
        fetch(self.name, self.directory)
        return load_movielens(self.name, self.directory)


@dataclass(frozen=True)
class LogsSource:
    """The user's own files."""

    config: LogsConfig

    @property
    def name(self) -> str:
        """What the user calls them."""
        return self.config.name

    def facts(self) -> dict[str, Any]:
        """How they are read, and the checksums of what is in them."""
        settings = dataclasses.asdict(self.config)
        for file in ("interactions", "items"):
            settings[file] = sha256(settings[file])
        return settings

    def load(self) -> Dataset:
        """Reads and checks them."""
        return load_logs(self.config)
