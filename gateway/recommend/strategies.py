"""How a list is made: calls of the two services, and what takes the place of one that fails.

EMBEDDING   Search
RERANK      Search ────▶ Rerank ──▶ blend
GENERATE    Generate
FUSE        Search ────▶ Rank ────▶ blend

Rank generates and reranks at once: the model reads the user one time. Generating beside the search
and reranking afterwards would keep the search off the path, but it is the shortest of the three: on
the demo's bundle, two cores, one caller waits 7.5 ms this way and 10 that way, and eight callers
get a third more answers.

Where the bundle gives the generator no weight, reranking and fusing would return the shortlist in
its own order, so that is what they do, without a call.

Without the generator there is the order of retrieval, without retrieval what the generator finds
in the whole catalog, and without both what is popular. A step that something could take the place
of leaves time for that; where the caller forbids it, a step may take all the time there is.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeVar

from core.errors import TandemError, Unavailable
from gateway.calls.failures import is_trouble
from gateway.deadline import Deadline
from gateway.domain import (
    Answered,
    Degradation,
    Fallback,
    ItemCode,
    Ranked,
    Recommended,
    Request,
    Retrieval,
    Scored,
    Strategy,
)
from gateway.recommend.blend import Weights, blend, generated_only, retrieved_only
from gateway.recommend.fallback import Popularity
from gateway.recommend.timing import Stage, Stopwatch

FIRST_SHARE: Final = 0.6
"""Of the time that is left, for a step that another call follows or may take the place of."""
LAST_SHARE: Final = 0.9
"""For a last call: what takes its place is at hand."""


T = TypeVar("T")


class Candidate(Protocol):
    """The candidate service, as far as recommendations need it."""

    async def search(self, request: Request, count: int, deadline: Deadline) -> Answered[Ranked]:
        """Shortlists `count` items; `missing` names unknown items of the history."""

    async def items(
        self, item_ids: Sequence[str], deadline: Deadline
    ) -> Answered[Mapping[str, bytes]]:
        """What given items are, as `serving.item_fields` encodes it; of those that exist."""

    async def diagnose(
        self, request: Request, items: Sequence[str], deadline: Deadline
    ) -> Answered[Mapping[str, Retrieval]]:
        """What retrieval makes of given items; of those that it knows."""


class Generator(Protocol):
    """The generator service."""

    async def rerank(
        self, request: Request, items: Sequence[str], deadline: Deadline
    ) -> Answered[Ranked]:
        """Scores given items."""

    async def generate(self, request: Request, count: int, deadline: Deadline) -> Answered[Ranked]:
        """Generates `count` items; `missing` names unknown items of the history."""

    async def rank(
        self, request: Request, items: Sequence[str], count: int, deadline: Deadline
    ) -> Answered[tuple[Ranked, Ranked]]:
        """Generates `count` items, and scores given ones, of which there is at least one."""

    async def diagnose(
        self, request: Request, items: Sequence[str], deadline: Deadline
    ) -> Answered[Mapping[str, ItemCode]]:
        """The codes of given items, token by token; of those that it knows."""


@dataclass(frozen=True)
class Sources:
    """Where items and scores come from."""

    candidate: Candidate
    generator: Generator
    popularity: Popularity
    weights: Mapping[Strategy, Weights]
    """Of the strategies that blend."""


@dataclass
class Journal:
    """What happens while a request is served."""

    deadline: Deadline
    may_degrade: bool
    bundle_version: str = ""
    """Of the gateway, which the services should have too."""
    watch: Stopwatch = field(default_factory=Stopwatch)
    degradations: list[Degradation] = field(default_factory=list)
    ranked: dict[str, Sequence[Scored | Recommended]] = field(default_factory=dict)
    """What each stage ranked."""

    def share(self, fraction: float) -> Deadline:
        """By when a step must have ended that something could take the place of."""
        return self.deadline.share(fraction if self.may_degrade else 1.0)

    def tolerates(self, error: TandemError) -> bool:
        """Whether an answer may lack what failed: the request is not to blame, and allows it."""
        return self.may_degrade and is_trouble(error)

    def take(self, stage: Stage, answered: Answered[T]) -> T:
        """What a service answered to a stage; notes from what, and whether that belongs here.

        Raises:
            Unavailable: reason MIXED_VERSIONS: another version of the bundle answered, and the
                request forbids that.
        """
        stage.origin = answered.origin
        if answered.origin is None or answered.origin.bundle_version == self.bundle_version:
            return answered.value
        mixed = Unavailable(
            f"{stage.name} was answered from bundle {answered.origin.bundle_version}, and the "
            f"gateway has {self.bundle_version}; try again when all have the same",
            reason="MIXED_VERSIONS",
        )
        self.do_without(stage.name, mixed, Fallback.NONE)
        return answered.value

    def do_without(self, stage: str, error: TandemError, fallback: Fallback) -> None:
        """Goes on without a stage that failed.

        Raises:
            TandemError: the error itself, where it is not tolerated.
        """
        if not self.tolerates(error):
            raise error
        self.degradations.append(Degradation(stage, error.reason, fallback))


@dataclass(frozen=True)
class Call:
    """What a strategy works with, for one request."""

    request: Request
    sources: Sources
    journal: Journal
    count: int
    """How many items to find."""
    shortlist: int
    """How many items to shortlist for the generator."""

    async def search(self, count: int, share: float) -> Ranked:
        """The shortlist."""
        deadline = self.journal.share(share)
        with self.journal.watch.stage("search", deadline) as stage:
            answered = await self.sources.candidate.search(self.request, count, deadline)
            found = self.journal.take(stage, answered)
        self.journal.ranked["search"] = found.items
        return found

    async def generate(self, share: float) -> Ranked:
        """The generated list."""
        deadline = self.journal.share(share)
        with self.journal.watch.stage("generate", deadline) as stage:
            answered = await self.sources.generator.generate(self.request, self.count, deadline)
            found = self.journal.take(stage, answered)
        self.journal.ranked["generate"] = found.items
        return found

    async def rerank(self, items: Sequence[str]) -> tuple[Scored, ...]:
        """The generator's scores of given items, of which there may be none."""
        if not items:
            return ()
        deadline = self.journal.share(LAST_SHARE)
        with self.journal.watch.stage("rerank", deadline) as stage:
            answered = await self.sources.generator.rerank(self.request, items, deadline)
            found = self.journal.take(stage, answered)
        self.journal.ranked["rerank"] = found.items
        return found.items

    async def rank(self, items: Sequence[str]) -> tuple[Ranked, Ranked]:
        """The generated list, and the generator's scores of given items."""
        deadline = self.journal.share(LAST_SHARE)
        with self.journal.watch.stage("rank", deadline) as stage:
            answered = await self.sources.generator.rank(self.request, items, self.count, deadline)
            generated, reranked = self.journal.take(stage, answered)
        self.journal.ranked |= {"generate": generated.items, "rerank": reranked.items}
        return generated, reranked

    def blend(
        self, retrieved: Sequence[Scored], generated: Sequence[Scored], weights: Weights
    ) -> list[Recommended]:
        """Both, as one ranking."""
        with self.journal.watch.stage("blend"):
            items = blend(retrieved, generated, weights)
        self.journal.ranked["blend"] = items
        return items


@dataclass(frozen=True)
class Outcome:
    """All that a strategy found, best first, and the unknown items of the history."""

    strategy: Strategy | None
    """The one that found it, after whatever failed; None for what is popular."""
    items: Sequence[Recommended]
    missing: Sequence[str]
    fields: Sequence[Mapping[str, bytes]] = ()
    """What the items are; each source knows those that it found."""

    def fields_of(self, item_id: str) -> bytes:
        """What an item is; nothing where that was not asked for."""
        return next((known[item_id] for known in self.fields if item_id in known), b"")


async def embedding(call: Call) -> Outcome:
    """The candidate service alone."""
    try:
        shortlist = await call.search(call.count, FIRST_SHARE)
    except TandemError as error:
        call.journal.do_without("search", error, Fallback.GENERATION)
        return await _generated(call)
    return _retrieval(shortlist)


async def rerank(call: Call) -> Outcome:
    """A shortlist, reordered with the generator's scores; as it is where these count nothing."""
    weights = call.sources.weights[Strategy.RERANK]
    if not weights.generator:
        return await embedding(call)
    try:
        shortlist = await call.search(call.shortlist, FIRST_SHARE)
    except TandemError as error:
        call.journal.do_without("search", error, Fallback.GENERATION)
        return await _generated(call)
    try:
        scores = await call.rerank([item.item_id for item in shortlist.items])
    except TandemError as error:
        call.journal.do_without("rerank", error, Fallback.RETRIEVAL)
        return _retrieval(shortlist)
    items = call.blend(shortlist.items, scores, weights)
    return Outcome(Strategy.RERANK, items, shortlist.missing, (shortlist.fields,))


async def generate(call: Call) -> Outcome:
    """The generator alone, over the whole catalog."""
    try:
        generated = await call.generate(FIRST_SHARE)
    except TandemError as error:
        call.journal.do_without("generate", error, Fallback.RETRIEVAL)
        return await _retrieved(call)
    return _generation(generated)


async def fuse(call: Call) -> Outcome:
    """A shortlist and a generated list, merged; the generator's scores of both are comparable."""
    weights = call.sources.weights[Strategy.FUSE]
    if not weights.generator:
        return await embedding(call)
    try:
        shortlist = await call.search(call.shortlist, FIRST_SHARE)
    except TandemError as error:
        call.journal.do_without("search", error, Fallback.GENERATION)
        return await _generated(call)
    if not shortlist.items:
        return await generate(call)
    try:
        generated, reranked = await call.rank([item.item_id for item in shortlist.items])
    except TandemError as error:
        call.journal.do_without("rank", error, Fallback.RETRIEVAL)
        return _retrieval(shortlist)
    items = call.blend(shortlist.items, (*generated.items, *reranked.items), weights)
    missing, fields = (*shortlist.missing, *generated.missing), (shortlist.fields, generated.fields)
    return Outcome(Strategy.FUSE, items, missing, fields)


STRATEGIES: Final[Mapping[Strategy, Callable[[Call], Awaitable[Outcome]]]] = {
    Strategy.EMBEDDING: embedding,
    Strategy.RERANK: rerank,
    Strategy.GENERATE: generate,
    Strategy.FUSE: fuse,
}


def _retrieval(shortlist: Ranked) -> Outcome:
    items = retrieved_only(shortlist.items)
    return Outcome(Strategy.EMBEDDING, items, shortlist.missing, (shortlist.fields,))


def _generation(generated: Ranked) -> Outcome:
    items = generated_only(generated.items)
    return Outcome(Strategy.GENERATE, items, generated.missing, (generated.fields,))


async def _generated(call: Call) -> Outcome:
    """For retrieval that failed."""
    try:
        generated = await call.generate(LAST_SHARE)
    except TandemError as error:
        call.journal.do_without("generate", error, Fallback.POPULARITY)
        return _popular(call)
    return _generation(generated)


async def _retrieved(call: Call) -> Outcome:
    """For generation that failed."""
    try:
        shortlist = await call.search(call.count, LAST_SHARE)
    except TandemError as error:
        call.journal.do_without("search", error, Fallback.POPULARITY)
        return _popular(call)
    return _retrieval(shortlist)


def _popular(call: Call) -> Outcome:
    """For services that both failed."""
    with call.journal.watch.stage("popularity"):
        items = call.sources.popularity.best(call.request, call.count)
    call.journal.ranked["popularity"] = items
    return Outcome(None, items, (), (call.sources.popularity.fields,))
