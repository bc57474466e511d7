"""The values that the gateway works with, between the messages that come in and those that go out.

The gateway names items by their identifiers, as its callers and services do: it computes nothing
over the catalog.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from runtime.filters import Filter


class Strategy(StrEnum):
    """How recommendations are made."""

    RERANK = "rerank"
    GENERATE = "generate"
    FUSE = "fuse"
    EMBEDDING = "embedding"


@dataclass(frozen=True)
class Query:
    """What a caller asks for, validated."""

    user_id: str
    history: tuple[str, ...] | None
    """The history that the caller gave, oldest first; None to look it up."""
    max_results: int
    strategy: Strategy
    excluded: tuple[str, ...] = ()
    filter: Filter | None = None
    include_seen: bool = False


@dataclass(frozen=True)
class Request:
    """A query together with the history that serves it: what the services are asked."""

    query: Query
    history: tuple[str, ...]


@dataclass(frozen=True)
class Scored:
    """An item and one service's score."""

    item_id: str
    score: float


@dataclass(frozen=True)
class Ranked:
    """A service's answer, best first."""

    items: tuple[Scored, ...]
    missing: tuple[str, ...] = ()
    """Items of the request that the service's catalog does not have."""


@dataclass(frozen=True)
class Recommended:
    """A recommended item, the score that ordered it, and the scores it was made of."""

    item_id: str
    score: float
    retrieval: float | None = None
    generator: float | None = None


@dataclass(frozen=True)
class StageTime:
    """How long a step took, in seconds."""

    stage: str
    seconds: float


@dataclass(frozen=True)
class Answer:
    """What a caller gets."""

    items: tuple[Recommended, ...]
    missing: tuple[str, ...]
    strategy: Strategy
    timings: tuple[StageTime, ...] = field(default=())
