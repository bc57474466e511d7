"""Writing answers as messages."""

from typing import Final

from core.errors import TandemError
from gateway.domain import (
    Answer,
    Degradation,
    Diagnostics,
    ItemCode,
    ItemDiagnostics,
    Proof,
    Recommended,
    RuleEffect,
    StageTime,
)
from gateway.requests import STRATEGIES
from serving.boundary.status import to_status
from serving.timings import stage_timing
from tandem.v1 import candidate_service_pb2, generator_service_pb2
from tandem.v1 import recommendation_service_pb2 as pb
from tandem.v1.common_pb2 import StageTiming

_STRATEGY_MESSAGES: Final = {strategy: message for message, strategy in STRATEGIES.items()}


def write_answer(
    answer: Answer,
    bundle_version: str,
    next_page_token: str = "",
    recommendation_id: str = "",
    variant: str = "",
) -> pb.RecommendResponse:
    """Writes an answer as a message."""
    return pb.RecommendResponse(
        recommendations=map(_recommendation, answer.items),
        missing_item_ids=answer.missing,
        strategy=_STRATEGY_MESSAGES[answer.strategy] if answer.strategy else pb.STRATEGY_POPULARITY,
        bundle_version=bundle_version,
        timings=map(_timing, answer.timings),
        degraded=bool(answer.degradations),
        degradations=map(_degradation, answer.degradations),
        diagnostics=_diagnostics(answer.diagnostics) if answer.diagnostics else None,
        next_page_token=next_page_token,
        recommendation_id=recommendation_id,
        variant=variant,
        proof=_proof(answer.proof) if answer.proof else None,
    )


def write_batch_error(request_id: str, error: TandemError) -> pb.BatchRecommendResponse:
    """Writes what went wrong with one request of a stream."""
    return pb.BatchRecommendResponse(id=request_id, error=to_status(error))


def _recommendation(item: Recommended) -> pb.Recommendation:
    message = pb.Recommendation(
        item_id=item.item_id, generator_score=item.generator, pinned=item.pinned
    )
    message.MergeFromString(item.fields)  # with scores that are not the recommendation's
    message.score = item.score
    message.ClearField("retrieval_score")
    if item.retrieval is not None:
        message.retrieval_score = item.retrieval
    return message


def _proof(proof: Proof) -> generator_service_pb2.ListProof:
    return generator_service_pb2.ListProof(
        exact=proof.exact, exact_places=proof.places, gap=proof.gap
    )


def _timing(stage: StageTime) -> StageTiming:
    timing = stage_timing(stage.stage, stage.seconds, stage.budget)
    if stage.origin is not None:
        timing.bundle_version = stage.origin.bundle_version
        timing.catalog_sequence = stage.origin.catalog_sequence
    return timing


def _degradation(degradation: Degradation) -> pb.Degradation:
    return pb.Degradation(
        stage=degradation.stage,
        reason=degradation.reason,
        fallback=pb.Fallback.Value(f"FALLBACK_{degradation.fallback.name}"),
    )


def _diagnostics(diagnostics: Diagnostics) -> pb.Diagnostics:
    return pb.Diagnostics(
        items=map(_item_diagnostics, diagnostics.items), history_item_ids=diagnostics.history
    )


def _item_diagnostics(item: ItemDiagnostics) -> pb.ItemDiagnostics:
    return pb.ItemDiagnostics(
        item_id=item.item_id,
        stages=[
            pb.StageRank(stage=place.stage, rank=place.rank, score=place.score)
            for place in item.stages
        ],
        sources=[
            candidate_service_pb2.SourceScore(
                source=source.source, score=source.score, weight=source.weight
            )
            for source in item.retrieval.sources
        ],
        influences=[
            candidate_service_pb2.Influence(
                item_id=influence.item_id, contribution=influence.contribution
            )
            for influence in item.retrieval.influences
        ],
        code=_code(item.item_id, item.code) if item.code else None,
        rules=map(_effect, item.rules),
    )


def _code(item_id: str, code: ItemCode) -> generator_service_pb2.ItemCode:
    return generator_service_pb2.ItemCode(
        item_id=item_id,
        text=code.text,
        tokens=[
            generator_service_pb2.CodeToken(text=token.text, log_probability=token.log_probability)
            for token in code.tokens
        ],
    )


def _effect(effect: RuleEffect) -> pb.RuleEffect:
    return pb.RuleEffect(
        rule=pb.Rule.Value(f"RULE_{effect.rule.name}"),
        detail=effect.detail,
        rank_before=effect.before,
        rank_after=effect.after,
    )
