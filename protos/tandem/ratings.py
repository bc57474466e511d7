"""Predicted ratings: what both clients have for them."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from tandem.calls import AsyncCalls, Calls
from tandem.requests import ratings_request
from tandem.v1.generator_service_pb2 import PredictRatingsResponse

if TYPE_CHECKING:
    from tandem.v1 import recommendation_service_pb2_grpc as pb_grpc


class RatingCalls(Calls):
    """The method of `Client` that rates."""

    _stub: "pb_grpc.RecommendationServiceStub"
    _bundle: str

    def predict_ratings(
        self,
        user_id: str,
        items: Iterable[str],
        *,
        rated: Mapping[str, float] | None = None,
        timeout: float | None = None,
        request_id: str | None = None,
    ) -> PredictRatingsResponse:
        """Predicts how a user rates items, where the bundle's model has learned it.

        Args:
            user_id: the user, of whom the bundle knows ratings; of one of whom nothing is known,
                the answer is what is expected of anybody.
            items: from 1 to 100.
            rated: what the user has rated, oldest first, instead of what the bundle has.
            timeout: seconds that the call may take, instead of the client's.
            request_id: identifies the call in all logs; the server makes one when it is None.

        Raises:
            Error: the call failed, with the reason RATINGS_NOT_LEARNED for a bundle without
                ratings; see `tandem.errors`.
        """
        request = ratings_request(user_id, items, rated=rated, bundle=self._bundle)
        return self._call(self._stub.PredictRatings, request, timeout, request_id)


class AsyncRatingCalls(AsyncCalls):
    """The method of `AsyncClient` that rates."""

    _stub: "pb_grpc.RecommendationServiceAsyncStub"
    _bundle: str

    async def predict_ratings(
        self,
        user_id: str,
        items: Iterable[str],
        *,
        rated: Mapping[str, float] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - it is sent with the call
        request_id: str | None = None,
    ) -> PredictRatingsResponse:
        """Predicts how a user rates items, as `Client.predict_ratings` does."""
        request = ratings_request(user_id, items, rated=rated, bundle=self._bundle)
        return await self._call(self._stub.PredictRatings, request, timeout, request_id)
