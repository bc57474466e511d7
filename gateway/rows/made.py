"""Makes the rows of a page, one after the other: each leaves out what the rows before it show.

Every row is a list like any other, by the strategy that was asked for, with the fallbacks of lists.
Where rows are generated they share one call of the generator, which reads the user once; it is made
when the first row asks for it, and the others find it answered.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from core.errors import TandemError
from gateway.deadline import Deadline
from gateway.domain import Answer, Answered, Degradation, Query, Ranked, ResolvedQuery, Strategy
from gateway.recommend.recommender import Recommender
from gateway.recommend.services import Generator


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


async def recommend_rows(lists: Recommender, rows: Rows, deadline: Deadline) -> MadeRows:
    """Makes the rows of a page.

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
    together = GeneratedRows(lists.services.generator, asked, apart=rows.apart)
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
        generator: the service.
        requests: the rows.
        apart: whether an item may be in one row only.
    """

    def __init__(
        self, generator: Generator, requests: Sequence[ResolvedQuery], *, apart: bool
    ) -> None:
        self._generator = generator
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
                self._outcome = await self._generator.generate_rows(
                    self._requests, deadline, apart=self._apart
                )
            except TandemError as error:
                self._outcome = error
        if isinstance(self._outcome, TandemError):
            raise self._outcome
        return Answered(self._outcome.value[place], self._outcome.origin)


def _without(request: ResolvedQuery, item_ids: Sequence[str]) -> ResolvedQuery:
    constraints = request.query.constraints
    fewer = replace(constraints, excluded=(*constraints.excluded, *item_ids))
    return replace(request, query=replace(request.query, constraints=fewer))
