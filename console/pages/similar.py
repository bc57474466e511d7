"""Items like others, or like a text."""

from starlette.responses import Response

from console.pages.questions import SPACES, similarity
from console.pages.site import Visit


async def similar(visit: Visit) -> Response:
    """The page; an empty form where it is asked nothing.

    Raises:
        CallFailedError: they are not found.
        ValueError: a field is not written as its hint says.
    """
    query = visit.query
    if not (query.get("text", "").strip() or query.get("items", "").strip()):
        return visit.page("similar.html", asked=False, spaces=SPACES)
    request = similarity(query)
    answer = await visit.call("RecommendationService", "SimilarItems", request)
    items = await visit.items(request.query.items.item_ids)
    return visit.page(
        "similar.html", asked=True, spaces=SPACES, request=request, answer=answer, items=items
    )
