"""What an item is, in answers that list scored items: title and attributes, where a caller asks.

They are worth carrying only if that costs next to nothing: most of a shortlist is never shown. So
an item's fields are encoded once, and from there on are bytes that are put into one message after
another. That works because all messages of scored items have these two fields under the same
numbers. Whoever needs attributes decodes them.
"""

from collections.abc import Collection, Iterable
from typing import Final

from google.protobuf.field_mask_pb2 import FieldMask

from core.attributes import Attributes
from core.catalog import CatalogItem
from core.errors import InvalidArgument
from serving.validation import attributes_of, value_message
from tandem.v1 import candidate_service_pb2, common_pb2

TITLE: Final = "title"
ATTRIBUTES: Final = "attributes"
ITEM_FIELDS: Final = (TITLE, ATTRIBUTES)

Fields = tuple[str, ...]
"""Which fields are asked for: some of `ITEM_FIELDS`, in that order."""

ScoredMessage = common_pb2.ScoredItem | candidate_service_pb2.ShortlistedItem


def read_item_fields(mask: FieldMask) -> Fields:
    """Checks which fields a caller asks for.

    Raises:
        InvalidArgument: reason UNKNOWN_ITEM_FIELD.
    """
    if not mask.paths:
        return ()
    asked = set(mask.paths)
    if unknown := sorted(asked.difference(ITEM_FIELDS)):
        raise InvalidArgument(
            f"item_fields names {unknown[0]!r}; name {' or '.join(ITEM_FIELDS)}",
            reason="UNKNOWN_ITEM_FIELD",
            field=unknown[0],
        )
    return tuple(name for name in ITEM_FIELDS if name in asked)


def field_mask(fields: Collection[str]) -> FieldMask | None:
    """Asks for fields; None for none."""
    return FieldMask(paths=fields) if fields else None


class ItemFieldWriter:
    """Puts items' fields into messages, and remembers how they are encoded.

    Args:
        capacity: encodings that are remembered, about 100 bytes each; beyond, all are forgotten.
    """

    def __init__(self, capacity: int = 100_000) -> None:
        self._capacity = capacity
        self._encoded: dict[tuple[str, Fields], tuple[CatalogItem, bytes]] = {}

    def __len__(self) -> int:
        return len(self._encoded)

    def write(
        self, messages: Iterable[ScoredMessage], items: Iterable[CatalogItem], fields: Fields
    ) -> None:
        """Completes messages of the same items, one each."""
        if not fields:
            return
        for message, item in zip(messages, items, strict=True):
            message.MergeFromString(self._of(item, fields))

    def _of(self, item: CatalogItem, fields: Fields) -> bytes:
        key = (item.item_id, fields)
        known = self._encoded.get(key)
        # An item that was replaced in the catalog has its identifier still.
        if known is not None and known[0] is item:
            return known[1]
        if len(self._encoded) >= self._capacity:
            self._encoded.clear()
        encoded = encode_item(item, fields)
        self._encoded[key] = (item, encoded)
        return encoded


def encode_item(item: CatalogItem, fields: Collection[str] = ITEM_FIELDS) -> bytes:
    """Encodes the fields of an item."""
    message = common_pb2.ScoredItem()
    if TITLE in fields:
        message.title = item.title
    if ATTRIBUTES in fields:
        for name, values in item.attributes.items():
            message.attributes[name].values.extend(map(value_message, values))
    return message.SerializeToString()


def encode_message(message: ScoredMessage | common_pb2.Item) -> bytes:
    """Encodes the fields that a message has.

    Of a scored item its scores come along, for copying the fields alone takes six times as long:
    whoever puts them into another message sets that one's scores afterwards.
    """
    if isinstance(message, common_pb2.Item):
        fields = common_pb2.ScoredItem(title=message.title, attributes=message.attributes)
        return fields.SerializeToString()
    return message.SerializeToString()


def narrow(encoded: bytes, fields: Collection[str]) -> bytes:
    """Leaves all out but some fields."""
    message = common_pb2.ScoredItem.FromString(encoded)
    for name in ITEM_FIELDS:
        if name not in fields:
            message.ClearField(name)
    return message.SerializeToString()


def decode_attributes(encoded: bytes) -> Attributes:
    """The attributes among an item's fields."""
    return attributes_of(common_pb2.ScoredItem.FromString(encoded).attributes)
