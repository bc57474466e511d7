"""A catalog without items of a bundle: a store of changes, and the stream of them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc

from core.errors import FailedPrecondition, InvalidArgument
from serving.boundary.proxy import Boundary
from serving.security.guard import Guard
from serving.server import make_server
from tandem.v1 import catalog_service_pb2 as pb
from tandem.v1 import catalog_service_pb2_grpc as rpc
from tandem.v1 import common_pb2


class FakeCatalog(rpc.CatalogServiceServicer):
    """Keeps the last change of each item, as a store does, and can be stopped and brought back.

    Attributes:
        bundle_version: of the bundle that it claims to have.
        heartbeat: seconds after which it says that nothing has changed; None for never.
        asked: the sequences after which followers asked, in order.
        chunk: how many changes go into a message.
        guard: decides who may follow.
        tls: the server's side of TLS; None listens in the clear.
    """

    def __init__(self, bundle_version: str, heartbeat: float | None = 0.05, chunk: int = 2) -> None:
        self.bundle_version = bundle_version
        self.heartbeat = heartbeat
        self.chunk = chunk
        self.guard: Guard | None = None
        self.tls: grpc.ServerCredentials | None = None
        self.asked: list[int] = []
        self.sequence = 0
        self._rows: dict[str, pb.ItemChange] = {}
        self._changed = asyncio.Condition()
        self._server: grpc.aio.Server | None = None
        self._port = 0

    async def start(self) -> str:
        """Serves, on the same port each time; returns the address."""
        self._server = make_server(Boundary(256, guard=self.guard), 2**20, 256)
        rpc.add_CatalogServiceServicer_to_server(self, self._server)
        address = f"127.0.0.1:{self._port}"
        self._port = (
            self._server.add_secure_port(address, self.tls)
            if self.tls
            else self._server.add_insecure_port(address)
        )
        await self._server.start()
        return f"127.0.0.1:{self._port}"

    async def stop(self) -> None:
        """Goes away; the store stays."""
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    async def upsert(
        self,
        item_id: str,
        tokens: Sequence[int],
        text: str,
        **attributes: str | float,
    ) -> None:
        item = common_pb2.Item(item_id=item_id, title=item_id.title(), text=f"This is {item_id}")
        for name, value in attributes.items():
            kind = {"text": value} if isinstance(value, str) else {"number": value}
            item.attributes[name].values.append(common_pb2.AttributeValue(**kind))
        coded = pb.CodedItem(item=item, code_text=text, code_tokens=tokens)
        await self._append(item_id, pb.ItemChange(upsert=coded))

    async def delete(self, item_id: str) -> None:
        await self._append(item_id, pb.ItemChange(delete_item_id=item_id))

    def restore(self, sequence: int) -> None:
        """Goes back to an older state."""
        self.sequence = sequence
        self._rows = {k: row for k, row in self._rows.items() if row.sequence <= sequence}

    async def _append(self, item_id: str, change: pb.ItemChange) -> None:
        async with self._changed:
            self.sequence += 1
            change.sequence = self.sequence
            self._rows[item_id] = change
            self._changed.notify_all()

    async def WatchItems(  # noqa: N802
        self, request: pb.WatchItemsRequest, _context: Any
    ) -> AsyncIterator[pb.WatchItemsResponse]:
        after = request.after_sequence
        self.asked.append(after)
        if request.bundle_version != self.bundle_version:
            raise FailedPrecondition("another bundle", reason="OTHER_BUNDLE")
        if after > self.sequence:
            raise InvalidArgument(f"{after} is still to come", reason="UNKNOWN_SEQUENCE")
        while True:
            rows = sorted(self._rows.values(), key=lambda row: row.sequence)
            new = [row for row in rows if row.sequence > after]
            for start in range(0, len(new), self.chunk):
                changes = new[start : start + self.chunk]
                after = changes[-1].sequence
                yield pb.WatchItemsResponse(changes=changes, sequence=after)
            if not await self._wait(after):
                yield pb.WatchItemsResponse(sequence=after)

    async def _wait(self, after: int) -> bool:
        """Waits for a change, or for the next heartbeat."""
        async with self._changed:
            try:
                async with asyncio.timeout(self.heartbeat):
                    await self._changed.wait_for(lambda: self.sequence > after)
            except TimeoutError:
                return False
        return True
