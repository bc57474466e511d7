"""The values that the gateway works with, between the messages that come in and those that go out.

The gateway names items by their identifiers, as its callers and services do: it computes nothing
over the catalog. A request makes hundreds of scored items: these are tuples, the quickest to make.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, NamedTuple, TypeVar

from core.constraints import UNCONSTRAINED, Constraints
from core.filters import Filter
from serving.item_fields import ATTRIBUTES, ITEM_FIELDS, Fields


class Strategy(StrEnum):
    """How recommendations are made."""

    RERANK = "rerank"
    GENERATE = "generate"
    FUSE = "fuse"
    EMBEDDING = "embedding"


@dataclass(frozen=True)
class Pin:
    """An item to show whatever its score."""

    item_id: str
    position: int = 0
    """Its place in the list, from 1; 0 for the first that nothing else is pinned to."""


@dataclass(frozen=True)
class Cap:
    """A limit on the items of a list that have the same value of an attribute."""

    attribute: str
    max_items: int


@dataclass(frozen=True)
class Boost:
    """What becomes of items that satisfy a condition."""

    condition: Filter
    boost: float
    """From -1, as far down as a boost reaches, to 1, as far up."""


@dataclass(frozen=True)
class Rules:
    """What a caller wants of the list as a whole, beside what it allows in it."""

    pins: tuple[Pin, ...] = ()
    caps: tuple[Cap, ...] = ()
    diversity: float = 0.0
    """From 0, the best items, to 1, items as unlike each other as possible."""
    boosts: tuple[Boost, ...] = ()

    @property
    def choosy(self) -> bool:
        """Whether a list needs more items to choose from than it has places, and their
        attributes to choose by."""
        return bool(self.caps or self.diversity or self.boosts)


@dataclass(frozen=True)
class Query:
    """What a caller asks for, validated."""

    user_id: str
    history: tuple[str, ...] | None
    """The history that the caller gave, oldest first; None to look it up."""
    max_results: int
    strategy: Strategy
    constraints: Constraints = UNCONSTRAINED
    rules: Rules = Rules()
    forbid_degraded: bool = False
    """Whether to fail rather than to answer with less."""
    diagnostics: bool = False
    item_fields: Fields = ()
    """What the answer is to say of each item."""
    exact: bool = False
    """Whether to search on until a generated list is proved."""

    @property
    def needed_fields(self) -> Fields:
        """What services are to say of each item: the rules go by attributes."""
        needed = {*self.item_fields, *([ATTRIBUTES] if self.rules.choosy else [])}
        return tuple(name for name in ITEM_FIELDS if name in needed)


@dataclass(frozen=True)
class ResolvedQuery:
    """A query together with the history that serves it: what the services are asked."""

    query: Query
    history: tuple[str, ...]


class Origin(NamedTuple):
    """What a service answered from."""

    bundle_version: str
    catalog_sequence: int
    """The last change that is in its catalog."""


T = TypeVar("T")


@dataclass(frozen=True)
class Answered(Generic[T]):
    """What a service answered, and from what."""

    value: T
    origin: Origin | None = None
    """None where no service was asked."""


class Scored(NamedTuple):
    """An item and one service's score."""

    item_id: str
    score: float
    transitions: float | None = None
    """Of a shortlisted item: what transitions alone score it, where they do."""


class Proof(NamedTuple):
    """What is certain of a generated list; the fields are those of the message `ListProof`."""

    exact: bool
    places: int
    gap: float

    def of_first(self, count: int, length: int) -> "Proof":
        """Of the first items of a list of some length."""
        exact = self.exact or (count < length and self.places >= count)
        return Proof(exact, min(self.places, count), 0.0 if exact else self.gap)


@dataclass(frozen=True)
class Ranked:
    """A service's answer, best first."""

    items: tuple[Scored, ...]
    missing: tuple[str, ...] = ()
    """Items of the request that the service's catalog does not have."""
    fields: Mapping[str, bytes] = field(default_factory=dict)
    """What was asked for of each item, as `serving.item_fields` encodes it."""
    sequence: int | None = None
    """Of the last change in the catalog that `fields` are from, where that may be behind the
    candidate's; 0 for the bundle's own."""
    proof: Proof | None = None
    """Of a generated list, where the generator proves any."""


class Recommended(NamedTuple):
    """A recommended item, the score that ordered it, and the scores it was made of."""

    item_id: str
    score: float
    retrieval: float | None = None
    generator: float | None = None
    pinned: bool = False
    """Whether it is there since the caller pinned it; its score is 0 where no step scored it."""
    fields: bytes = b""
    """What the caller asks for of it, as `serving.item_fields` encodes it."""


class Fallback(StrEnum):
    """What takes the place of a step that failed."""

    RETRIEVAL = "retrieval"
    GENERATION = "generation"
    POPULARITY = "popularity"
    NO_HISTORY = "no_history"
    NONE = "none"


@dataclass(frozen=True)
class Degradation:
    """A step that failed, and what the answer is made of instead."""

    stage: str
    reason: str
    """As an error would give it, such as DEADLINE_EXCEEDED."""
    fallback: Fallback


@dataclass(frozen=True)
class StageTime:
    """How long a step took, in seconds."""

    stage: str
    seconds: float
    budget: float | None = None
    """How long it was allowed to take; None for a step without a limit of its own."""
    origin: Origin | None = None
    """What answered it; None where no service did."""


class Rule(StrEnum):
    """A rule of the gateway."""

    DUPLICATE = "duplicate"
    EXCLUDED = "excluded"
    PINNED = "pinned"
    CAP = "cap"
    BOOST = "boost"
    DIVERSITY = "diversity"


@dataclass(frozen=True)
class RuleEffect:
    """What a rule did to an item."""

    item_id: str
    rule: Rule
    detail: str
    """In words."""
    before: int
    """Its place before the rule, from 1; 0 for none."""
    after: int
    """Its place after it; 0 where the rule left it out."""


@dataclass(frozen=True)
class StageRank:
    """An item's place at one step."""

    stage: str
    rank: int
    score: float


@dataclass(frozen=True)
class SourceScore:
    """One retrieval source's score of an item, and what it counts."""

    source: str
    score: float
    weight: float


@dataclass(frozen=True)
class Influence:
    """By how much an item of the history raises a score."""

    item_id: str
    contribution: float


@dataclass(frozen=True)
class Retrieval:
    """What retrieval makes of an item."""

    sources: tuple[SourceScore, ...] = ()
    influences: tuple[Influence, ...] = ()
    """Of the history's items, most first."""


@dataclass(frozen=True)
class CodeToken:
    """A token of an item's code, and its log-probability after those before it."""

    text: str
    log_probability: float


@dataclass(frozen=True)
class ItemCode:
    """An item's code."""

    text: str
    tokens: tuple[CodeToken, ...]


@dataclass(frozen=True)
class ItemDiagnostics:
    """Why an item is where it is."""

    item_id: str
    stages: tuple[StageRank, ...] = ()
    retrieval: Retrieval = Retrieval()
    code: ItemCode | None = None
    rules: tuple[RuleEffect, ...] = ()


@dataclass(frozen=True)
class Diagnostics:
    """Why a list is what it is."""

    items: tuple[ItemDiagnostics, ...]
    """The recommended items in order, then those that a rule left out."""
    history: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """What a caller gets."""

    items: tuple[Recommended, ...]
    missing: tuple[str, ...]
    strategy: Strategy | None
    """What made the list; None where nothing but popularity could."""
    history: tuple[str, ...] = ()
    """What the items were recommended from."""
    timings: tuple[StageTime, ...] = field(default=())
    degradations: tuple[Degradation, ...] = ()
    diagnostics: Diagnostics | None = None
    proof: Proof | None = None
    """What is certain of the list, where it is a generated one that nothing changed."""
