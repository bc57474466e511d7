"""Reading requests that are about the catalog itself: every limit of the contract enforced."""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from core.catalog import AttributeValues, Delete
from core.errors import FailedPrecondition, InvalidArgument
from services.candidate.catalog.transaction import NewItem
from services.candidate.index.flat import Vector
from services.candidate.requests import MAX_TEXT_BYTES
from serving import validation as edge
from tandem.v1 import catalog_service_pb2 as pb
from tandem.v1 import common_pb2

MAX_ITEMS: Final = 1_000
MAX_TITLE_BYTES: Final = 1_024
MAX_ATTRIBUTES: Final = 100
MAX_VALUES: Final = 100
MAX_NAME_BYTES: Final = 128
MAX_VALUE_BYTES: Final = 512
MAX_ATTRIBUTES_BYTES: Final = 16 * 2**10
DEFAULT_PAGE: Final = 100
LISTING: Final = "after"
"""What a page token begins with, which one of another list does not."""


@dataclass(frozen=True)
class PageQuery:
    """A page of the catalog to list."""

    after: str
    """The identifier of the last item of the page before; empty for the first page."""
    size: int
    """Items to list."""


def read_upsert(request: pb.UpsertItemsRequest, dimension: int) -> list[NewItem]:
    """Checks items to write. Takes a tenth of a second for the largest request.

    Args:
        request: the message.
        dimension: of the content space.

    Raises:
        InvalidArgument: it breaks a rule of the contract.
    """
    ids = _item_ids([item.item_id for item in request.items], field="items")
    if len(set(ids)) < len(ids):
        twice = next(item_id for item_id in ids if ids.count(item_id) > 1)
        raise InvalidArgument(
            f"items has the item {twice!r} twice", reason="DUPLICATE_ITEM", item_id=twice
        )
    return [_read_item(item, dimension) for item in request.items]


def read_delete(request: pb.DeleteItemsRequest) -> list[Delete]:
    """Checks items to delete, each once.

    Raises:
        InvalidArgument: it breaks a rule of the contract.
    """
    return [Delete(i) for i in dict.fromkeys(_item_ids(request.item_ids, field="item_ids"))]


def read_get(request: pb.GetItemsRequest) -> Sequence[str]:
    """Checks items to look up.

    Raises:
        InvalidArgument: it breaks a rule of the contract.
    """
    return _item_ids(request.item_ids, field="item_ids")


def read_watch(request: pb.WatchItemsRequest, version: str) -> int:
    """Checks where to begin to follow.

    Raises:
        FailedPrecondition: reason OTHER_BUNDLE.
    """
    if request.bundle_version not in ("", version):
        raise FailedPrecondition(
            f"you start from the bundle {request.bundle_version}, this server from {version}",
            reason="OTHER_BUNDLE",
            bundle_version=version,
        )
    return request.after_sequence


def read_list(request: pb.ListItemsRequest) -> PageQuery:
    """Checks a page to list.

    Raises:
        InvalidArgument: it breaks a rule of the contract.
    """
    size = edge.page_size(request.page_size, default=DEFAULT_PAGE, limit=MAX_ITEMS)
    if not request.page_token:
        return PageQuery("", size)
    kind, _, encoded = request.page_token.partition(".")
    try:
        after = base64.b64decode(encoded, altchars=b"-_", validate=True).decode()
    except ValueError:
        after = ""
    if kind != LISTING or not after:
        raise edge.page_token_error()
    return PageQuery(after, size)


def page_token(last: str) -> str:
    """Writes what `read_list` reads: the identifier that a page ends with, so that it means the
    same to every server that has the catalog."""
    return f"{LISTING}.{base64.urlsafe_b64encode(last.encode()).decode()}"


def _item_ids(ids: Sequence[str], *, field: str) -> Sequence[str]:
    if not ids:
        raise InvalidArgument(f"{field} names no item", reason="NO_ITEMS", field=field)
    return edge.item_ids(ids, field=field, limit=MAX_ITEMS)


def _read_item(message: pb.NewItem, dimension: int) -> NewItem:
    item_id = message.item_id
    _bounded(message.title, MAX_TITLE_BYTES, "title", item_id, reason="TITLE_TOO_LONG")
    if not message.text.strip():
        raise _mistake("its text is empty", item_id, reason="EMPTY_TEXT")
    _bounded(message.text, MAX_TEXT_BYTES, "text", item_id, reason="TEXT_TOO_LONG")
    return NewItem(
        item_id=item_id,
        title=message.title,
        text=message.text,
        attributes=_read_attributes(message.attributes, item_id),
        content=_read_vector(message.vector, dimension, item_id)
        if message.HasField("vector")
        else None,
    )


def _read_attributes(
    messages: Mapping[str, common_pb2.AttributeValues], item_id: str
) -> dict[str, AttributeValues]:
    if len(messages) > MAX_ATTRIBUTES:
        raise _mistake(f"over {MAX_ATTRIBUTES} attributes", item_id, reason="ATTRIBUTES_TOO_LARGE")
    attributes: dict[str, AttributeValues] = {}
    room = MAX_ATTRIBUTES_BYTES
    for name, several in sorted(messages.items()):
        if not name:
            raise _mistake("an attribute without a name", item_id, reason="INVALID_ATTRIBUTE")
        _bounded(name, MAX_NAME_BYTES, "attribute name", item_id, reason="ATTRIBUTES_TOO_LARGE")
        room -= len(name.encode()) + several.ByteSize()
        if len(several.values) > MAX_VALUES or room < 0:
            raise _mistake(
                f"over {MAX_VALUES} values of {name!r}, or {MAX_ATTRIBUTES_BYTES} bytes in all",
                item_id,
                reason="ATTRIBUTES_TOO_LARGE",
            )
        if not several.values:
            raise _mistake(f"no value of {name!r}", item_id, reason="INVALID_ATTRIBUTE")
        attributes[name] = tuple(_read_value(v, name, item_id) for v in several.values)
    return attributes


def _read_value(message: common_pb2.AttributeValue, name: str, item_id: str) -> str | float:
    match message.WhichOneof("kind"):
        case "text":
            _bounded(message.text, MAX_VALUE_BYTES, name, item_id, reason="ATTRIBUTES_TOO_LARGE")
            return message.text
        case "number" if math.isfinite(message.number):
            return message.number
        case _:
            raise _mistake(
                f"a value of {name!r} is neither text nor a finite number",
                item_id,
                reason="INVALID_ATTRIBUTE",
            )


def _read_vector(message: common_pb2.Vector, dimension: int, item_id: str) -> Vector:
    vector = np.array(message.values, np.float64)
    if len(vector) != dimension:
        raise _mistake(
            f"the vector has {len(vector)} numbers; the content space has {dimension}",
            item_id,
            reason="WRONG_DIMENSION",
        )
    norm = np.linalg.norm(vector)
    if not np.isfinite(norm):
        raise _mistake("the vector holds NaN or infinity", item_id, reason="NOT_FINITE")
    if not norm:
        raise _mistake("the vector is zero: it has no direction", item_id, reason="ZERO_VECTOR")
    unit: Vector = (vector / norm).astype(np.float32)
    return unit


def _bounded(text: str, limit: int, what: str, item_id: str, *, reason: str) -> None:
    # A character takes at most 4 bytes: encoding is needed only for what may be too long.
    if len(text) > limit // 4 and len(text.encode()) > limit:
        raise _mistake(f"{what} of over {limit} bytes", item_id, reason=reason)


def _mistake(problem: str, item_id: str, *, reason: str) -> InvalidArgument:
    return InvalidArgument(f"item {item_id!r}: {problem}", reason=reason, item_id=item_id)
