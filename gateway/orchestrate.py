"""Turns one query into calls of the two services: the strategies.

EMBEDDING   Search
RERANK      Search ────▶ Rerank ──▶ blend
GENERATE    Generate
FUSE        Search ──┬─▶ Rerank ──▶ blend
            Generate ┘
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar

from gateway.blend import Weights, blend, generated_only, retrieved_only
from gateway.deadline import Deadline
from gateway.domain import Answer, Query, Ranked, Recommended, Request, Scored, Strategy
from gateway.history import HistoryStore
from gateway.timing import Stopwatch
from runtime.errors import NotFound

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
class Call:
    """What a strategy works with, for one request."""

    request: Request
    candidate: Candidate
    generator: Generator
    weights: Weights
    shortlist: int
    deadline: Deadline
    watch: Stopwatch = field(default_factory=Stopwatch)

    async def search(self, count: int) -> Ranked:
        """The shortlist."""
        with self.watch.stage("search"):
            return await self.candidate.search(self.request, count, self.deadline)

    async def generate(self) -> Ranked:
        """The generated list."""
        with self.watch.stage("generate"):
            count = self.request.query.max_results
            return await self.generator.generate(self.request, count, self.deadline)

    async def rerank(self, items: Sequence[str]) -> tuple[Scored, ...]:
        """The generator's scores of given items, of which there may be none."""
        if not items:
            return ()
        with self.watch.stage("rerank"):
            ranked = await self.generator.rerank(self.request, items, self.deadline)
        return ranked.items

    def blend(self, retrieved: Sequence[Scored], generated: Sequence[Scored]) -> list[Recommended]:
        """Both, as one ranking."""
        with self.watch.stage("blend"):
            return blend(retrieved, generated, self.weights)


@dataclass(frozen=True)
class Outcome:
    """All that a strategy found, best first, and the unknown items of the history."""

    items: Sequence[Recommended]
    missing: Sequence[str]


async def embedding(call: Call) -> Outcome:
    """The candidate service alone."""
    shortlist = await call.search(call.request.query.max_results)
    return Outcome(retrieved_only(shortlist.items), shortlist.missing)


async def rerank(call: Call) -> Outcome:
    """A shortlist, reordered with the generator's scores."""
    shortlist = await call.search(call.shortlist)
    scores = await call.rerank([item.item_id for item in shortlist.items])
    return Outcome(call.blend(shortlist.items, scores), shortlist.missing)


async def generate(call: Call) -> Outcome:
    """The generator alone, over the whole catalog."""
    generated = await call.generate()
    return Outcome(generated_only(generated.items), generated.missing)


async def fuse(call: Call) -> Outcome:
    """Shortlist and generated list side by side; the generator then scores the rest of the former.

    A generated item has its generator score already, which is the one that reranking would give.
    """
    shortlist, generated = await _together(call.search(call.shortlist), call.generate())
    scored = {item.item_id for item in generated.items}
    rest = [item.item_id for item in shortlist.items if item.item_id not in scored]
    scores = await call.rerank(rest)
    items = call.blend(shortlist.items, (*generated.items, *scores))
    return Outcome(items, (*shortlist.missing, *generated.missing))


STRATEGIES: Final[Mapping[Strategy, Callable[[Call], Awaitable[Outcome]]]] = {
    Strategy.EMBEDDING: embedding,
    Strategy.RERANK: rerank,
    Strategy.GENERATE: generate,
    Strategy.FUSE: fuse,
}


@dataclass(frozen=True)
class Recommender:
    """Answers queries."""

    candidate: Candidate
    generator: Generator
    histories: HistoryStore
    weights: Weights
    shortlist: int

    async def recommend(self, query: Query, deadline: Deadline) -> Answer:
        """Looks the history up, runs the query's strategy, and cuts its list.

        Raises:
            NotFound: reason UNKNOWN_USER, for a user without a history, given or stored.
            TandemError: a service failed, or did not answer in time.
        """
        watch = Stopwatch()
        with watch.stage("history"):
            history = await self._history(query)
        outcome = await STRATEGIES[query.strategy](
            Call(
                request=Request(query, history),
                candidate=self.candidate,
                generator=self.generator,
                weights=self.weights,
                shortlist=max(self.shortlist, query.max_results),
                deadline=deadline,
                watch=watch,
            )
        )
        missing = set(outcome.missing)
        return Answer(
            items=tuple(outcome.items[: query.max_results]),
            missing=tuple(item for item in dict.fromkeys(history) if item in missing),
            strategy=query.strategy,
            timings=watch.times,
        )

    async def _history(self, query: Query) -> tuple[str, ...]:
        if query.history is not None:
            return query.history
        history = await self.histories.history(query.user_id)
        if history is None:
            raise NotFound(
                f"user {query.user_id!r} has no stored history; send history_item_ids with it",
                reason="UNKNOWN_USER",
                user_id=query.user_id,
            )
        return history


async def _together(first: Coroutine[Any, Any, A], second: Coroutine[Any, Any, B]) -> tuple[A, B]:
    """Awaits both; when one fails the other is cancelled and the failure is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            one, two = group.create_task(first), group.create_task(second)
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return one.result(), two.result()
