"""The data that a measurement is about: MovieLens, or one's own logs, and how it is split."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import typer

from cli.logs import logs_config
from core.manifest import StoreSection
from offline.build.source import LogsSource, MovieLensSource, Source
from offline.dataset import Dataset, Item

Protocol = Literal["leave-one-out", "rolling"]

TESTED: Final[dict[Protocol, int]] = {"leave-one-out": 1, "rolling": 10}
"""Last interactions of a user that are tested; the one before them is for validation."""


@dataclass(frozen=True)
class HeldBack:
    """Another source, with several of every user's last interactions to test on."""

    source: Source
    tested: int

    @property
    def name(self) -> str:
        """That of the source."""
        return self.source.name

    @property
    def store(self) -> StoreSection | None:
        """That of the source."""
        return self.source.store

    def facts(self) -> dict[str, Any]:
        """Those of the source, and how much is held back."""
        return {**self.source.facts(), "tested": self.tested}

    def load(self, extra: Mapping[str, Item] | None = None) -> Dataset:
        """Reads the source, and splits it in another way."""
        return self.source.load(extra).held_back(self.tested)


def source_of(options: Mapping[str, Any]) -> Source:
    """The source that a command's options describe.

    Args:
        options: `movielens`, or those of `cli.logs`; and `data`, where MovieLens is kept.

    Raises:
        typer.BadParameter: neither or both are named.
    """
    movielens, own = options["movielens"], (options["interactions"], options["items"])
    if (movielens is None) == (own == (None, None)) or (own[0] is None) != (own[1] is None):
        raise typer.BadParameter("name ml-100k or ml-1m, or both --interactions and --items")
    if movielens is not None:
        return MovieLensSource(movielens, Path(options["data"]))
    return LogsSource(logs_config({**options, "name": options["name"] or "logs"}))


def split(source: Source, protocol: Protocol) -> Source:
    """A source as a protocol splits it; leave-one-out is how every build does."""
    tested = TESTED[protocol]
    return source if tested == 1 else HeldBack(source, tested)
