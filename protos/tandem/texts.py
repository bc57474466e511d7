"""Texts that a model writes, as they come: what both clients have for them."""

from collections.abc import AsyncGenerator, Iterable, Iterator
from typing import TYPE_CHECKING, Final, TypedDict, Unpack

from tandem.calls import AsyncCalls, Calls
from tandem.v1.generator_service_pb2 import (
    ExplainRequest,
    ExplainResponse,
    SummarizeRequest,
    SummarizeResponse,
    TextOptions,
    UserContext,
)

if TYPE_CHECKING:
    from tandem.v1 import recommendation_service_pb2_grpc as pb_grpc

TEXT_TIMEOUT: Final = 10.0
"""Seconds that a text may take; one that is longer ends there, and says so."""


class TextArguments(TypedDict, total=False):
    """How a text is written; `Client.explain` says what each means."""

    max_tokens: int
    top_p: float | None
    seed: int | None


class ExplainArguments(TextArguments, total=False):
    """What `explain` takes beside the user and the item."""

    history: Iterable[str]
    feature: str


class TextCalls(Calls):
    """What the sync client has written."""

    _stub: "pb_grpc.RecommendationServiceStub"
    _bundle: str

    def explain(
        self,
        user_id: str,
        item_id: str,
        *,
        timeout: float = TEXT_TIMEOUT,
        request_id: str | None = None,
        **arguments: Unpack[ExplainArguments],
    ) -> Iterator[ExplainResponse]:
        """Yields why a user would like an item, some words at a time, and then how it ended.

        A model makes it up in the words of reviews: it is no account of how the item came to be
        recommended. Each message has a `delta`; the last one has an `end` instead.

        Args:
            user_id: the user; its stored history is used unless `history` is given. May be empty
                where it is.
            item_id: the item.
            history: items that the user interacted with, oldest first.
            feature: a word that the text is to be about.
            max_tokens: after so many it ends; 0 for as many as the model writes.
            top_p: draws each token among the likeliest that have this share of the probability;
                None takes the likeliest.
            seed: equal ones draw equal texts; None draws another text each time.
            timeout: seconds that the text may take.
            request_id: identifies the call in all logs; the server makes one when it is None.

        Raises:
            FailedPrecondition: the bundle's model writes no text.
            Error: the call failed; see `tandem.errors`.
        """
        request = explain_request(user_id, item_id, bundle=self._bundle, **arguments)
        return self._stream(self._stub.Explain, request, timeout, request_id)

    def summarize(
        self,
        text: str,
        *,
        timeout: float = TEXT_TIMEOUT,
        request_id: str | None = None,
        **arguments: Unpack[TextArguments],
    ) -> Iterator[SummarizeResponse]:
        """Yields a short summary of a text, such as a review, as `explain` yields its words.

        Args:
            text: to summarize.
            max_tokens: as for `explain`.
            top_p: as for `explain`.
            seed: as for `explain`.
            timeout: seconds that the summary may take.
            request_id: identifies the call in all logs; the server makes one when it is None.

        Raises:
            FailedPrecondition: the bundle's model writes no text.
            Error: the call failed; see `tandem.errors`.
        """
        options = TextOptions(**arguments)
        request = SummarizeRequest(text=text, options=options, bundle=self._bundle)
        return self._stream(self._stub.Summarize, request, timeout, request_id)


class AsyncTextCalls(AsyncCalls):
    """`TextCalls` for asyncio."""

    _stub: "pb_grpc.RecommendationServiceAsyncStub"
    _bundle: str

    def explain(
        self,
        user_id: str,
        item_id: str,
        *,
        timeout: float = TEXT_TIMEOUT,
        request_id: str | None = None,
        **arguments: Unpack[ExplainArguments],
    ) -> AsyncGenerator[ExplainResponse, None]:
        """Yields why a user would like an item, as `Client.explain` does."""
        request = explain_request(user_id, item_id, bundle=self._bundle, **arguments)
        return self._stream(self._stub.Explain, request, timeout, request_id)

    def summarize(
        self,
        text: str,
        *,
        timeout: float = TEXT_TIMEOUT,
        request_id: str | None = None,
        **arguments: Unpack[TextArguments],
    ) -> AsyncGenerator[SummarizeResponse, None]:
        """Yields a short summary of a text, as `Client.summarize` does."""
        options = TextOptions(**arguments)
        request = SummarizeRequest(text=text, options=options, bundle=self._bundle)
        return self._stream(self._stub.Summarize, request, timeout, request_id)


def explain_request(
    user_id: str,
    item_id: str,
    *,
    history: Iterable[str] = (),
    feature: str = "",
    bundle: str = "",
    **options: Unpack[TextArguments],
) -> ExplainRequest:
    """Writes what the `explain` of both clients asks for."""
    return ExplainRequest(
        context=UserContext(user_id=user_id, history_item_ids=history),
        item_id=item_id,
        feature=feature,
        options=TextOptions(**options),
        bundle=bundle,
    )
