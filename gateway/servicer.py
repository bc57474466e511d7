"""RecommendationService: messages in, domain values to the orchestration, messages out."""

import asyncio
from typing import Any, Final

import structlog

from gateway.blend import Weights
from gateway.calls.clients import CandidateClient, GeneratorClient
from gateway.deadline import Deadline
from gateway.domain import Answer, Degradation, Query, Recommended, StageTime, Strategy
from gateway.history import BundleHistoryStore
from gateway.orchestrate import Recommender
from gateway.settings import GatewaySettings
from runtime import edge
from runtime.bundle import Bundle
from runtime.errors import InvalidRequest, TandemError
from tandem.v1 import candidate_service_pb2, common_pb2
from tandem.v1 import recommendation_service_pb2 as pb
from tandem.v1 import recommendation_service_pb2_grpc as pb_grpc

log = structlog.get_logger()

DEFAULT_RESULTS: Final = 10
MAX_RESULTS: Final = 100

_STRATEGIES: Final = {
    pb.STRATEGY_RERANK: Strategy.RERANK,
    pb.STRATEGY_GENERATE: Strategy.GENERATE,
    pb.STRATEGY_FUSE: Strategy.FUSE,
    pb.STRATEGY_EMBEDDING: Strategy.EMBEDDING,
}
_STRATEGY_MESSAGES: Final = {strategy: message for message, strategy in _STRATEGIES.items()}


class RecommendationServicer(pb_grpc.RecommendationServiceServicer):
    """The gateway's one service."""

    def __init__(
        self,
        bundle: Bundle,
        settings: GatewaySettings,
        candidate: CandidateClient,
        generator: GeneratorClient,
    ) -> None:
        self._bundle = bundle
        self._settings = settings
        self._candidate = candidate
        self._generator = generator
        blend = bundle.manifest.blend
        self._recommender = Recommender(
            candidate=candidate,
            generator=generator,
            histories=BundleHistoryStore(bundle),
            weights=Weights(blend.retrieval_weight, blend.generator_weight),
            shortlist=blend.shortlist,
        )

    @classmethod
    def load(cls, bundle: Bundle, settings: GatewaySettings) -> "RecommendationServicer":
        """Reads the histories, and prepares to call the services that the settings name."""
        return cls(
            bundle,
            settings,
            CandidateClient(settings.candidate_target, bundle.version),
            GeneratorClient(settings.generator_target, bundle.version),
        )

    async def warm_up(self) -> None:
        """Connects and makes one call that needs every method of both services.

        The gateway serves even when they cannot be reached: they may come later, and it finds
        them by itself.
        """
        seconds = self._settings.warm_up_seconds
        if not seconds:
            return
        item = self._bundle.catalog.items[0].item_id
        query = Query("", (item,), max_results=DEFAULT_RESULTS, strategy=Strategy.FUSE)
        try:
            async with asyncio.timeout(seconds):
                await self._candidate.ready()
                await self._generator.ready()
                deadline = Deadline.of_caller(None, default=seconds, limit=seconds)
                await self._recommender.recommend(query, deadline)
        except (TandemError, TimeoutError) as error:
            log.warning(
                "serving without having reached the services", error=str(error) or "timeout"
            )

    async def close(self) -> None:
        """Closes the connections."""
        await self._candidate.close()
        await self._generator.close()

    async def Recommend(self, request: pb.RecommendRequest, context: Any) -> pb.RecommendResponse:
        """Recommends items to a user."""
        query = read_query(request, default_strategy=self._settings.strategy)
        answer = await self._recommender.recommend(query, self._deadline(context))
        return write_answer(answer, self._bundle.version)

    async def SimilarItems(
        self, request: pb.SimilarItemsRequest, context: Any
    ) -> pb.SimilarItemsResponse:
        """Finds similar items: the candidate service's `Similar`, behind the gateway.

        The messages of both methods are the same, field by field, so they are copied as bytes.
        """
        query = candidate_service_pb2.SimilarRequest.FromString(request.SerializeToString())
        response = await self._candidate.similar(query, self._deadline(context))
        return pb.SimilarItemsResponse.FromString(response.SerializeToString())

    def _deadline(self, context: Any) -> Deadline:
        return Deadline.of_caller(
            context.time_remaining(),
            default=self._settings.default_timeout,
            limit=self._settings.max_timeout,
        )


def read_query(request: pb.RecommendRequest, *, default_strategy: Strategy) -> Query:
    """Checks a request.

    Raises:
        InvalidRequest: it breaks a rule of the contract.
    """
    if not request.user_id and not request.history_item_ids:
        raise InvalidRequest(
            "give user_id, history_item_ids, or both: there is nobody to recommend to",
            reason="MISSING_USER",
        )
    if request.user_id:
        edge.identifier(request.user_id, field="user_id")
    history = edge.item_ids(
        request.history_item_ids, field="history_item_ids", limit=edge.MAX_HISTORY
    )
    excluded = edge.item_ids(
        request.excluded_item_ids, field="excluded_item_ids", limit=edge.MAX_EXCLUDED
    )
    return Query(
        user_id=request.user_id,
        history=tuple(history) or None,
        max_results=edge.result_count(
            request.max_results, default=DEFAULT_RESULTS, limit=MAX_RESULTS
        ),
        strategy=_read_strategy(request.strategy, default_strategy),
        excluded=tuple(excluded),
        filter=edge.item_filter(request.filter) if request.HasField("filter") else None,
        include_seen=request.include_seen,
        forbid_degraded=request.forbid_degraded,
        explain=request.explain,
    )


def _read_strategy(value: pb.Strategy.ValueType, default: Strategy) -> Strategy:
    if value == pb.STRATEGY_UNSPECIFIED:
        return default
    if value not in _STRATEGIES:
        raise InvalidRequest(
            f"strategy {value} is not one that this server knows",
            reason="UNKNOWN_STRATEGY",
            strategy=str(value),
        )
    return _STRATEGIES[value]


def write_answer(answer: Answer, bundle_version: str) -> pb.RecommendResponse:
    """Writes an answer as a message."""
    return pb.RecommendResponse(
        recommendations=map(_recommendation, answer.items),
        missing_item_ids=answer.missing,
        strategy=_STRATEGY_MESSAGES[answer.strategy],
        bundle_version=bundle_version,
        timings=map(_timing, answer.timings),
        degraded=bool(answer.degradations),
        degradations=map(_degradation, answer.degradations),
    )


def _timing(time: StageTime) -> common_pb2.StageTiming:
    timing = common_pb2.StageTiming(stage=time.stage)
    timing.duration.FromNanoseconds(int(time.seconds * 1e9))
    if time.budget is not None:
        timing.budget.FromNanoseconds(int(time.budget * 1e9))
    return timing


def _degradation(degradation: Degradation) -> pb.Degradation:
    return pb.Degradation(
        stage=degradation.stage,
        reason=degradation.reason,
        fallback=pb.Fallback.Value(f"FALLBACK_{degradation.fallback.name}"),
    )


def _recommendation(item: Recommended) -> pb.Recommendation:
    return pb.Recommendation(
        item_id=item.item_id,
        score=item.score,
        retrieval_score=item.retrieval,
        generator_score=item.generator,
    )
