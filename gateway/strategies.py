"""How a list is made: calls of the two services, and what takes the place of one that fails.

EMBEDDING   Search
RERANK      Search ────▶ Rerank ──▶ blend
GENERATE    Generate
FUSE        Search ──┬─▶ Rerank ──▶ blend
            Generate ┘

Without the generator there is the order of retrieval, without retrieval what the generator finds
in the whole catalog, and without both what is popular. A step that something could take the place
of leaves time for that; where the caller forbids it, a step may take all the time there is.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar

from gateway.blend import Weights, blend, generated_only, retrieved_only
from gateway.calls.failures import is_trouble
from gateway.deadline import Deadline
from gateway.domain import (
    Degradation,
    Fallback,
    Ranked,
    Recommended,
    Request,
    Scored,
    Strategy,
)
from gateway.fallback import Popularity
from gateway.timing import Stopwatch
from runtime.errors import TandemError

FIRST_SHARE: Final = 0.6
"""Of the time that is left, for a step that another call follows or may take the place of."""
LAST_SHARE: Final = 0.9
"""For a last call: what takes its place is at hand."""

A = TypeVar("A")
B = TypeVar("B")


class Candidate(Protocol):
    """The candidate service, as far as recommendations need it."""

    async def search(self, request: Request, count: int, deadline: Deadline) -> Ranked:
        """Shortlists `count` items; `missing` names unknown items of the history."""


class Generator(Protocol):
    """The generator service."""

    async def rerank(self, request: Request, items: Sequence[str], deadline: Deadline) -> Ranked:
        """Scores given items."""

    async def generate(self, request: Request, count: int, deadline: Deadline) -> Ranked:
        """Generates `count` items; `missing` names unknown items of the history."""


@dataclass(frozen=True)
class Sources:
    """Where items and scores come from."""

    candidate: Candidate
    generator: Generator
    popularity: Popularity
    weights: Weights


@dataclass
class Journal:
    """What happens while a request is served."""

    deadline: Deadline
    may_degrade: bool
    watch: Stopwatch = field(default_factory=Stopwatch)
    degradations: list[Degradation] = field(default_factory=list)
    ranked: dict[str, Sequence[Scored]] = field(default_factory=dict)
    """What each stage ranked."""

    def share(self, fraction: float) -> Deadline:
        """By when a step must have ended that something could take the place of."""
        return self.deadline.share(fraction if self.may_degrade else 1.0)

    def tolerates(self, error: TandemError) -> bool:
        """Whether an answer may lack what failed: the request is not to blame, and allows it."""
        return self.may_degrade and is_trouble(error)

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
        with self.journal.watch.stage("search", deadline):
            found = await self.sources.candidate.search(self.request, count, deadline)
        self.journal.ranked["search"] = found.items
        return found

    async def generate(self, share: float) -> Ranked:
        """The generated list."""
        deadline = self.journal.share(share)
        with self.journal.watch.stage("generate", deadline):
            found = await self.sources.generator.generate(self.request, self.count, deadline)
        self.journal.ranked["generate"] = found.items
        return found

    async def rerank(self, items: Sequence[str]) -> tuple[Scored, ...]:
        """The generator's scores of given items, of which there may be none."""
        if not items:
            return ()
        deadline = self.journal.share(LAST_SHARE)
        with self.journal.watch.stage("rerank", deadline):
            found = await self.sources.generator.rerank(self.request, items, deadline)
        self.journal.ranked["rerank"] = found.items
        return found.items

    def blend(self, retrieved: Sequence[Scored], generated: Sequence[Scored]) -> list[Recommended]:
        """Both, as one ranking."""
        with self.journal.watch.stage("blend"):
            return blend(retrieved, generated, self.sources.weights)


@dataclass(frozen=True)
class Outcome:
    """All that a strategy found, best first, and the unknown items of the history."""

    items: Sequence[Recommended]
    missing: Sequence[str]


async def embedding(call: Call) -> Outcome:
    """The candidate service alone."""
    try:
        shortlist = await call.search(call.count, FIRST_SHARE)
    except TandemError as error:
        call.journal.do_without("search", error, Fallback.GENERATION)
        return await _generated(call)
    return Outcome(retrieved_only(shortlist.items), shortlist.missing)


async def rerank(call: Call) -> Outcome:
    """A shortlist, reordered with the generator's scores."""
    try:
        shortlist = await call.search(call.shortlist, FIRST_SHARE)
    except TandemError as error:
        call.journal.do_without("search", error, Fallback.GENERATION)
        return await _generated(call)
    try:
        scores = await call.rerank([item.item_id for item in shortlist.items])
    except TandemError as error:
        call.journal.do_without("rerank", error, Fallback.RETRIEVAL)
        return Outcome(retrieved_only(shortlist.items), shortlist.missing)
    return Outcome(call.blend(shortlist.items, scores), shortlist.missing)


async def generate(call: Call) -> Outcome:
    """The generator alone, over the whole catalog."""
    try:
        generated = await call.generate(FIRST_SHARE)
    except TandemError as error:
        call.journal.do_without("generate", error, Fallback.RETRIEVAL)
        return await _retrieved(call)
    return Outcome(generated_only(generated.items), generated.missing)


async def fuse(call: Call) -> Outcome:
    """Shortlist and generated list side by side; the generator then scores the rest of the former.

    A generated item has its generator score already, which is the one that reranking would give.
    """
    shortlist, generated = await _together(
        _attempt(call.journal, call.search(call.shortlist, FIRST_SHARE)),
        _attempt(call.journal, call.generate(FIRST_SHARE)),
    )
    if isinstance(shortlist, TandemError) or isinstance(generated, TandemError):
        return _one_half(call, shortlist, generated)
    scored = {item.item_id for item in generated.items}
    rest = [item.item_id for item in shortlist.items if item.item_id not in scored]
    scores = await _attempt(call.journal, call.rerank(rest))
    if isinstance(scores, TandemError):
        call.journal.do_without("rerank", scores, Fallback.NONE)
        scores = ()
    items = call.blend(shortlist.items, (*generated.items, *scores))
    return Outcome(items, (*shortlist.missing, *generated.missing))


STRATEGIES: Final[Mapping[Strategy, Callable[[Call], Awaitable[Outcome]]]] = {
    Strategy.EMBEDDING: embedding,
    Strategy.RERANK: rerank,
    Strategy.GENERATE: generate,
    Strategy.FUSE: fuse,
}


async def _generated(call: Call) -> Outcome:
    """For retrieval that failed."""
    try:
        generated = await call.generate(LAST_SHARE)
    except TandemError as error:
        call.journal.do_without("generate", error, Fallback.POPULARITY)
        return _popular(call)
    return Outcome(generated_only(generated.items), generated.missing)


async def _retrieved(call: Call) -> Outcome:
    """For generation that failed."""
    try:
        shortlist = await call.search(call.count, LAST_SHARE)
    except TandemError as error:
        call.journal.do_without("search", error, Fallback.POPULARITY)
        return _popular(call)
    return Outcome(retrieved_only(shortlist.items), shortlist.missing)


def _one_half(
    call: Call, shortlist: Ranked | TandemError, generated: Ranked | TandemError
) -> Outcome:
    """What is left of two lists of which one failed, or both."""
    if isinstance(shortlist, TandemError):
        both = isinstance(generated, TandemError)
        instead = Fallback.POPULARITY if both else Fallback.GENERATION
        call.journal.do_without("search", shortlist, instead)
    if not isinstance(generated, TandemError):
        return Outcome(generated_only(generated.items), generated.missing)
    if not isinstance(shortlist, TandemError):
        call.journal.do_without("generate", generated, Fallback.RETRIEVAL)
        return Outcome(retrieved_only(shortlist.items), shortlist.missing)
    call.journal.do_without("generate", generated, Fallback.POPULARITY)
    return _popular(call)


def _popular(call: Call) -> Outcome:
    """For services that both failed."""
    with call.journal.watch.stage("popularity"):
        items = call.sources.popularity.best(call.request, call.count)
    call.journal.ranked["popularity"] = [Scored(item.item_id, item.score) for item in items]
    return Outcome(items, call.sources.popularity.missing(call.request))


async def _attempt(journal: Journal, step: Coroutine[Any, Any, A]) -> A | TandemError:
    """A step's result, or its failure where that can be done without."""
    try:
        return await step
    except TandemError as error:
        if not journal.tolerates(error):
            raise
        return error


async def _together(first: Coroutine[Any, Any, A], second: Coroutine[Any, Any, B]) -> tuple[A, B]:
    """Awaits both; when one fails the other is cancelled and the failure is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            one, two = group.create_task(first), group.create_task(second)
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return one.result(), two.result()
