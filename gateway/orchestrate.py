"""Turns one query into one answer: history, strategy, rules."""

import asyncio
from dataclasses import dataclass
from typing import Final

from gateway.blend import Weights
from gateway.curate import Curator
from gateway.deadline import Deadline
from gateway.domain import Answer, Fallback, Query, Request, Strategy
from gateway.explain import Made, explain
from gateway.fallback import Popularity
from gateway.history import HistoryStore
from gateway.rules import arrange, depth
from gateway.strategies import (
    STRATEGIES,
    Call,
    Candidate,
    Generator,
    Journal,
    Sources,
)
from runtime.bundle import Bundle
from runtime.errors import DeadlineExceeded, NotFound, TandemError

HISTORY_SHARE: Final = 0.25
"""Of the caller's time, for the history store."""


@dataclass(frozen=True)
class Recommender:
    """Answers queries."""

    sources: Sources
    histories: HistoryStore
    curator: Curator
    shortlist: int
    """How many items the generator reorders, where no more are asked for."""

    @classmethod
    def of(
        cls, bundle: Bundle, candidate: Candidate, generator: Generator, histories: HistoryStore
    ) -> "Recommender":
        """A recommender with the bundle's weights, and its popularity to fall back to."""
        blend = bundle.manifest.blend
        return cls(
            sources=Sources(
                candidate=candidate,
                generator=generator,
                popularity=Popularity(bundle.catalog),
                weights=Weights(blend.retrieval_weight, blend.generator_weight),
            ),
            histories=histories,
            curator=Curator(bundle.catalog, candidate),
            shortlist=blend.shortlist,
        )

    async def recommend(self, query: Query, deadline: Deadline) -> Answer:
        """Looks the history up, runs the query's strategy, and makes a list of what it finds.

        Raises:
            NotFound: reason UNKNOWN_USER, for a user without a history, given or stored.
            TandemError: the request is wrong; or a service failed that could not be done without.
        """
        journal = Journal(deadline, may_degrade=not query.forbid_degraded)
        history = await self._history(query, journal)
        request = Request(query, history or ())
        count = depth(query.max_results, query.rules)
        # Without a history there is nothing to order a shortlist by but what is popular.
        strategy = Strategy.EMBEDDING if history is None else query.strategy
        outcome = await STRATEGIES[strategy](
            Call(request, self.sources, journal, count, max(self.shortlist, count))
        )
        arrangement, absent = await self.curator.arrangement(request, outcome.items, journal)
        items = arrange(outcome.items, arrangement)
        explanation = None
        if query.explain:
            made = Made(request, outcome.items, items, arrangement)
            explanation = await explain(made, journal, self.sources)
        unknown = set(outcome.missing)
        missing = [item for item in request.history if item in unknown]
        return Answer(
            items=tuple(items),
            missing=tuple(dict.fromkeys((*missing, *absent))),
            strategy=query.strategy,
            timings=journal.watch.times,
            degradations=tuple(journal.degradations),
            explanation=explanation,
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
