"""How the data that a measurement is about is split."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from offline.build.source import Source, SourceOver
from offline.dataset import Dataset, Item

Protocol = Literal["leave-one-out", "rolling"]

TESTED: Final[dict[Protocol, int]] = {"leave-one-out": 1, "rolling": 10}
"""Last interactions of a user that are tested; the one before them is for validation."""


@dataclass(frozen=True)
class HeldBack(SourceOver[Source]):
    """Another source, with several of every user's last interactions to test on."""

    tested: int

    def facts(self) -> dict[str, Any]:
        """Those of the source, and how much is held back."""
        return {**self.source.facts(), "tested": self.tested}

    def load(self, extra: Mapping[str, Item] | None = None) -> Dataset:
        """Reads the source, and splits it in another way."""
        return self.source.load(extra).held_back(self.tested)


def split(source: Source, protocol: Protocol) -> Source:
    """A source as a protocol splits it; leave-one-out is how every build does."""
    tested = TESTED[protocol]
    return source if tested == 1 else HeldBack(source, tested)
