"""CatalogService: what there is, beside the candidate service that searches it."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import grpc

from services.candidate.catalog.listing import ItemOrder
from services.candidate.catalog.live import LiveCatalog
from services.candidate.catalog.messages import item_messages, page_messages, step_message
from services.candidate.catalog.requests import (
    page_token,
    read_delete,
    read_get,
    read_list,
    read_upsert,
    read_watch,
)
from services.candidate.index.space import SpaceName
from serving.workers import Workers
from tandem.v1 import catalog_service_pb2 as pb
from tandem.v1 import catalog_service_pb2_grpc as pb_grpc

RpcContext = grpc.aio.ServicerContext[Any, Any]


class CatalogServicer(pb_grpc.CatalogServiceServicer):
    """Changes, shows and streams a catalog. Whoever made the catalog closes it.

    Args:
        live: the catalog. A call takes the version that is current when it starts.
        version: of the bundle that the catalog started from, named in every response.
        workers: the threads that calls compute on.
    """

    def __init__(self, live: LiveCatalog, version: str, workers: Workers) -> None:
        self.live = live
        self._version = version
        self._workers = workers
        self._order = ItemOrder()

    async def UpsertItems(
        self, request: pb.UpsertItemsRequest, _context: RpcContext
    ) -> pb.UpsertItemsResponse:
        """Adds or replaces items."""
        dimension = self.live.engine.space(SpaceName.CONTENT).dimension
        # On a thread: a thousand vectors take tens of milliseconds to read.
        items = await self._workers.run(read_upsert, request, dimension)
        written = await self.live.write(items)
        return pb.UpsertItemsResponse(
            sequence=written.sequence,
            unchanged_item_ids=written.untouched,
            bundle_version=self._version,
        )

    async def DeleteItems(
        self, request: pb.DeleteItemsRequest, _context: RpcContext
    ) -> pb.DeleteItemsResponse:
        """Removes items."""
        written = await self.live.write(read_delete(request))
        return pb.DeleteItemsResponse(
            sequence=written.sequence,
            missing_item_ids=written.untouched,
            bundle_version=self._version,
        )

    async def GetItems(
        self, request: pb.GetItemsRequest, _context: RpcContext
    ) -> pb.GetItemsResponse:
        """Looks items up."""
        engine = self.live.engine
        catalog = engine.catalog
        positions, missing = catalog.lookup(read_get(request))
        items = await self._workers.run(item_messages, catalog, positions)
        return pb.GetItemsResponse(
            items=items,
            missing_item_ids=missing,
            bundle_version=self._version,
            catalog_sequence=engine.sequence,
        )

    async def ListItems(
        self, request: pb.ListItemsRequest, _context: RpcContext
    ) -> pb.ListItemsResponse:
        """Lists a page of the catalog."""
        engine = self.live.engine
        catalog = engine.catalog
        query = read_list(request)
        items, more = await self._workers.run(page_messages, catalog, self._order, query)
        return pb.ListItemsResponse(
            items=items,
            next_page_token=page_token(items[-1].item_id) if more else "",
            total_size=catalog.live_count,
            bundle_version=self._version,
            catalog_sequence=engine.sequence,
        )

    async def WatchItems(
        self, request: pb.WatchItemsRequest, _context: RpcContext
    ) -> AsyncGenerator[pb.WatchItemsResponse, None]:
        """Follows the catalog; never ends by itself."""
        after = read_watch(request, self._version)
        async with aclosing(self.live.follow(after)) as steps:
            async for step in steps:
                yield step_message(step, self._version)
