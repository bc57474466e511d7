"""The trie that the generator walked: its paths, their probabilities, and what was not allowed.

Both lists are the generator's own: what it writes within the request's conditions, and what it
would write if every item were allowed. What is in the second alone was pruned.
"""

import asyncio
from collections.abc import Sequence

from starlette.responses import Response

from console.pages.drawing import drawn
from console.pages.questions import conditions_in, number
from console.pages.site import Visit
from console.pages.trie import Leaf, Trie
from tandem.requests import recommend_request
from tandem.v1 import recommendation_service_pb2 as pb
from tandem.v1.generator_service_pb2 import ItemCode

DEFAULT_LEAVES = 12
MAX_LEAVES = 50


async def beam(visit: Visit) -> Response:
    """The page; an empty form where it is asked nothing.

    Raises:
        CallFailedError: the generator's list cannot be had.
        ValueError: a field is not written as its hint says.
    """
    user = visit.query.get("user", "").strip()
    if not user:
        return visit.page("beam.html", asked=False)
    allowed, all_ = await asyncio.gather(
        visit.call("RecommendationService", "Recommend", _request(visit, user, free=False)),
        visit.call("RecommendationService", "Recommend", _request(visit, user, free=True)),
    )
    leaves = leaves_of(allowed, all_)
    items = await visit.items(leaf.item_id for leaf in leaves)
    trie = Trie.of(leaves)
    return visit.page(
        "beam.html",
        asked=True,
        answer=allowed,
        trie=trie,
        drawing=drawn(trie),
        items=items,
        seen=set(allowed.diagnostics.history_item_ids),
    )


def _request(visit: Visit, user: str, *, free: bool) -> pb.RecommendRequest:
    """What the generator is asked; `free` of every condition, or not."""
    query = visit.query
    return recommend_request(
        user,
        max_results=min(number(query, "k", DEFAULT_LEAVES), MAX_LEAVES),
        strategy="generate",
        filter=None if free else conditions_in(query.get("filter", "")),
        include_seen=free or bool(query.get("seen")),
        diagnostics=True,
        forbid_degraded=True,
        bundle=query.get("bundle", ""),
    )


def leaves_of(allowed: pb.RecommendResponse, all_: pb.RecommendResponse) -> Sequence[Leaf]:
    """The items of both lists, each once: first those that are allowed, in order."""
    seen = set(allowed.diagnostics.history_item_ids)
    leaves: dict[str, Leaf] = {}
    for rank, code in enumerate(_codes(allowed), start=1):
        leaves[code.item_id] = _leaf(code, rank, "kept")
    for code in _codes(all_):
        fate = "seen" if code.item_id in seen else "pruned"
        leaves.setdefault(code.item_id, _leaf(code, None, fate))
    return list(leaves.values())


def _leaf(code: ItemCode, rank: int | None, fate: str) -> Leaf:
    tokens = tuple((token.text, token.log_probability) for token in code.tokens)
    return Leaf(code.item_id, tokens, rank, fate)


def _codes(answer: pb.RecommendResponse) -> list[ItemCode]:
    return [each.code for each in answer.diagnostics.items if each.HasField("code")]
