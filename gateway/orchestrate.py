"""Turns one query into one answer: history, strategy, rules."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from gateway.blend import Weights
from gateway.deadline import Deadline
from gateway.domain import Answer, Fallback, Pin, Query, Recommended, Request, Strategy
from gateway.fallback import Popularity
from gateway.history import HistoryStore
from gateway.rules import Arrangement, arrange, depth, satisfies
from gateway.strategies import (
    STRATEGIES,
    Call,
    Candidate,
    Generator,
    Journal,
    Outcome,
    Sources,
)
from runtime.attributes import Attributes
from runtime.bundle import Bundle
from runtime.catalog import Catalog
from runtime.errors import DeadlineExceeded, NotFound, TandemError

HISTORY_SHARE: Final = 0.25
"""Of the caller's time, for the history store."""


@dataclass(frozen=True)
class Recommender:
    """Answers queries."""

    sources: Sources
    histories: HistoryStore
    catalog: Catalog
    """The bundle's: what the rules know of items."""
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
            catalog=bundle.catalog,
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
        return Answer(
            items=tuple(arrange(outcome.items, self._arrangement(request, outcome.items))),
            missing=self._missing(request, outcome),
            strategy=query.strategy,
            timings=journal.watch.times,
            degradations=tuple(journal.degradations),
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

    def _arrangement(self, request: Request, pool: Iterable[Recommended]) -> Arrangement:
        """What the list must be like."""
        query = request.query
        pins = tuple(pin for pin in query.rules.pins if self._may_pin(pin, query))
        named = (*(item.item_id for item in pool), *(pin.item_id for pin in pins))
        return Arrangement(
            count=query.max_results,
            rules=replace(query.rules, pins=pins),
            denied={*query.excluded, *(() if query.include_seen else request.history)},
            attributes=self._attributes(named) if query.rules.choosy else None,
        )

    def _may_pin(self, pin: Pin, query: Query) -> bool:
        found = self.catalog.lookup([pin.item_id])[0].tolist()
        return bool(found) and (
            query.filter is None or satisfies(query.filter, self.catalog.items[found[0]].attributes)
        )

    def _attributes(self, item_ids: Iterable[str]) -> dict[str, Attributes]:
        positions = self.catalog.lookup(item_ids)[0].tolist()
        items = [self.catalog.items[position] for position in positions]
        return {item.item_id: item.attributes for item in items}

    def _missing(self, request: Request, outcome: Outcome) -> tuple[str, ...]:
        """Unknown items of the history, and then of the pins, each once."""
        unknown = set(outcome.missing)
        history = [item for item in request.history if item in unknown]
        pinned = self.catalog.lookup(pin.item_id for pin in request.query.rules.pins)[1]
        return tuple(dict.fromkeys((*history, *pinned)))
