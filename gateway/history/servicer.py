"""The methods of RecommendationService that are about histories."""

from collections.abc import AsyncIterator
from typing import Any

from core.errors import NotFound
from gateway.attribution.counts import Attribution
from gateway.history import requests
from gateway.history.paging import read_all, read_page
from gateway.history.store import HistoryStore
from tandem.v1 import recommendation_service_pb2 as pb
from tandem.v1 import recommendation_service_pb2_grpc as pb_grpc


class HistoryMethods(pb_grpc.RecommendationServiceServicer):
    """Records events, shows histories, and exports, merges and deletes users.

    Args:
        histories: the store.
        rules: what is made of events.
        attribution: is told of what is recorded.
        bundle_version: named in every response.
    """

    def __init__(
        self,
        histories: HistoryStore,
        rules: requests.EventRules,
        attribution: Attribution,
        bundle_version: str,
    ) -> None:
        self.histories = histories
        self.attribution = attribution
        self._rules = rules
        self._bundle_version = bundle_version

    @property
    def rules(self) -> requests.EventRules:
        """What is made of events; one with that of all bundles that keep them in the same store."""
        return self._rules

    async def RecordEvents(
        self, request: pb.RecordEventsRequest, _context: Any
    ) -> pb.RecordEventsResponse:
        """Records what users interacted with."""
        events, unattributed = requests.read_events(request, self._rules)
        recorded = await self.histories.record(events)
        self.attribution.record(recorded.added)
        return requests.write_recorded(recorded, unattributed, self._bundle_version)

    async def GetHistory(
        self, request: pb.GetHistoryRequest, _context: Any
    ) -> pb.GetHistoryResponse:
        """Reads a page of a user's history."""
        query = requests.read_page(request)
        page = await read_page(self.histories, query)
        if not page.events and query.after is None:
            raise _unknown(query.user_id)
        return requests.write_page(page, self._bundle_version)

    async def DeleteUser(
        self, request: pb.DeleteUserRequest, _context: Any
    ) -> pb.DeleteUserResponse:
        """Deletes all that is stored about a user."""
        deleted = await self.histories.delete(requests.read_user(request.user_id))
        return pb.DeleteUserResponse(deleted_events=deleted, bundle_version=self._bundle_version)

    async def ExportUser(
        self, request: pb.ExportUserRequest, _context: Any
    ) -> AsyncIterator[pb.ExportUserResponse]:
        """Reads all that is stored about a user."""
        user_id = requests.read_user(request.user_id)
        events = await read_all(self.histories, user_id)
        if not events:
            raise _unknown(user_id)
        for start in range(0, len(events), requests.MAX_PAGE):
            yield pb.ExportUserResponse(
                events=map(requests.write_stored, events[start : start + requests.MAX_PAGE]),
                bundle_version=self._bundle_version,
            )

    async def MergeUsers(
        self, request: pb.MergeUsersRequest, _context: Any
    ) -> pb.MergeUsersResponse:
        """Makes one user's events another's."""
        merged = await self.histories.merge(*requests.read_merge(request))
        return pb.MergeUsersResponse(
            merged_events=merged.new,
            known_events=merged.known,
            outdated_events=merged.outdated,
            bundle_version=self._bundle_version,
        )


def _unknown(user_id: str) -> NotFound:
    return NotFound(
        f"user {user_id!r} has no stored history", reason="UNKNOWN_USER", user_id=user_id
    )
