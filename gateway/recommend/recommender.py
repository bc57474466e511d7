"""Turns one query into one answer: history, strategy, rules."""

from dataclasses import dataclass, field, replace

from core.bundle import Bundle
from core.errors import TandemError
from gateway.deadline import Deadline
from gateway.domain import Answer, Fallback, Query, ResolvedQuery, Strategy
from gateway.history import HistoryStore
from gateway.history.lookup import HISTORY_SHARE, stored_history, unknown_user
from gateway.metrics import GatewayMetrics
from gateway.recommend.blend import Weights
from gateway.recommend.diagnostics import Diagnosis, MadeList
from gateway.recommend.fallback import PopularItems
from gateway.recommend.rule_inputs import RuleInputLoader, described
from gateway.recommend.services import Candidate, Generator, Services
from gateway.recommend.strategies import STRATEGIES, Generates, StrategyCall
from gateway.recommend.trace import RequestTrace, Stopwatch
from gateway.rules import apply_rules, depth
from serving.telemetry.tracing import annotate


@dataclass(frozen=True)
class Recommender:
    """Answers queries."""

    services: Services
    histories: HistoryStore
    rule_inputs: RuleInputLoader
    shortlist: int
    """How many items the generator reorders, where no more are asked for."""
    bundle_version: str
    diagnosis: Diagnosis | None = None
    """Says why a list is what it is; None where nobody is to be told."""
    metrics: GatewayMetrics = field(default_factory=GatewayMetrics)
    """What is counted."""

    @classmethod
    def of(
        cls,
        bundle: Bundle,
        candidate: Candidate,
        generator: Generator,
        histories: HistoryStore,
        diagnosis: Diagnosis | None = None,
        metrics: GatewayMetrics | None = None,
    ) -> "Recommender":
        """A recommender with the bundle's weights, and its popularity to fall back to."""
        blend = bundle.manifest.blend
        popularity = PopularItems(bundle.catalog)
        return cls(
            services=Services(
                candidate=candidate,
                generator=generator,
                popularity=popularity,
                weights={
                    Strategy.RERANK: Weights.of(blend),
                    Strategy.FUSE: Weights.of(blend.fuse or blend),
                },
            ),
            histories=histories,
            rule_inputs=RuleInputLoader(candidate, popularity.fields),
            shortlist=blend.shortlist,
            bundle_version=bundle.version,
            diagnosis=diagnosis,
            metrics=metrics or GatewayMetrics(),
        )

    def apart(self, candidate: Candidate, generator: Generator) -> "Recommender":
        """The same, with other connections, for answers that nobody gets and that do not count."""
        return replace(
            self,
            services=replace(self.services, candidate=candidate, generator=generator),
            rule_inputs=replace(self.rule_inputs, candidate=candidate),
            diagnosis=None,
            metrics=GatewayMetrics(),
        )

    async def recommend(self, query: Query, deadline: Deadline) -> Answer:
        """Looks the history up, and makes an answer.

        Raises:
            NotFound: reason UNKNOWN_USER, for a user without a history, given or stored.
            TandemError: the request is wrong; or a service failed that could not be done without.
        """
        trace = self.trace(query, deadline)
        answer = await self.answer(await self.resolved(query, trace), trace)
        annotate(strategy=answer.strategy or "popularity", degraded=bool(answer.degradations))
        return answer

    def trace(self, query: Query, deadline: Deadline) -> RequestTrace:
        """Notes what happens while a request is served."""
        return RequestTrace(
            deadline,
            may_degrade=not query.forbid_degraded,
            bundle_version=self.bundle_version,
            watch=Stopwatch(self.metrics.stage),
        )

    async def answer(
        self, request: ResolvedQuery, trace: RequestTrace, generates: Generates | None = None
    ) -> Answer:
        """Makes an answer from a history, and counts it.

        Args:
            request: what is asked, and the history.
            trace: of the request.
            generates: see `StrategyCall`.

        Raises:
            TandemError: as of `recommend`.
        """
        answer = await self._answer(request, trace, generates)
        self.metrics.answered(answer)
        return answer

    async def _answer(
        self, request: ResolvedQuery, trace: RequestTrace, generates: Generates | None
    ) -> Answer:
        """Runs a strategy, and makes a list of what it finds."""
        query = request.query
        count = depth(query.max_results, query.rules)
        shortlist = max(self.shortlist, count)
        outcome = await STRATEGIES[query.strategy](
            StrategyCall(request, self.services, trace, count, shortlist, generates)
        )
        inputs = await self.rule_inputs.load(request, outcome, trace)
        items = apply_rules(outcome.items, inputs.list_rules)
        diagnostics = None
        if query.diagnostics and self.diagnosis is not None:
            made = MadeList(request, outcome.items, items, inputs.list_rules)
            diagnostics = await self.diagnosis.of(made, trace)
        unknown = set(outcome.missing)
        missing = [item for item in request.history if item in unknown]
        return Answer(
            items=described(items, request, outcome, inputs),
            missing=tuple(dict.fromkeys((*missing, *inputs.missing))),
            strategy=outcome.strategy,
            history=request.history,
            timings=trace.watch.times,
            degradations=tuple(trace.degradations),
            diagnostics=diagnostics,
            proof=outcome.proof_of(items),
        )

    async def resolved(self, query: Query, trace: RequestTrace) -> ResolvedQuery:
        """The query with its history.

        Raises:
            NotFound: reason UNKNOWN_USER, for a user without a history, given or stored.
            TandemError: the history cannot be looked up, and the request forbids to do without.
        """
        history = await self._history(query, trace)
        if history is None:
            # There is nothing to order a shortlist by but what is popular.
            return ResolvedQuery(replace(query, strategy=Strategy.EMBEDDING), ())
        return ResolvedQuery(query, history)

    async def _history(self, query: Query, trace: RequestTrace) -> tuple[str, ...] | None:
        """The history; None when it cannot be known."""
        if query.history is not None:
            return query.history
        try:
            history = await self._stored(query.user_id, trace)
        except TandemError as error:
            trace.do_without("history", error, Fallback.NO_HISTORY)
            return None
        if history is None:
            raise unknown_user(query.user_id)
        return history

    async def _stored(self, user_id: str, trace: RequestTrace) -> tuple[str, ...] | None:
        deadline = trace.share(HISTORY_SHARE)
        with trace.watch.stage("history", deadline):
            return await stored_history(self.histories, user_id, deadline)
