"""Looking items up through the gateway."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tandem.calls import AsyncCalls, Calls
from tandem.v1 import catalog_service_pb2 as catalog_pb

if TYPE_CHECKING:
    from tandem.v1 import recommendation_service_pb2_grpc as pb_grpc


class ItemCalls(Calls):
    """The items' methods of `Client`."""

    _stub: "pb_grpc.RecommendationServiceStub"
    _bundle: str

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
        request = catalog_pb.GetItemsRequest(item_ids=item_ids, bundle=self._bundle)
        return self._call(self._stub.GetItems, request, timeout, request_id)


class AsyncItemCalls(AsyncCalls):
    """The items' methods of `AsyncClient`."""

    _stub: "pb_grpc.RecommendationServiceAsyncStub"
    _bundle: str

    async def get_items(
        self,
        item_ids: Iterable[str],
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - it is sent with the call
        request_id: str | None = None,
    ) -> catalog_pb.GetItemsResponse:
        """Looks items up, as `Client.get_items` does."""
        request = catalog_pb.GetItemsRequest(item_ids=item_ids, bundle=self._bundle)
        return await self._call(self._stub.GetItems, request, timeout, request_id)
