"""Writing answers that are about the catalog itself."""

from typing import Final

from core.catalog import Catalog, CatalogItem, ItemArray
from services.candidate.catalog.listing import ItemOrder
from services.candidate.catalog.live import Step
from services.candidate.catalog.requests import PageQuery
from services.candidate.changes import PlacedItem
from serving.validation import value_message
from tandem.v1 import catalog_service_pb2 as pb
from tandem.v1 import common_pb2

PAGE_BYTES: Final = 2**20
"""Of items, after which a page takes no more: clients accept 4 MiB by default."""


def item_messages(catalog: Catalog, positions: ItemArray) -> list[common_pb2.Item]:
    """Writes items."""
    return [item_message(catalog.items[position]) for position in positions.tolist()]


def page_messages(
    catalog: Catalog, order: ItemOrder, query: PageQuery
) -> tuple[list[common_pb2.Item], bool]:
    """Writes a page of the catalog, and says whether another follows."""
    page: list[common_pb2.Item] = []
    room = PAGE_BYTES
    for position in order.after(catalog, query.after):
        if len(page) == query.size or room <= 0:
            return page, True
        page.append(item_message(catalog.items[position]))
        room -= page[-1].ByteSize()
    return page, False


def item_message(item: CatalogItem) -> common_pb2.Item:
    """Writes an item."""
    return common_pb2.Item(
        item_id=item.item_id,
        title=item.title,
        text=item.text,
        attributes={
            name: common_pb2.AttributeValues(values=map(value_message, values))
            for name, values in item.attributes.items()
        },
        popularity=item.popularity,
    )


def step_message(step: Step, version: str) -> pb.WatchItemsResponse:
    """Writes changes for whoever follows the catalog."""
    message = pb.WatchItemsResponse(
        sequence=step.sequence, bundle_version=version, catalog_sequence=step.last
    )
    for stored in step.changes:
        change = message.changes.add(sequence=stored.sequence)
        if isinstance(stored.change, PlacedItem):
            change.upsert.item.CopyFrom(item_message(stored.change.item))
            change.upsert.code_text = stored.change.code.text
            change.upsert.code_tokens.extend(stored.change.code.tokens)
            change.upsert.content_vector.extend(stored.change.content.tolist())
        else:
            change.delete_item_id = stored.change.item_id
    return message
