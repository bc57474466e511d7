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
    ItemDiagnostics,
    Recommended,
    Request,
    Retrieval,
    RuleEffect,
    Scored,
    StageRank,
)
from gateway.recommend.strategies import LAST_SHARE, Journal, Sources
from gateway.rules import Arrangement, effects

MAX_LEFT_OUT: Final = 100
"""Items that a rule left out and that diagnostics name all the same: the best of them."""

T = TypeVar("T")


@dataclass(frozen=True)
class Made:
    """A list, and what it was made of."""

    request: Request
    pool: Sequence[Recommended]
    """What the rules had to choose from, best first."""
    listed: Sequence[Recommended]
    """What they made of it."""
    arrangement: Arrangement
    """The rules."""


async def diagnose(made: Made, journal: Journal, sources: Sources) -> Diagnostics:
    """Says why a list is what it is.

    Args:
        made: the list.
        journal: of the request; a service that cannot be asked is noted there.
        sources: the services.

    Raises:
        TandemError: a service cannot be asked, and the request forbids to do without.
    """
    request = made.request
    ruled: dict[str, list[RuleEffect]] = {}
    for effect in effects(made.pool, made.arrangement):
        ruled.setdefault(effect.item_id, []).append(effect)
    shown = dict.fromkeys(item.item_id for item in made.listed)
    left_out = [item_id for item_id in ruled if item_id not in shown]
    item_ids = [*shown, *left_out[:MAX_LEFT_OUT]]
    stages = _stages(journal.ranked)
    retrievals, codes = await asyncio.gather(
        _asked(journal, "diagnose_search", sources.candidate.diagnose, request, item_ids),
        _asked(journal, "diagnose_items", sources.generator.diagnose, request, item_ids),
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


class _Question(Protocol[T]):
    def __call__(
        self, request: Request, items: Sequence[str], deadline: Deadline
    ) -> Awaitable[Answered[Mapping[str, T]]]: ...


async def _asked(
    journal: Journal, name: str, question: _Question[T], request: Request, item_ids: Sequence[str]
) -> Mapping[str, T]:
    """What a service says; nothing where it cannot be asked and may be done without."""
    if not item_ids:
        return {}
    try:
        deadline = journal.share(LAST_SHARE)
        with journal.watch.stage(name, deadline) as stage:
            return journal.take(stage, await question(request, item_ids, deadline))
    except TandemError as error:
        journal.do_without(name, error, Fallback.NONE)
        return {}


def _stages(ranked: Mapping[str, Sequence[Scored | Recommended]]) -> dict[str, list[StageRank]]:
    """Each item's places, in the order of the stages."""
    places: dict[str, list[StageRank]] = {}
    for stage, items in ranked.items():
        for rank, item in enumerate(items, start=1):
            places.setdefault(item.item_id, []).append(StageRank(stage, rank, item.score))
    return places
