"""Makes the rows of a page, one after the other: each leaves out what the rows before it show.

Every row is a list like any other, by the strategy that was asked for, with the fallbacks of lists.
Where rows are generated they share one call of the generator, which reads the user once; it is made
when the first row asks for it, and the others find it answered.
"""

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from core.errors import TandemError
from gateway.deadline import Deadline
from gateway.domain import Answer, Answered, Degradation, Query, Ranked, ResolvedQuery, Strategy
from gateway.recommend.recommender import Recommender


@dataclass(frozen=True)
class Rows:
    """What is asked for."""

    queries: tuple[Query, ...]
    """At least one, all of one user."""
    apart: bool = True
    """Whether an item may be in one row only."""


@dataclass(frozen=True)
class MadeRows:
    """What a caller gets: an answer for each row."""

    rows: tuple[Answer, ...]

    @property
    def degradations(self) -> tuple[Degradation, ...]:
        """Of all rows."""
        return tuple(each for row in self.rows for each in row.degradations)


class GenerateRows(Protocol):
    """Generates a list for each of several requests of one user and history."""

    def __call__(
        self, requests: Sequence[ResolvedQuery], deadline: Deadline, *, apart: bool
    ) -> Awaitable[Answered[tuple[Ranked, ...]]]:
        """Generates them.

        Args:
            requests: at least one.
            deadline: by when.
            apart: whether an item may be in one list only, the first that it is found for.
        """


async def recommend_rows(
    lists: Recommender, generate_rows: GenerateRows, rows: Rows, deadline: Deadline
) -> MadeRows:
    """Makes the rows of a page.

    Args:
        lists: makes one list.
        generate_rows: generates all of them.
        rows: what is asked for.
        deadline: of all rows.

    Raises:
        NotFound: reason UNKNOWN_USER, for a user without a history, given or stored.
        TandemError: the request is wrong; or a service failed that could not be done without.
    """
    first, *_ = rows.queries
    trace = lists.trace(first, deadline)
    user = await lists.resolved(first, trace)
    without_history = tuple(trace.degradations)
    asked = [
        replace(user, query=replace(query, strategy=user.query.strategy)) for query in rows.queries
    ]
    together = GeneratedRows(generate_rows, asked, apart=rows.apart)
    answers: list[Answer] = []
    shown: list[str] = []
    for place, request in enumerate(asked):
        generates = None
        if place:
            trace = lists.trace(first, deadline)
            trace.degradations += without_history
        if request.query.strategy is Strategy.GENERATE:
            generates = partial(together.row, place)
        else:
            trace.deadline = deadline.share(1 / (len(asked) - place))
        answer = await lists.answer(_without(request, shown), trace, generates)
        answers.append(answer)
        if rows.apart:
            shown += (item.item_id for item in answer.items)
    return MadeRows(tuple(answers))


class GeneratedRows:
    """All rows of a page by one call of the generator, which is made once.

    Args:
        generate: makes the call.
        requests: the rows.
        apart: whether an item may be in one row only.
    """

    def __init__(
        self, generate: GenerateRows, requests: Sequence[ResolvedQuery], *, apart: bool
    ) -> None:
        self._generate = generate
        self._requests = requests
        self._apart = apart
        self._outcome: Answered[tuple[Ranked, ...]] | TandemError | None = None

    async def row(
        self, place: int, _request: ResolvedQuery, _count: int, deadline: Deadline
    ) -> Answered[Ranked]:
        """The row at a place; see `Generates`.

        Raises:
            TandemError: the call failed.
        """
        if self._outcome is None:
            try:
                self._outcome = await self._generate(self._requests, deadline, apart=self._apart)
            except TandemError as error:
                self._outcome = error
        if isinstance(self._outcome, TandemError):
            raise self._outcome
        return Answered(self._outcome.value[place], self._outcome.origin)


def _without(request: ResolvedQuery, item_ids: Sequence[str]) -> ResolvedQuery:
    constraints = request.query.constraints
    fewer = replace(constraints, excluded=(*constraints.excluded, *item_ids))
    return replace(request, query=replace(request.query, constraints=fewer))
