"""Turns one query into one answer: history, strategy, rules."""

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import Final

from core.bundle import Bundle
from core.errors import DeadlineExceeded, NotFound, TandemError
from gateway.deadline import Deadline
from gateway.domain import Answer, Fallback, Query, Request, Strategy
from gateway.history import HistoryStore
from gateway.recommend.blend import Weights
from gateway.recommend.cache import Cache, fingerprint
from gateway.recommend.curate import Curator, described
from gateway.recommend.diagnostics import Made, diagnose
from gateway.recommend.fallback import Popularity
from gateway.recommend.strategies import (
    STRATEGIES,
    Call,
    Candidate,
    Generator,
    Journal,
    Sources,
)
from gateway.rules import arrange, depth

HISTORY_SHARE: Final = 0.25
"""Of the caller's time, for the history store."""


@dataclass(frozen=True)
class Memory:
    """Answers that are given again, to the same question with the same history."""

    answers: Cache[Answer]
    versions: Callable[[], Hashable]
    """Of all that answers are made from, as far as one knows."""

    @classmethod
    def of(cls, entries: int, seconds: float, versions: Callable[[], Hashable]) -> "Memory":
        """One of a limited size. What is degraded is not remembered."""
        return cls(Cache(entries, seconds, keep=lambda answer: not answer.degradations), versions)


@dataclass(frozen=True)
class Recommender:
    """Answers queries."""

    sources: Sources
    histories: HistoryStore
    curator: Curator
    shortlist: int
    """How many items the generator reorders, where no more are asked for."""
    bundle_version: str
    memory: Memory | None = None

    @classmethod
    def of(
        cls,
        bundle: Bundle,
        candidate: Candidate,
        generator: Generator,
        histories: HistoryStore,
        memory: Memory | None = None,
    ) -> "Recommender":
        """A recommender with the bundle's weights, and its popularity to fall back to."""
        blend = bundle.manifest.blend
        popularity = Popularity(bundle.catalog)
        return cls(
            sources=Sources(
                candidate=candidate,
                generator=generator,
                popularity=popularity,
                weights={
                    Strategy.RERANK: Weights.of(blend),
                    Strategy.FUSE: Weights.of(blend.fuse or blend),
                },
            ),
            histories=histories,
            curator=Curator(candidate, popularity.fields),
            shortlist=blend.shortlist,
            bundle_version=bundle.version,
            memory=memory,
        )

    async def recommend(self, query: Query, deadline: Deadline) -> Answer:
        """Looks the history up, and makes an answer, unless it is remembered.

        Raises:
            NotFound: reason UNKNOWN_USER, for a user without a history, given or stored.
            TandemError: the request is wrong; or a service failed that could not be done without.
        """
        journal = Journal(
            deadline, may_degrade=not query.forbid_degraded, bundle_version=self.bundle_version
        )
        history = await self._history(query, journal)
        request = Request(query, history or ())
        # Without a history there is nothing to order a shortlist by but what is popular.
        strategy = Strategy.EMBEDDING if history is None else query.strategy
        if self.memory is None or query.diagnostics or journal.degradations:
            return await self._answer(request, strategy, journal)
        key = fingerprint(self.memory.versions(), request)
        answer = await self.memory.answers.get(
            key, lambda: self._answer(request, strategy, journal)
        )
        return replace(answer, timings=journal.watch.times)

    async def _answer(self, request: Request, strategy: Strategy, journal: Journal) -> Answer:
        """Runs a strategy, and makes a list of what it finds."""
        query = request.query
        count = depth(query.max_results, query.rules)
        outcome = await STRATEGIES[strategy](
            Call(request, self.sources, journal, count, max(self.shortlist, count))
        )
        curated = await self.curator.curate(request, outcome, journal)
        items = arrange(outcome.items, curated.arrangement)
        diagnostics = None
        if query.diagnostics:
            made = Made(request, outcome.items, items, curated.arrangement)
            diagnostics = await diagnose(made, journal, self.sources)
        unknown = set(outcome.missing)
        missing = [item for item in request.history if item in unknown]
        return Answer(
            items=described(items, request, outcome, curated),
            missing=tuple(dict.fromkeys((*missing, *curated.missing))),
            strategy=outcome.strategy,
            history=request.history,
            timings=journal.watch.times,
            degradations=tuple(journal.degradations),
            diagnostics=diagnostics,
        )

    async def _history(self, query: Query, journal: Journal) -> tuple[str, ...] | None:
        """The history; None when it cannot be known."""
        if query.history is not None:
            return query.history
        try:
            history = await self._stored(query.user_id, journal)
        except TandemError as error:
            journal.do_without("history", error, Fallback.NO_HISTORY)
            return None
        if history is None:
            raise NotFound(
                f"user {query.user_id!r} has no stored history; send history_item_ids with it",
                reason="UNKNOWN_USER",
                user_id=query.user_id,
            )
        return history

    async def _stored(self, user_id: str, journal: Journal) -> tuple[str, ...] | None:
        deadline = journal.share(HISTORY_SHARE)
        with journal.watch.stage("history", deadline):
            try:
                async with asyncio.timeout(deadline.remaining()):
                    return await self.histories.history(user_id)
            except TimeoutError as error:
                raise DeadlineExceeded(
                    "the history store did not answer within the caller's deadline",
                    reason="DEADLINE_EXCEEDED",
                    service="history",
                ) from error
