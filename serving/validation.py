"""Validation at the edge: from protobuf messages to the values that Tandem works with.

Every limit that a proto comment states is enforced by a function here, so that the three
servicers agree on it.
"""

import math
from collections.abc import Mapping, Sequence

from core.attributes import Attributes
from core.constraints import Constraints
from core.errors import InvalidArgument
from core.filters import VALUES_PER_CONDITION, AllOf, AnyOf, Filter, Not, OneOf, Range
from tandem.v1 import common_pb2

MAX_HISTORY = 10_000
MAX_EXCLUDED = 10_000
MAX_ALLOWED = 10_000
MAX_ID_BYTES = 512
MAX_FILTER_DEPTH = 8
MAX_FILTER_NODES = 256


def result_count(requested: int, *, default: int, limit: int) -> int:
    """Applies the rules of `max_results`: 0 means the default, above the limit is coerced down."""
    if requested < 0:
        raise negative("max_results", requested, default, reason="NEGATIVE_MAX_RESULTS")
    return min(requested or default, limit)


def page_size(requested: int, *, default: int, limit: int) -> int:
    """Applies the rules of `page_size`, which are those of `max_results`."""
    if requested < 0:
        raise negative("page_size", requested, default, reason="NEGATIVE_PAGE_SIZE")
    return min(requested or default, limit)


def negative(field: str, requested: int, default: object, *, reason: str) -> InvalidArgument:
    """The error of a size below 0; `default` is what 0 stands for."""
    return InvalidArgument(
        f"{field} is {requested}; give a positive number, or 0 for {default}", reason=reason
    )


def page_token_error() -> InvalidArgument:
    """The error of a `page_token` that this server did not give out, or not for this list."""
    return InvalidArgument(
        "page_token is none that this server gave out for this list; begin anew without one",
        reason="INVALID_PAGE_TOKEN",
    )


def item_ids(values: Sequence[str], *, field: str, limit: int) -> Sequence[str]:
    """Checks a list of item identifiers: not too many, none empty, none oversized."""
    if len(values) > limit:
        raise InvalidArgument(
            f"{field} has {len(values)} items; send at most {limit}",
            reason="TOO_MANY_ITEMS",
            field=field,
            limit=str(limit),
        )
    for value in values:
        identifier(value, field=field)
    return values


def identifier(value: str, *, field: str) -> str:
    """Checks one identifier: not empty, not oversized."""
    if not value:
        raise InvalidArgument(f"{field} holds an empty id", reason="EMPTY_ID", field=field)
    # A character takes at most 4 bytes: encoding is needed only for long ids.
    if len(value) > MAX_ID_BYTES // 4 and len(value.encode()) > MAX_ID_BYTES:
        raise InvalidArgument(
            f"{field} holds an id of over {MAX_ID_BYTES} bytes", reason="ID_TOO_LONG", field=field
        )
    return value


def short_text(text: str, *, field: str, limit: int) -> str:
    """Checks the length of a text.

    Args:
        text: of any language.
        field: that it was sent in.
        limit: bytes of UTF-8 that it may have.

    Raises:
        InvalidArgument: reason TEXT_TOO_LONG.
    """
    if len(text.encode()) > limit:
        raise InvalidArgument(
            f"{field} has {len(text.encode())} bytes; send at most {limit}",
            reason="TEXT_TOO_LONG",
            limit=str(limit),
        )
    return text


def item_filter(message: common_pb2.ItemFilter) -> Filter:
    """Translates a filter.

    Raises:
        InvalidArgument: it is empty somewhere, too deep or too large, or a number is NaN.
    """
    nodes = 0

    def spend(count: int) -> None:
        nonlocal nodes
        nodes += count
        if nodes > MAX_FILTER_NODES:
            raise _too_large()

    def translate(node: common_pb2.ItemFilter, depth: int) -> Filter:
        if depth > MAX_FILTER_DEPTH:
            raise _too_large()
        spend(1)
        match node.WhichOneof("kind"):
            case "all_of":
                return AllOf(_several(node.all_of.filters, depth))
            case "any_of":
                return AnyOf(_several(node.any_of.filters, depth))
            case "negation":
                return Not(translate(node.negation, depth + 1))
            case "equals":
                return OneOf(_attribute(node.equals.attribute), (_value(node.equals.value),))
            case "one_of":
                if not node.one_of.values:
                    raise _empty("one_of needs at least one value")
                spend(len(node.one_of.values) // VALUES_PER_CONDITION)
                values = tuple(_value(v) for v in node.one_of.values)
                return OneOf(_attribute(node.one_of.attribute), values)
            case "range":
                return _range(node.range)
            case _:
                raise _empty("a filter needs a condition")

    def _several(filters: Sequence[common_pb2.ItemFilter], depth: int) -> tuple[Filter, ...]:
        if not filters:
            raise _empty("all_of and any_of need at least one filter")
        return tuple(translate(f, depth + 1) for f in filters)

    return translate(message, 1)


def filter_message(condition: Filter) -> common_pb2.ItemFilter:
    """Writes a filter as a message; `item_filter` reads the same filter back."""
    pb = common_pb2.ItemFilter
    match condition:
        case OneOf(attribute, values):
            return pb(one_of=pb.OneOf(attribute=attribute, values=map(value_message, values)))
        case Range(attribute, low, high):
            return pb(
                range=pb.Range(
                    attribute=attribute,
                    min=None if low == -math.inf else low,
                    max=None if high == math.inf else high,
                )
            )
        case AllOf(filters):
            return pb(all_of=pb.AllOf(filters=map(filter_message, filters)))
        case AnyOf(filters):
            return pb(any_of=pb.AnyOf(filters=map(filter_message, filters)))
        case Not(inner):
            return pb(negation=filter_message(inner))


def constraints(message: common_pb2.ItemConstraints) -> Constraints:
    """Reads which items a list may hold.

    Raises:
        InvalidArgument: it names too many items, or the filter breaks a rule.
    """
    return Constraints(
        excluded=tuple(
            item_ids(message.excluded_item_ids, field="excluded_item_ids", limit=MAX_EXCLUDED)
        ),
        filter=item_filter(message.filter) if message.HasField("filter") else None,
        allowed=tuple(
            item_ids(message.allowed_item_ids, field="allowed_item_ids", limit=MAX_ALLOWED)
        ),
        include_seen=message.include_seen,
    )


def constraints_message(of: Constraints) -> common_pb2.ItemConstraints:
    """Writes which items a list may hold; `constraints` reads the same back."""
    return common_pb2.ItemConstraints(
        excluded_item_ids=of.excluded,
        filter=filter_message(of.filter) if of.filter else None,
        allowed_item_ids=of.allowed,
        include_seen=of.include_seen,
    )


def _too_large() -> InvalidArgument:
    return InvalidArgument(
        f"the filter is more than {MAX_FILTER_DEPTH} levels deep "
        f"or {MAX_FILTER_NODES} conditions large",
        reason="FILTER_TOO_LARGE",
    )


def _empty(message: str) -> InvalidArgument:
    return InvalidArgument(message, reason="EMPTY_FILTER")


def _attribute(name: str) -> str:
    if not name:
        raise _empty("a condition needs the name of an attribute")
    return name


def value_message(value: str | float) -> common_pb2.AttributeValue:
    """Writes the value of an attribute."""
    if isinstance(value, str):
        return common_pb2.AttributeValue(text=value)
    return common_pb2.AttributeValue(number=value)


def attributes_of(
    messages: Mapping[str, common_pb2.AttributeValues],
) -> Attributes:
    """Reads the attributes of an item that one of Tandem's services sent."""
    return {
        name: tuple(
            value.text if value.WhichOneof("kind") == "text" else value.number
            for value in several.values
        )
        for name, several in messages.items()
    }


def _value(message: common_pb2.AttributeValue) -> str | float:
    match message.WhichOneof("kind"):
        case "text":
            return message.text
        case "number":
            return _number(message.number)
        case _:
            raise _empty("an attribute value is neither text nor number")


def _range(message: common_pb2.ItemFilter.Range) -> Range:
    low = _number(message.min) if message.HasField("min") else -math.inf
    high = _number(message.max) if message.HasField("max") else math.inf
    if low > high:
        raise InvalidArgument(
            f"the range of {message.attribute!r} is empty: {low} > {high}", reason="EMPTY_RANGE"
        )
    return Range(_attribute(message.attribute), low, high)


def _number(value: float) -> float:
    if math.isnan(value):
        raise InvalidArgument("a filter compares with NaN", reason="NOT_A_NUMBER")
    return value
