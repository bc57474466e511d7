"""The client of the catalog: items that come and go while it is served.

It calls `CatalogService`, in the candidate's process, rather than the gateway: who may ask for
recommendations need not be able to change what there is. A call whose connection breaks is made
again, as those of the gateway's client are; that is harmless, since a change says what is so
afterwards.
"""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import grpc

from tandem.calls import AsyncCalls, Calls
from tandem.channel import Secret, channel_options
from tandem.v1 import catalog_service_pb2 as pb
from tandem.v1 import catalog_service_pb2_grpc as pb_grpc
from tandem.v1.common_pb2 import AttributeValue, AttributeValues, Vector
from tandem.v1.common_pb2 import Item as ItemMessage

DEFAULT_CATALOG_TARGET: Final = "127.0.0.1:50051"
DEFAULT_CATALOG_TIMEOUT: Final = 30.0
"""Seconds; a thousand texts take several to embed."""

_OPTIONS: Final = channel_options(["tandem.v1.CatalogService"])

Value = str | float


@dataclass(frozen=True)
class Item:
    """An item to add to the catalog, or to replace the one with its id.

    Attributes:
        item_id: the identifier.
        text: what the item is, in the words of the catalog's item texts.
        title: what people see.
        attributes: what filters look at; a value, or several.
        vector: of the content space, where there is one already; otherwise the text is embedded.
    """

    item_id: str
    text: str
    title: str = ""
    attributes: Mapping[str, Value | Sequence[Value]] = field(default_factory=dict)
    vector: Sequence[float] | None = None


class CatalogClient(Calls):
    """Changes and reads a catalog from sync code; safe to share between threads.

        with tandem.CatalogClient("candidate:50051") as catalog:
            lamp = tandem.Item("p1", text="A lamp of brass", attributes={"room": "hall"})
            catalog.upsert_items([lamp])
            catalog.delete_items(["p0"])

    Args:
        target: the candidate service's address; `host:port`, or any gRPC name.
        timeout: seconds that a call may take unless it says otherwise.
        credentials: of a TLS connection, such as `tandem.tls_credentials` makes; without them the
            connection is plain.
        key: a key or a token to show at each call, or what is asked for it; see `tandem.key_file`.
    """

    def __init__(
        self,
        target: str = DEFAULT_CATALOG_TARGET,
        *,
        timeout: float = DEFAULT_CATALOG_TIMEOUT,
        credentials: grpc.ChannelCredentials | None = None,
        key: Secret | None = None,
    ) -> None:
        super().__init__(target, _OPTIONS, timeout, credentials, key)
        self._stub = pb_grpc.CatalogServiceStub(self._keyed)

    def upsert_items(
        self, items: Iterable[Item], *, timeout: float | None = None
    ) -> pb.UpsertItemsResponse:
        """Adds items, or replaces those that have their ids: all of them or, on error, none.

        When it returns, the items are on disk, and the candidate service finds them; the generator
        follows within a moment.

        Args:
            items: from 1 to 1,000, each id once.
            timeout: seconds that the call may take, instead of the client's.

        Raises:
            Error: the call failed; see `tandem.errors`.
        """
        return self._call(self._stub.UpsertItems, _upsert(items), timeout)

    def delete_items(
        self, item_ids: Iterable[str], *, timeout: float | None = None
    ) -> pb.DeleteItemsResponse:
        """Removes items, all of them or, on error, none; unknown ones are named in the answer.

        Args:
            item_ids: from 1 to 1,000.
            timeout: seconds that the call may take, instead of the client's.

        Raises:
            Error: the call failed; see `tandem.errors`.
        """
        request = pb.DeleteItemsRequest(item_ids=item_ids)
        return self._call(self._stub.DeleteItems, request, timeout)

    def get_items(
        self, item_ids: Iterable[str], *, timeout: float | None = None
    ) -> pb.GetItemsResponse:
        """Looks items up; unknown ones are named in the answer.

        Args:
            item_ids: from 1 to 1,000.
            timeout: seconds that the call may take, instead of the client's.

        Raises:
            Error: the call failed; see `tandem.errors`.
        """
        request = pb.GetItemsRequest(item_ids=item_ids)
        return self._call(self._stub.GetItems, request, timeout)

    def list_items(
        self, *, page_size: int = 0, timeout: float | None = None
    ) -> Iterator[ItemMessage]:
        """Yields the whole catalog, in the order of identifiers, page by page.

        Args:
            page_size: items per call; 0 is the server's default, 100.
            timeout: seconds that each call may take, instead of the client's.

        Raises:
            Error: a call failed; see `tandem.errors`.
        """
        request = pb.ListItemsRequest(page_size=page_size)
        while True:
            page = self._call(self._stub.ListItems, request, timeout)
            yield from page.items
            request.page_token = page.next_page_token
            if not request.page_token:
                return


class AsyncCatalogClient(AsyncCalls):
    """Changes and reads a catalog from async code, as `CatalogClient` does from sync code."""

    def __init__(
        self,
        target: str = DEFAULT_CATALOG_TARGET,
        *,
        timeout: float = DEFAULT_CATALOG_TIMEOUT,
        credentials: grpc.ChannelCredentials | None = None,
        key: Secret | None = None,
    ) -> None:
        super().__init__(target, _OPTIONS, timeout, credentials, key)
        self._stub: pb_grpc.CatalogServiceAsyncStub = pb_grpc.CatalogServiceStub(self._keyed)

    async def upsert_items(
        self,
        items: Iterable[Item],
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - it is sent with the call
    ) -> pb.UpsertItemsResponse:
        """Adds or replaces items, as `CatalogClient.upsert_items` does."""
        return await self._call(self._stub.UpsertItems, _upsert(items), timeout)

    async def delete_items(
        self,
        item_ids: Iterable[str],
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - it is sent with the call
    ) -> pb.DeleteItemsResponse:
        """Removes items, as `CatalogClient.delete_items` does."""
        request = pb.DeleteItemsRequest(item_ids=item_ids)
        return await self._call(self._stub.DeleteItems, request, timeout)

    async def get_items(
        self,
        item_ids: Iterable[str],
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - it is sent with the call
    ) -> pb.GetItemsResponse:
        """Looks items up, as `CatalogClient.get_items` does."""
        request = pb.GetItemsRequest(item_ids=item_ids)
        return await self._call(self._stub.GetItems, request, timeout)

    async def list_items(
        self,
        *,
        page_size: int = 0,
        timeout: float | None = None,  # noqa: ASYNC109 - it is sent with the calls
    ) -> AsyncIterator[ItemMessage]:
        """Yields the whole catalog, as `CatalogClient.list_items` does."""
        request = pb.ListItemsRequest(page_size=page_size)
        while True:
            page = await self._call(self._stub.ListItems, request, timeout)
            for item in page.items:
                yield item
            request.page_token = page.next_page_token
            if not request.page_token:
                return


def _upsert(items: Iterable[Item]) -> pb.UpsertItemsRequest:
    return pb.UpsertItemsRequest(items=map(_new_item, items))


def _new_item(item: Item) -> pb.NewItem:
    return pb.NewItem(
        item_id=item.item_id,
        title=item.title,
        text=item.text,
        attributes={name: _values(given) for name, given in item.attributes.items()},
        vector=None if item.vector is None else Vector(values=item.vector),
    )


def _values(given: Value | Sequence[Value]) -> AttributeValues:
    values = [given] if isinstance(given, str | int | float) else given
    return AttributeValues(values=map(_value, values))


def _value(value: Value) -> AttributeValue:
    if isinstance(value, str):
        return AttributeValue(text=value)
    return AttributeValue(number=value)
