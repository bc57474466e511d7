"""The two services, as far as recommendations need them, and what takes their place."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.deadline import Deadline
from gateway.domain import Answered, Ranked, ResolvedQuery, Strategy
from gateway.recommend.blend import Weights
from gateway.recommend.fallback import PopularItems


class Candidate(Protocol):
    """The candidate service, as far as recommendations need it."""

    @property
    def sequence(self) -> int:
        """Of the last change in its catalog, as far as it was asked; 0 for the bundle's own."""

    async def search(
        self, request: ResolvedQuery, count: int, deadline: Deadline
    ) -> Answered[Ranked]:
        """Shortlists `count` items; `missing` names unknown items of the history."""

    async def items(
        self, item_ids: Sequence[str], deadline: Deadline
    ) -> Answered[Mapping[str, bytes]]:
        """What given items are, as `serving.item_fields` encodes it; of those that exist."""


class Generator(Protocol):
    """The generator service, as far as recommendations need it."""

    async def rerank(
        self, request: ResolvedQuery, items: Sequence[str], deadline: Deadline
    ) -> Answered[Ranked]:
        """Scores given items."""

    async def generate(
        self, request: ResolvedQuery, count: int, deadline: Deadline
    ) -> Answered[Ranked]:
        """Generates `count` items; `missing` names unknown items of the history."""

    async def rank(
        self, request: ResolvedQuery, items: Sequence[str], count: int, deadline: Deadline
    ) -> Answered[tuple[Ranked, Ranked]]:
        """Generates `count` items, and scores given ones, of which there is at least one."""


@dataclass(frozen=True)
class Services:
    """Where items and scores come from."""

    candidate: Candidate
    generator: Generator
    popularity: PopularItems
    weights: Mapping[Strategy, Weights]
    """Of the strategies that blend."""
