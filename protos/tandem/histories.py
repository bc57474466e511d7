"""Recording what users do, reading it back, and deleting it: what both clients have for that."""

import uuid
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import aclosing, closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from tandem.calls import AsyncCalls, Calls
from tandem.v1 import recommendation_service_pb2 as pb

if TYPE_CHECKING:
    from tandem.v1 import recommendation_service_pb2_grpc as pb_grpc

DELETE_TIMEOUT: Final = 60.0
"""Seconds that a deletion may take: the server may write its file anew for it."""


def event(
    user_id: str,
    item_id: str,
    *,
    event_id: str | None = None,
    event_time: datetime | None = None,
    type: str = "",  # noqa: A002 - the field's name
    value: float | None = None,
    position: int = 0,
    recommendation_id: str = "",
) -> pb.Event:
    """Describes what a user did with an item, for `record_events`.

    Args:
        user_id: the user.
        item_id: the item.
        event_id: recording another event of the user under it changes nothing. Without one it is
            made up: keep the event, and send the same again when an attempt fails.
        event_time: when it happened, with its time zone; the server's time when it is None.
        type: what the user did, such as `impression`, `click`, `purchase` or `rating`.
        value: such as a price or a rating.
        position: where the user saw the item, from 1; 0 for its place in the answer.
        recommendation_id: of the answer that showed the item.

    Raises:
        ValueError: the time has no time zone.
    """
    made = pb.Event(
        event_id=event_id or uuid.uuid4().hex,
        user_id=user_id,
        item_id=item_id,
        type=type,
        value=value,
        position=position,
        recommendation_id=recommendation_id,
    )
    if event_time is not None:
        if event_time.tzinfo is None:
            raise ValueError("the time of an event needs a time zone, such as datetime.UTC")
        made.event_time.FromDatetime(event_time.astimezone(UTC))
    return made


class HistoryCalls(Calls):
    """The history's methods of `Client`."""

    _stub: "pb_grpc.RecommendationServiceStub"
    _bundle: str

    def record_events(
        self,
        events: Iterable[pb.Event],
        *,
        timeout: float | None = None,
        request_id: str | None = None,
    ) -> pb.RecordEventsResponse:
        """Records what users interacted with, so that `recommend` knows their histories.

        It may be called with the same events until it succeeds: each is recorded once.

        Args:
            events: 1 to 1,000, made by `tandem.event`.
            timeout: seconds that the call may take, instead of the client's.
            request_id: identifies the call in all logs; the server makes one when it is None.

        Raises:
            Error: the call failed; see `tandem.errors`. Of a `ResourceExhausted`, `retry_after`
                says when to try again.
        """
        request = pb.RecordEventsRequest(events=events, bundle=self._bundle)
        return self._call(self._stub.RecordEvents, request, timeout, request_id)

    def get_history(
        self,
        user_id: str,
        *,
        page_size: int = 0,
        page_token: str = "",
        timeout: float | None = None,
        request_id: str | None = None,
    ) -> pb.GetHistoryResponse:
        """Reads a page of a user's events, newest first.

        Args:
            user_id: the user.
            page_size: how many events; 0 is the server's default, 100.
            page_token: the `next_page_token` of the page before; without it, the newest events.
            timeout: seconds that the call may take, instead of the client's.
            request_id: identifies the call in all logs; the server makes one when it is None.

        Raises:
            NotFound: nothing is stored of the user.
            Error: the call failed; see `tandem.errors`.
        """
        request = pb.GetHistoryRequest(
            user_id=user_id, page_size=page_size, page_token=page_token, bundle=self._bundle
        )
        return self._call(self._stub.GetHistory, request, timeout, request_id)

    def export_user(
        self,
        user_id: str,
        *,
        timeout: float = DELETE_TIMEOUT,
        request_id: str | None = None,
    ) -> Iterator[pb.StoredEvent]:
        """Reads all that is stored about a user: the history, then the events beside it.

        Args:
            user_id: the user.
            timeout: seconds that all of it may take.
            request_id: identifies the call in all logs; the server makes one when it is None.

        Raises:
            NotFound: nothing is stored of the user.
            Error: the call failed; see `tandem.errors`.
        """
        request = pb.ExportUserRequest(user_id=user_id, bundle=self._bundle)
        with closing(
            self._stream(self._stub.ExportUser, request, timeout, request_id)
        ) as responses:
            for response in responses:
                yield from response.events

    def merge_users(
        self,
        source_user_id: str,
        user_id: str,
        *,
        timeout: float = DELETE_TIMEOUT,
        request_id: str | None = None,
    ) -> pb.MergeUsersResponse:
        """Makes the events of one user those of another, and deletes the first.

        Args:
            source_user_id: whose events they are, such as somebody's who was anonymous.
            user_id: who gets them.
            timeout: seconds that the call may take.
            request_id: identifies the call in all logs; the server makes one when it is None.

        Raises:
            Error: the call failed, see `tandem.errors`; call it again.
        """
        request = pb.MergeUsersRequest(
            source_user_id=source_user_id, user_id=user_id, bundle=self._bundle
        )
        return self._call(self._stub.MergeUsers, request, timeout, request_id)

    def delete_user(
        self,
        user_id: str,
        *,
        timeout: float = DELETE_TIMEOUT,
        request_id: str | None = None,
    ) -> pb.DeleteUserResponse:
        """Deletes all that is stored about a user. When it returns, nothing is left.

        Args:
            user_id: the user, who may be unknown.
            timeout: seconds that the call may take.
            request_id: identifies the call in all logs; the server makes one when it is None.

        Raises:
            Error: the call failed, see `tandem.errors`; call it again.
        """
        request = pb.DeleteUserRequest(user_id=user_id, bundle=self._bundle)
        return self._call(self._stub.DeleteUser, request, timeout, request_id)


class AsyncHistoryCalls(AsyncCalls):
    """The history's methods of `AsyncClient`."""

    _stub: "pb_grpc.RecommendationServiceAsyncStub"
    _bundle: str

    async def record_events(
        self,
        events: Iterable[pb.Event],
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - it is sent with the call
        request_id: str | None = None,
    ) -> pb.RecordEventsResponse:
        """Records what users interacted with, as `Client.record_events` does."""
        request = pb.RecordEventsRequest(events=events, bundle=self._bundle)
        return await self._call(self._stub.RecordEvents, request, timeout, request_id)

    async def get_history(
        self,
        user_id: str,
        *,
        page_size: int = 0,
        page_token: str = "",
        timeout: float | None = None,  # noqa: ASYNC109 - it is sent with the call
        request_id: str | None = None,
    ) -> pb.GetHistoryResponse:
        """Reads a page of a user's events, as `Client.get_history` does."""
        request = pb.GetHistoryRequest(
            user_id=user_id, page_size=page_size, page_token=page_token, bundle=self._bundle
        )
        return await self._call(self._stub.GetHistory, request, timeout, request_id)

    async def export_user(
        self,
        user_id: str,
        *,
        timeout: float = DELETE_TIMEOUT,  # noqa: ASYNC109 - it is sent with the call
        request_id: str | None = None,
    ) -> AsyncGenerator[pb.StoredEvent, None]:
        """Reads all that is stored about a user, as `Client.export_user` does."""
        request = pb.ExportUserRequest(user_id=user_id, bundle=self._bundle)
        async with aclosing(
            self._stream(self._stub.ExportUser, request, timeout, request_id)
        ) as responses:
            async for response in responses:
                for each in response.events:
                    yield each

    async def merge_users(
        self,
        source_user_id: str,
        user_id: str,
        *,
        timeout: float = DELETE_TIMEOUT,  # noqa: ASYNC109 - it is sent with the call
        request_id: str | None = None,
    ) -> pb.MergeUsersResponse:
        """Makes the events of one user those of another, as `Client.merge_users` does."""
        request = pb.MergeUsersRequest(
            source_user_id=source_user_id, user_id=user_id, bundle=self._bundle
        )
        return await self._call(self._stub.MergeUsers, request, timeout, request_id)

    async def delete_user(
        self,
        user_id: str,
        *,
        timeout: float = DELETE_TIMEOUT,  # noqa: ASYNC109 - it is sent with the call
        request_id: str | None = None,
    ) -> pb.DeleteUserResponse:
        """Deletes all that is stored about a user, as `Client.delete_user` does."""
        request = pb.DeleteUserRequest(user_id=user_id, bundle=self._bundle)
        return await self._call(self._stub.DeleteUser, request, timeout, request_id)
