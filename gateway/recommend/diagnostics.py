"""Why a list is what it is: the steps that ranked, what each service says, what the rules did.

The services are asked after the list is made, side by side, with what is left of the deadline: an
answer without diagnostics costs nothing more, and one with them is the same answer.
"""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from core.errors import TandemError
from gateway.deadline import Deadline
from gateway.domain import (
    Answered,
    Diagnostics,
    Fallback,
    ItemCode,
    ItemDiagnostics,
    Recommended,
    ResolvedQuery,
    Retrieval,
    RuleEffect,
    Scored,
    StageRank,
)
from gateway.recommend.strategies import LAST_SHARE
from gateway.recommend.trace import RequestTrace
from gateway.rules import ListRules, effects

MAX_LEFT_OUT: Final = 100
"""Items that a rule left out and that diagnostics name all the same: the best of them."""

T = TypeVar("T")


@dataclass(frozen=True)
class MadeList:
    """A list, and what it was made of."""

    request: ResolvedQuery
    pool: Sequence[Recommended]
    """What the rules had to choose from, best first."""
    listed: Sequence[Recommended]
    """What they made of it."""
    list_rules: ListRules
    """The rules."""


class Question(Protocol[T]):
    """What a service says of given items; of those that it knows."""

    def __call__(
        self, request: ResolvedQuery, items: Sequence[str], deadline: Deadline
    ) -> Awaitable[Answered[Mapping[str, T]]]:
        """Asks."""


@dataclass(frozen=True)
class Diagnosis:
    """Says why lists are what they are."""

    retrieval: Question[Retrieval]
    """What the candidate service makes of items."""
    codes: Question[ItemCode]
    """What the generator makes of their codes, token by token."""

    async def of(self, made: MadeList, trace: RequestTrace) -> Diagnostics:
        """Says why a list is what it is.

        Args:
            made: the list.
            trace: of the request; a service that cannot be asked is noted there.

        Raises:
            TandemError: a service cannot be asked, and the request forbids to do without.
        """
        request = made.request
        ruled: dict[str, list[RuleEffect]] = {}
        for effect in effects(made.pool, made.list_rules):
            ruled.setdefault(effect.item_id, []).append(effect)
        shown = dict.fromkeys(item.item_id for item in made.listed)
        left_out = [item_id for item_id in ruled if item_id not in shown]
        item_ids = [*shown, *left_out[:MAX_LEFT_OUT]]
        stages = _stages(trace.ranked)
        retrievals, codes = await asyncio.gather(
            _asked(trace, "diagnose_search", self.retrieval, request, item_ids),
            _asked(trace, "diagnose_items", self.codes, request, item_ids),
        )
        return Diagnostics(
            items=tuple(
                ItemDiagnostics(
                    item_id,
                    stages=tuple(stages.get(item_id, ())),
                    retrieval=retrievals.get(item_id, Retrieval()),
                    code=codes.get(item_id),
                    rules=tuple(ruled.get(item_id, ())),
                )
                for item_id in item_ids
            ),
            history=request.history,
        )


async def _asked(
    trace: RequestTrace,
    name: str,
    question: Question[T],
    request: ResolvedQuery,
    item_ids: Sequence[str],
) -> Mapping[str, T]:
    """What a service says; nothing where it cannot be asked and may be done without."""
    if not item_ids:
        return {}
    try:
        return await trace.ask(
            name, LAST_SHARE, lambda deadline: question(request, item_ids, deadline)
        )
    except TandemError as error:
        trace.do_without(name, error, Fallback.NONE)
        return {}


def _stages(ranked: Mapping[str, Sequence[Scored | Recommended]]) -> dict[str, list[StageRank]]:
    """Each item's places, in the order of the stages."""
    places: dict[str, list[StageRank]] = {}
    for stage, items in ranked.items():
        for rank, item in enumerate(items, start=1):
            places.setdefault(item.item_id, []).append(StageRank(stage, rank, item.score))
    return places
