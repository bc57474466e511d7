"""Reading requests: messages to checked domain values, every limit of the contract enforced."""

from collections.abc import Collection
from typing import Final

from core.errors import InvalidArgument
from core.filters import attributes_of, condition_count, require
from gateway.domain import Boost, Cap, Pin, Query, Rules, Strategy
from serving import validation as edge
from serving.item_fields import read_item_fields
from tandem.v1 import recommendation_service_pb2 as pb

DEFAULT_RESULTS: Final = 10
MAX_RESULTS: Final = 100
MAX_PINS: Final = 100
MAX_CAPS: Final = 8
MAX_BOOSTS: Final = 20

STRATEGIES: Final = {
    pb.STRATEGY_RERANK: Strategy.RERANK,
    pb.STRATEGY_GENERATE: Strategy.GENERATE,
    pb.STRATEGY_FUSE: Strategy.FUSE,
    pb.STRATEGY_EMBEDDING: Strategy.EMBEDDING,
}


def read_query(
    request: pb.RecommendRequest, *, default_strategy: Strategy, attributes: Collection[str]
) -> Query:
    """Checks a request.

    Args:
        request: the message.
        default_strategy: for a request that names none.
        attributes: those that the bundle's items have.

    Raises:
        InvalidArgument: it breaks a rule of the contract.
    """
    if not request.user_id and not request.history_item_ids:
        raise InvalidArgument(
            "give user_id, history_item_ids, or both: there is nobody to recommend to",
            reason="MISSING_USER",
        )
    if request.user_id:
        edge.identifier(request.user_id, field="user_id")
    history = edge.item_ids(
        request.history_item_ids, field="history_item_ids", limit=edge.MAX_HISTORY
    )
    count = list_length(request)
    return Query(
        user_id=request.user_id,
        history=tuple(history) or None,
        max_results=count,
        strategy=_read_strategy(request.strategy, default_strategy),
        constraints=edge.constraints(request.constraints),
        rules=_read_rules(request, count, attributes),
        forbid_degraded=request.forbid_degraded,
        diagnostics=request.diagnostics,
        item_fields=read_item_fields(request.item_fields),
        exact=request.exact,
    )


def list_length(request: pb.RecommendRequest) -> int:
    """How many items a request's list has, at most.

    Raises:
        InvalidArgument: reason NEGATIVE_MAX_RESULTS.
    """
    default = MAX_RESULTS if request.page_size or request.page_token else DEFAULT_RESULTS
    return edge.result_count(request.max_results, default=default, limit=MAX_RESULTS)


def _read_strategy(value: pb.Strategy.ValueType, default: Strategy) -> Strategy:
    if value == pb.STRATEGY_UNSPECIFIED:
        return default
    if value not in STRATEGIES:
        raise InvalidArgument(
            f"strategy {value} is none that can be asked for here",
            reason="UNKNOWN_STRATEGY",
            strategy=str(value),
        )
    return STRATEGIES[value]


def _read_rules(request: pb.RecommendRequest, count: int, attributes: Collection[str]) -> Rules:
    if not 0.0 <= request.diversity <= 1.0:
        raise InvalidArgument(
            f"diversity is {request.diversity}; give a number from 0 to 1",
            reason="DIVERSITY_OUT_OF_RANGE",
        )
    return Rules(
        pins=_read_pins(request, count),
        caps=_read_caps(request, attributes),
        diversity=request.diversity,
        boosts=_read_boosts(request, attributes),
    )


def _read_boosts(request: pb.RecommendRequest, attributes: Collection[str]) -> tuple[Boost, ...]:
    if len(request.boosts) > MAX_BOOSTS:
        raise InvalidArgument(
            f"there are {len(request.boosts)} boosts; give at most {MAX_BOOSTS}",
            reason="TOO_MANY_BOOSTS",
            limit=str(MAX_BOOSTS),
        )
    boosts = []
    for message in request.boosts:
        if not -1.0 <= message.boost <= 1.0:
            raise InvalidArgument(
                f"a boost is {message.boost}; give a number from -1 to 1",
                reason="BOOST_OUT_OF_RANGE",
            )
        condition = edge.item_filter(message.condition)
        require(attributes_of(condition), attributes)
        boosts.append(Boost(condition, message.boost))
    conditions = sum(condition_count(each.condition) for each in boosts)
    if conditions > edge.MAX_FILTER_NODES:
        raise InvalidArgument(
            f"the boosts have {conditions} conditions; give at most {edge.MAX_FILTER_NODES} in all",
            reason="FILTER_TOO_LARGE",
        )
    return tuple(boosts)


def _read_pins(request: pb.RecommendRequest, count: int) -> tuple[Pin, ...]:
    pins = tuple(Pin(pin.item_id, pin.position) for pin in request.pinned_items)
    item_ids = [pin.item_id for pin in pins]
    edge.item_ids(item_ids, field="pinned_items", limit=min(MAX_PINS, count))
    for pin in pins:
        if not 0 <= pin.position <= count:
            raise InvalidArgument(
                f"{pin.item_id!r} is pinned to position {pin.position} of a list of {count}",
                reason="PIN_OUT_OF_RANGE",
                item_id=pin.item_id,
            )
    positions = [pin.position for pin in pins if pin.position]
    if len(set(item_ids)) < len(item_ids) or len(set(positions)) < len(positions):
        raise InvalidArgument(
            "an item is pinned twice, or two are pinned to one position", reason="CONFLICTING_PINS"
        )
    return pins


def _read_caps(request: pb.RecommendRequest, attributes: Collection[str]) -> tuple[Cap, ...]:
    caps = tuple(Cap(cap.attribute, cap.max_items) for cap in request.attribute_caps)
    names = [cap.attribute for cap in caps]
    if len(caps) > MAX_CAPS or len(set(names)) < len(names):
        raise InvalidArgument(
            f"there are {len(caps)} caps; give at most {MAX_CAPS}, for different attributes",
            reason="CONFLICTING_CAPS",
        )
    for cap in caps:
        if cap.max_items < 1:
            raise InvalidArgument(
                f"at most {cap.max_items} items may have the same {cap.attribute!r}; give at least "
                "1, and leave items out with a filter",
                reason="CAP_OUT_OF_RANGE",
                attribute=cap.attribute,
            )
    require(names, attributes)
    return caps
