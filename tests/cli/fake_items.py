"""A catalog without a candidate service, on a thread of its own."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc

from tandem.v1 import catalog_service_pb2 as pb
from tandem.v1 import catalog_service_pb2_grpc as rpc
from tandem.v1 import common_pb2


class FakeItems(rpc.CatalogServiceServicer):
    """Keeps items in a dictionary.

    Attributes:
        items: what it has.
        vectors: those that came with items.
        calls: how many items each upsert had.
        refuse: an item that makes a call fail.
    """

    def __init__(self) -> None:
        self.items: dict[str, common_pb2.Item] = {}
        self.vectors: dict[str, list[float]] = {}
        self.calls: list[int] = []
        self.refuse = ""

    def UpsertItems(  # noqa: N802
        self, request: pb.UpsertItemsRequest, context: Any
    ) -> pb.UpsertItemsResponse:
        if self.refuse in [item.item_id for item in request.items]:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"item {self.refuse!r}: no good")
        self.calls.append(len(request.items))
        unchanged = []
        for new in request.items:
            item = common_pb2.Item(item_id=new.item_id, title=new.title, text=new.text)
            for name, values in new.attributes.items():
                item.attributes[name].CopyFrom(values)
            if self.items.get(new.item_id) == item:
                unchanged.append(new.item_id)
            self.items[new.item_id] = item
            if new.HasField("vector"):
                self.vectors[new.item_id] = list(new.vector.values)
        return pb.UpsertItemsResponse(sequence=len(self.calls), unchanged_item_ids=unchanged)

    def DeleteItems(  # noqa: N802
        self, request: pb.DeleteItemsRequest, _context: Any
    ) -> pb.DeleteItemsResponse:
        missing = [i for i in request.item_ids if self.items.pop(i, None) is None]
        return pb.DeleteItemsResponse(missing_item_ids=missing)

    def GetItems(  # noqa: N802
        self, request: pb.GetItemsRequest, _context: Any
    ) -> pb.GetItemsResponse:
        known = [i for i in request.item_ids if i in self.items]
        missing = [i for i in request.item_ids if i not in self.items]
        return pb.GetItemsResponse(items=[self.items[i] for i in known], missing_item_ids=missing)

    def ListItems(  # noqa: N802
        self, request: pb.ListItemsRequest, _context: Any
    ) -> pb.ListItemsResponse:
        size, start = min(request.page_size or 100, 3), int(request.page_token or 0)
        some = list(self.items.values())[start : start + size]
        more = str(start + size) if start + size < len(self.items) else ""
        return pb.ListItemsResponse(items=some, next_page_token=more, total_size=len(self.items))


@contextmanager
def serving_items() -> Iterator[tuple[FakeItems, str]]:
    """The service, and its address."""
    fake = FakeItems()  # type: ignore[abstract]
    server = grpc.server(ThreadPoolExecutor(2))
    rpc.add_CatalogServiceServicer_to_server(fake, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield fake, f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()
