"""Looking items up through the gateway, and how both clients make a unary call."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar

import grpc

from tandem.channel import metadata
from tandem.errors import from_rpc
from tandem.v1 import catalog_service_pb2 as catalog_pb

if TYPE_CHECKING:
    from tandem.v1 import recommendation_service_pb2_grpc as pb_grpc

Q = TypeVar("Q")
R = TypeVar("R")


class ItemCalls:
    """The items' methods of `Client`."""

    _stub: "pb_grpc.RecommendationServiceStub"
    _timeout: float

    def get_items(
        self,
        item_ids: Iterable[str],
        *,
        timeout: float | None = None,
        request_id: str | None = None,
    ) -> catalog_pb.GetItemsResponse:
        """Looks items up in the catalog as it is now; unknown ones are named in the answer.

        Args:
            item_ids: from 1 to 1,000.
            timeout: seconds that the call may take, instead of the client's.
            request_id: identifies the call in all logs; the server makes one when it is None.

        Raises:
            Error: the call failed; see `tandem.errors`.
        """
        request = catalog_pb.GetItemsRequest(item_ids=item_ids)
        return self._call(self._stub.GetItems, request, timeout, request_id)

    def _call(
        self,
        method: "grpc.UnaryUnaryMultiCallable[Q, R]",
        request: Q,
        timeout: float | None,
        request_id: str | None,
    ) -> R:
        try:
            return method(
                request,
                timeout=self._timeout if timeout is None else timeout,
                metadata=metadata(request_id),
            )
        except grpc.RpcError as error:
            raise from_rpc(error) from None


class AsyncItemCalls:
    """The items' methods of `AsyncClient`."""

    _stub: "pb_grpc.RecommendationServiceAsyncStub"
    _timeout: float

    async def get_items(
        self,
        item_ids: Iterable[str],
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - it is sent with the call
        request_id: str | None = None,
    ) -> catalog_pb.GetItemsResponse:
        """Looks items up, as `Client.get_items` does."""
        request = catalog_pb.GetItemsRequest(item_ids=item_ids)
        return await self._call(self._stub.GetItems, request, timeout, request_id)

    async def _call(
        self,
        method: "grpc.aio.UnaryUnaryMultiCallable[Q, R]",
        request: Q,
        timeout: float | None,  # noqa: ASYNC109 - it is sent with the call
        request_id: str | None,
    ) -> R:
        try:
            return await method(
                request,
                timeout=self._timeout if timeout is None else timeout,
                metadata=metadata(request_id),
            )
        except grpc.RpcError as error:
            raise from_rpc(error) from None
