"""What the forms ask, as the contract's messages."""

from functools import reduce
from operator import and_
from typing import Final, cast, get_args

from starlette.datastructures import QueryParams

from tandem import filters
from tandem.filters import Condition
from tandem.requests import SpaceName, StrategyName, recommend_request, similar_request
from tandem.v1 import recommendation_service_pb2 as pb

STRATEGIES: Final[tuple[str, ...]] = get_args(StrategyName)
SPACES: Final[tuple[str, ...]] = get_args(SpaceName)
DEFAULT_RESULTS: Final = 10


def ids_in(text: str) -> list[str]:
    """Identifiers with commas between them."""
    return [part.strip() for part in text.split(",") if part.strip()]


def conditions_in(text: str) -> Condition | None:
    """Conditions with semicolons between them, all of which must hold; None for none.

    Raises:
        ValueError: one is not written as `tandem.filters.parse` reads it.
    """
    read = [filters.parse(part) for part in text.split(";") if part.strip()]
    return reduce(and_, read) if read else None


def pins_in(text: str) -> dict[str, int]:
    """Items with the places that they are pinned to: `50=1, 172=3`.

    Raises:
        ValueError: one is not written so.
    """
    pins = {}
    for part in ids_in(text):
        item_id, _, place = part.rpartition("=")
        if not (item_id and place.isdecimal() and len(place) <= 3):
            raise ValueError(f"{part!r} is not a pin; write an item and its place, such as 50=1")
        pins[item_id] = int(place)
    return pins


def number(query: QueryParams, name: str, default: int) -> int:
    """A whole number of the query.

    Raises:
        ValueError: it is none.
    """
    text = query.get(name, "") or str(default)
    if not (text.isascii() and text.isdecimal() and len(text) <= 4):
        raise ValueError(f"{name} is a whole number, and {text!r} is none")
    return int(text)


def recommendation(query: QueryParams) -> pb.RecommendRequest:
    """What the page of recommendations asks.

    Raises:
        ValueError: a field is not written as its hint says.
    """
    strategy = query.get("strategy", "")
    diversity = query.get("diversity", "")
    return recommend_request(
        query.get("user", "").strip(),
        history=ids_in(query.get("history", "")),
        max_results=number(query, "k", DEFAULT_RESULTS),
        strategy=cast("StrategyName", strategy) if strategy in STRATEGIES else None,
        filter=conditions_in(query.get("filter", "")),
        exclude=ids_in(query.get("exclude", "")),
        include_seen=bool(query.get("seen")),
        pin=pins_in(query.get("pin", "")),
        diversity=float(diversity) if diversity else None,
        item_fields=("title", "attributes"),
        diagnostics=bool(query.get("explain")),
        bundle=query.get("bundle", ""),
    )


def similarity(query: QueryParams) -> pb.SimilarItemsRequest:
    """What the page of similar items asks.

    Raises:
        ValueError: as for `recommendation`; or neither a text nor items are given.
    """
    text, items = query.get("text", "").strip(), ids_in(query.get("items", ""))
    space = query.get("space", "")
    return similar_request(
        items,
        text=text or None,
        space=cast("SpaceName", space) if space in SPACES else None,
        max_results=number(query, "k", DEFAULT_RESULTS),
        filter=conditions_in(query.get("filter", "")),
        item_fields=("title", "attributes"),
        bundle=query.get("bundle", ""),
    )
