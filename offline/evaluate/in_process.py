"""The row `pipeline/offline`: the gateway's own code over both engines, in this process.

Everything that decides a list is what serves: the recommender with its strategies, weights and
rules, and the engines of both services. What is left out is messages and processes, so that users
are asked many at a time and their prompts share runs of the model.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Final

from core.bundle import Bundle
from core.catalog import Catalog
from core.constraints import Constraints
from gateway.deadline import Deadline
from gateway.domain import Answered, Ranked, ResolvedQuery, Scored, Strategy
from gateway.domain import Query as GatewayQuery
from gateway.history.bundle import BundleHistoryStore
from gateway.recommend.recommender import Recommender
from offline.evaluate.protocol import LISTED, RANKINGS, Question, RankedList
from offline.metrics import Ranking
from services.candidate.retrieval.engine import CandidateEngine
from services.generator.decoding import engine as generator_engine
from services.generator.decoding.engine import (
    Generation,
    GeneratorEngine,
    RankingAnswer,
    RankingQuery,
    UserContext,
)
from serving.item_fields import encode_item

_AT_ONCE: Final = 32
"""Users whose prompts share runs of the model."""
_SECONDS: Final = 3600.0
"""For one list: nothing here is to run out of time."""


def default_strategy(bundle: Bundle) -> Strategy:
    """How the gateway recommends when the caller does not say."""
    return Strategy(bundle.manifest.blend.default_strategy)


def pipeline_lists(
    bundle: Bundle,
    engine: GeneratorEngine,
    asked: Sequence[Question],
    advance: Callable[[int], None],
) -> dict[Ranking, list[RankedList]]:
    """What the gateway would answer to every question, under the default strategy."""
    return asyncio.run(_pipeline_lists(bundle, engine, asked, advance))


async def _pipeline_lists(
    bundle: Bundle,
    engine: GeneratorEngine,
    asked: Sequence[Question],
    advance: Callable[[int], None],
) -> dict[Ranking, list[RankedList]]:
    recommender = Recommender.of(
        bundle,
        _Candidate(CandidateEngine.load(bundle)),
        _Generator(bundle.histories.user_index, _Runs(engine)),
        BundleHistoryStore(bundle),
    )
    strategy = default_strategy(bundle)

    async def answer(question: Question, ranking: Ranking) -> RankedList:
        query = GatewayQuery(
            user_id=question.user_id,
            history=tuple(bundle.catalog.ids(question.history)),
            max_results=LISTED,
            strategy=strategy,
            constraints=Constraints(include_seen=ranking == "unfiltered"),
            forbid_degraded=True,
        )
        deadline = Deadline.of_caller(None, default=_SECONDS, limit=_SECONDS)
        found = await recommender.recommend(query, deadline)
        advance(1)
        return RankedList.of(bundle.catalog, [(item.item_id, item.score) for item in found.items])

    lists: dict[Ranking, list[RankedList]] = {ranking: [] for ranking in RANKINGS}
    for ranking, answers in lists.items():
        for start in range(0, len(asked), _AT_ONCE):
            chunk = asked[start : start + _AT_ONCE]
            answers += await asyncio.gather(*(answer(question, ranking) for question in chunk))
    return lists


@dataclass(frozen=True)
class _Candidate:
    """The candidate service."""

    engine: CandidateEngine

    @property
    def sequence(self) -> int:
        """Of the last change in the catalog."""
        return self.engine.sequence

    async def search(
        self,
        request: ResolvedQuery,
        count: int,
        deadline: Deadline,  # noqa: ARG002
    ) -> Answered[Ranked]:
        """Shortlists."""
        catalog = self.engine.catalog
        history, missing = catalog.lookup(request.history)
        include_seen = request.query.constraints.include_seen
        found = self.engine.search(history, count, include_seen=include_seen)
        alone = repeat(None) if found.transitions is None else found.transitions.tolist()
        scored = map(Scored, catalog.ids(found.items), found.scores.tolist(), alone)
        return Answered(Ranked(tuple(scored), tuple(missing)))

    async def items(
        self,
        item_ids: Sequence[str],
        deadline: Deadline,  # noqa: ARG002
    ) -> Answered[Mapping[str, bytes]]:
        """What given items are."""
        catalog = self.engine.catalog
        found = [catalog.items[position] for position in catalog.lookup(item_ids)[0].tolist()]
        return Answered({item.item_id: encode_item(item) for item in found})


@dataclass(frozen=True)
class _Generator:
    """The generator service."""

    users: Mapping[str, int]
    runs: "_Runs"

    async def rerank(
        self,
        request: ResolvedQuery,
        items: Sequence[str],
        deadline: Deadline,  # noqa: ARG002
    ) -> Answered[Ranked]:
        """Scores given items."""
        _, reranked = await self._answer(request, items, None)
        return Answered(reranked)

    async def generate(
        self,
        request: ResolvedQuery,
        count: int,
        deadline: Deadline,  # noqa: ARG002
    ) -> Answered[Ranked]:
        """Generates."""
        generated, _ = await self._answer(request, None, count)
        return Answered(generated)

    async def rank(
        self,
        request: ResolvedQuery,
        items: Sequence[str],
        count: int,
        deadline: Deadline,  # noqa: ARG002
    ) -> Answered[tuple[Ranked, Ranked]]:
        """Does both."""
        return Answered(await self._answer(request, items, count))

    async def _answer(
        self, request: ResolvedQuery, items: Sequence[str] | None, count: int | None
    ) -> tuple[Ranked, Ranked]:
        """The generated and the reranked list; empty where it was not asked for."""
        catalog = self.runs.engine.snapshot.catalog
        history = catalog.lookup(request.history)[0]
        denied = history[:0] if request.query.constraints.include_seen else history
        query = RankingQuery(
            UserContext(self.users.get(request.query.user_id), history),
            None if count is None else Generation(count, None, denied),
            None if items is None else catalog.lookup(items)[0],
        )
        answer = await self.runs.answer(query)
        return _ranked(answer.generated, catalog), _ranked(answer.reranked, catalog)


class _Runs:
    """Answers together what is asked in one turn of the event loop."""

    def __init__(self, engine: GeneratorEngine) -> None:
        self.engine = engine
        self._waiting: list[tuple[RankingQuery, asyncio.Future[RankingAnswer]]] = []

    async def answer(self, query: RankingQuery) -> RankingAnswer:
        """The engine's answer."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[RankingAnswer] = loop.create_future()
        self._waiting.append((query, future))
        if len(self._waiting) == 1:
            loop.call_soon(self._run)
        return await future

    def _run(self) -> None:
        waiting, self._waiting = self._waiting, []
        try:
            answers = self.engine.answer([query for query, _ in waiting])
        except Exception as error:  # noqa: BLE001 - it is those who asked that it concerns
            for _, future in waiting:
                future.set_exception(error)
            return
        for (_, future), answer in zip(waiting, answers, strict=True):
            future.set_result(answer)


def _ranked(found: generator_engine.Ranked | None, catalog: Catalog) -> Ranked:
    if found is None:
        return Ranked(())
    scored = zip(catalog.ids(found.items), found.scores.tolist(), strict=True)
    return Ranked(tuple(Scored(*pair) for pair in scored))
