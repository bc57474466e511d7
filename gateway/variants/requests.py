"""Requests in layers: what a call says, over what its variant says, over a configuration."""

from typing import Any, Final

from google.protobuf.json_format import ParseDict, ParseError

from core.errors import InvalidArgument
from core.filters import attributes_of
from gateway.domain import Strategy
from gateway.requests import list_length, read_query
from serving.validation import item_filter
from tandem.v1 import recommendation_service_pb2 as pb
from tandem.v1.common_pb2 import ItemFilter

CALLS_OWN: Final = (
    "user_id", "history_item_ids", "page_size", "page_token", "serving_config", "variant", "bundle",
)  # fmt: skip
"""What a call alone can say."""
_REPLACED: Final = ("pinned_items", "attribute_caps", "boosts")
"""Lists that are those of the uppermost layer that gives any."""


def read_config(values: dict[str, Any]) -> pb.RecommendRequest:
    """Reads a configuration: a `RecommendRequest` in protobuf's JSON form.

    Raises:
        ValueError: it is none, it says what a call alone can, or no call could be answered by it.
    """
    config = pb.RecommendRequest()
    try:
        ParseDict(values, config)
    except (ParseError, TypeError, AttributeError) as error:
        raise ValueError(str(error)) from error
    for field, _ in config.ListFields():
        if field.name in CALLS_OWN:
            raise ValueError(f"{field.name} is a call's own")
    if config.constraints.allowed_item_ids:
        # Of two such lists the items in both would hold, and an empty list means all items.
        raise ValueError("allowed_item_ids is a call's own; say it with a filter")
    asked = pb.RecommendRequest(user_id="somebody")
    asked.MergeFrom(config)
    try:
        read_query(asked, default_strategy=Strategy.FUSE, attributes=attributes_in(config))
    except InvalidArgument as error:
        raise ValueError(error.message) from error
    return config


def attributes_in(config: pb.RecommendRequest) -> frozenset[str]:
    """The attributes that a configuration asks about.

    Raises:
        InvalidArgument: a filter breaks a rule.
    """
    filters = [each.condition for each in config.boosts]
    if config.constraints.HasField("filter"):
        filters.append(config.constraints.filter)
    return frozenset(
        {cap.attribute for cap in config.attribute_caps}.union(
            *(attributes_of(item_filter(each)) for each in filters)
        )
    )


def layered(lower: pb.RecommendRequest, upper: pb.RecommendRequest) -> pb.RecommendRequest:
    """What a request comes to over another: it goes before, and the filters and the excluded items
    of both hold."""
    whole = pb.RecommendRequest()
    whole.CopyFrom(lower)
    for name in _REPLACED:
        if getattr(upper, name):
            whole.ClearField(name)
    if upper.item_fields.paths:
        whole.ClearField("item_fields")
    whole.MergeFrom(upper)
    if lower.constraints.HasField("filter") and upper.constraints.HasField("filter"):
        both = [*_parts(lower.constraints.filter), *_parts(upper.constraints.filter)]
        whole.constraints.filter.CopyFrom(ItemFilter(all_of=ItemFilter.AllOf(filters=both)))
    return whole


def completed(
    request: pb.RecommendRequest, *lower: pb.RecommendRequest | None
) -> pb.RecommendRequest:
    """A call's request over layers, the uppermost first. Pins that are not the call's and have no
    place in its list are left out: the call knows nothing of them."""
    whole = request
    for layer in lower:
        if layer is not None:
            whole = layered(layer, whole)
    if not request.pinned_items and whole.pinned_items:
        length = list_length(whole)
        pins = [pin for pin in whole.pinned_items if pin.position <= length][:length]
        del whole.pinned_items[:]
        whole.pinned_items.extend(pins)
    return whole


def _parts(condition: ItemFilter) -> list[ItemFilter]:
    """The conditions that all hold, so that joining them makes a filter no deeper than need be."""
    if condition.WhichOneof("kind") == "all_of" and condition.all_of.filters:
        return list(condition.all_of.filters)
    return [condition]
