"""The methods of RecommendationService that write text."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from core.errors import InvalidArgument
from gateway.admission import Admission
from gateway.calls.clients import GeneratorClient
from gateway.deadline import Deadline
from gateway.history import HistoryStore
from gateway.history.lookup import HISTORY_SHARE, stored_history, unknown_user
from serving import validation as edge
from tandem.v1 import generator_service_pb2 as generator_pb
from tandem.v1 import recommendation_service_pb2_grpc as pb_grpc


class TextMethods(pb_grpc.RecommendationServiceServicer):
    """Explains items and summarizes texts: the generator's `Explain` and `Summarize`, behind the
    gateway, which knows users' histories. One stream takes one turn, from beginning to end."""

    histories: HistoryStore
    _generator: GeneratorClient
    _requests: Admission
    """The turns of calls."""

    def _deadline(self, context: Any) -> Deadline:
        """Of a call."""
        raise NotImplementedError

    async def Explain(
        self, request: generator_pb.ExplainRequest, context: Any
    ) -> AsyncIterator[generator_pb.ExplainResponse]:
        """Writes why a user would like an item."""
        request.ClearField("bundle")  # the generator has one, and knows no name
        deadline = self._deadline(context)
        async with self._requests.call():
            await self._complete(request.context, deadline)
            async with aclosing(self._generator.explain(request, deadline)) as messages:
                async for message in messages:
                    yield message

    async def Summarize(
        self, request: generator_pb.SummarizeRequest, context: Any
    ) -> AsyncIterator[generator_pb.SummarizeResponse]:
        """Writes a short summary of a text."""
        request.ClearField("bundle")
        deadline = self._deadline(context)
        async with (
            self._requests.call(),
            aclosing(self._generator.summarize(request, deadline)) as messages,
        ):
            async for message in messages:
                yield message

    async def _complete(self, user: generator_pb.UserContext, deadline: Deadline) -> None:
        """Looks the history up where the request has none.

        Raises:
            InvalidArgument: reason MISSING_USER: nobody is named, and no history is given.
            NotFound: reason UNKNOWN_USER.
            DeadlineExceeded: the store did not answer in time.
        """
        if user.history_item_ids:
            return
        if not user.user_id:
            raise InvalidArgument(
                "give context.user_id, context.history_item_ids, or both: there is nobody to "
                "explain it to",
                reason="MISSING_USER",
            )
        edge.identifier(user.user_id, field="user_id")
        share = deadline.share(HISTORY_SHARE)
        history = await stored_history(self.histories, user.user_id, share)
        if history is None:
            raise unknown_user(user.user_id)
        user.history_item_ids.extend(history)
