"""A user's history and recommendations, and why they are what they are."""

import asyncio
from collections.abc import Iterator

from starlette.responses import Response

from console.pages.questions import STRATEGIES, ids_in, pins_in, recommendation
from console.pages.site import Attempt, Visit
from tandem.v1 import recommendation_service_pb2 as pb

HISTORY_SHOWN = 20


async def recommend(visit: Visit) -> Response:
    """The page; an empty form where it is asked nothing."""
    query = visit.query
    asked = bool(query.get("user", "").strip() or query.get("history", "").strip())
    if not asked:
        return visit.page("recommend.html", asked=False, strategies=STRATEGIES)
    request = recommendation(query)
    answer, history = await asyncio.gather(
        visit.attempt("RecommendationService", "Recommend", request), _history(visit, request)
    )
    named = [event.item_id for event in history.answer.events] if history.answer else []
    items = await visit.items([*named, *request.history_item_ids, *_named(answer.answer)])
    return visit.page(
        "recommend.html",
        answer.failure.http_status if answer.failure else 200,
        asked=True,
        strategies=STRATEGIES,
        request=request,
        answer=answer,
        history=history,
        items=items,
        pins=pins_in(query.get("pin", "")),
        excluded=ids_in(query.get("exclude", "")),
        explained={each.item_id: each for each in _diagnoses(answer.answer)},
    )


async def _history(visit: Visit, request: pb.RecommendRequest) -> Attempt:
    if not request.user_id:
        return Attempt()
    wanted = pb.GetHistoryRequest(
        user_id=request.user_id, page_size=HISTORY_SHOWN, bundle=request.bundle
    )
    return await visit.attempt("RecommendationService", "GetHistory", wanted)


def _diagnoses(answer: pb.RecommendResponse | None) -> list[pb.ItemDiagnostics]:
    return [] if answer is None else list(answer.diagnostics.items)


def _named(answer: pb.RecommendResponse | None) -> Iterator[str]:
    """Every item that the diagnostics name."""
    for each in _diagnoses(answer):
        yield each.item_id
        yield from (influence.item_id for influence in each.influences)
