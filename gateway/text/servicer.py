"""The methods of RecommendationService that write text."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Final

from core.errors import DeadlineExceeded, InvalidArgument, NotFound
from gateway.admission import Admission
from gateway.calls.clients import GeneratorClient
from gateway.deadline import Deadline
from gateway.history import HistoryStore
from serving import validation as edge
from tandem.v1 import generator_service_pb2 as generator_pb
from tandem.v1 import recommendation_service_pb2_grpc as pb_grpc

HISTORY_SHARE: Final = 0.25
"""Of the caller's time, for the history store."""


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
        user.history_item_ids.extend(await self._stored(user.user_id, deadline))

    async def _stored(self, user_id: str, deadline: Deadline) -> tuple[str, ...]:
        try:
            async with asyncio.timeout(deadline.share(HISTORY_SHARE).remaining()):
                history = await self.histories.history(user_id)
        except TimeoutError as error:
            raise DeadlineExceeded(
                "the history store did not answer within the caller's deadline",
                reason="DEADLINE_EXCEEDED",
                service="history",
            ) from error
        if history is None:
            raise NotFound(
                f"user {user_id!r} has no stored history; send history_item_ids with it",
                reason="UNKNOWN_USER",
                user_id=user_id,
            )
        return history
