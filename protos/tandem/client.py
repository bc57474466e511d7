"""The client of the gateway, for sync and for async programs.

Answers are the contract's own messages (`tandem.v1`): they are typed and documented there, and
what a newer server adds is not lost on the way. Failures are `tandem.Error`.
"""

from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final, Unpack

import grpc

from tandem.channel import Secret, channel_options
from tandem.histories import AsyncHistoryCalls, HistoryCalls
from tandem.items import AsyncItemCalls, ItemCalls
from tandem.ratings import AsyncRatingCalls, RatingCalls
from tandem.requests import (
    RecommendArguments,
    RowArguments,
    RowsArguments,
    SimilarArguments,
    recommend_request,
    rows_request,
    similar_request,
)
from tandem.texts import AsyncTextCalls, TextCalls
from tandem.v1 import recommendation_service_pb2 as pb
from tandem.v1 import recommendation_service_pb2_grpc as pb_grpc

DEFAULT_TARGET: Final = "127.0.0.1:50050"
DEFAULT_TIMEOUT: Final = 2.0

_OPTIONS: Final = channel_options(["tandem.v1.RecommendationService"])


class Client(HistoryCalls, ItemCalls, RatingCalls, TextCalls):
    """Calls a gateway from sync code; safe to share between threads.

        with tandem.Client("gateway:50050") as client:
            for item in client.recommend("196", max_results=5).recommendations:
                print(item.item_id, item.score)

    Args:
        target: the gateway's address; `host:port`, or any gRPC name such as `dns:///gateway:50050`.
        timeout: seconds that a call may take unless it says otherwise.
        credentials: of a TLS connection, such as `tandem.tls_credentials` makes; without them the
            connection is plain.
        key: a key or a token to show at each call, or what is asked for it; see `tandem.key_file`.
        bundle: which of the gateway's bundles all calls are for, by its name, where the gateway has
            several; requests of `batch_recommend` name theirs.
    """

    def __init__(
        self,
        target: str = DEFAULT_TARGET,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        credentials: grpc.ChannelCredentials | None = None,
        key: Secret | None = None,
        bundle: str = "",
    ) -> None:
        super().__init__(target, _OPTIONS, timeout, credentials, key)
        self._bundle = bundle
        self._stub = pb_grpc.RecommendationServiceStub(self._keyed)

    def recommend(
        self,
        user_id: str = "",
        *,
        timeout: float | None = None,
        request_id: str | None = None,
        **arguments: Unpack[RecommendArguments],
    ) -> pb.RecommendResponse:
        """Recommends items to a user.

        Args:
            user_id: the user; its stored history is used unless `history` is given.
            history: items that the user interacted with, oldest first.
            max_results: how many items; 0 is the server's default, 10.
            strategy: how they are made; None is the server's default.
            exclude: items to leave out.
            filter: a condition of `tandem.filters` that every item satisfies.
            only: the items that may come back; all where it is empty.
            include_seen: whether items of the history may come back.
            pin: items to show whatever their scores, and the position of each, from 1; 0 is the
                first that is free.
            caps: for attributes, how many items may have the same value.
            diversity: from 0, the best items, to 1, items as unlike each other as possible; None
                is the server's default, 0.
            boosts: conditions, and how much higher, up to 1, or lower, down to -1, an item stands
                that satisfies one.
            item_fields: what the answer says of each item: `title`, `attributes`.
            page_size: how many items of the list to return; 0 is all. The list then has 100 unless
                `max_results` says otherwise.
            page_token: the `next_page_token` of the page before.
            forbid_degraded: whether to fail rather than to answer with less.
            diagnostics: whether the answer says where its items come from, for people who debug.
            serving_config: the name of a configuration that the gateway was given: it holds where
                the arguments say nothing.
            variant: the variant of an experiment that answers; by default the user's.
            exact: whether to search on until a generated list is proved: `proof` of the answer.
            timeout: seconds that the call may take, instead of the client's.
            request_id: identifies the call in all logs; the server makes one when it is None.

        Raises:
            Error: the call failed; see `tandem.errors`.
        """
        request = recommend_request(user_id, bundle=self._bundle, **arguments)
        return self._call(self._stub.Recommend, request, timeout, request_id)

    def recommend_rows(
        self,
        user_id: str = "",
        rows: Mapping[str, RowArguments] = MappingProxyType({}),
        *,
        timeout: float | None = None,
        request_id: str | None = None,
        **arguments: Unpack[RowsArguments],
    ) -> pb.RecommendRowsResponse:
        """Recommends several lists to a user, such as the rows of a home page.

            drama, new = filters.equals("genre", "Drama"), filters.between("year", low=1997)
            client.recommend_rows("196", {"Drama": {"filter": drama}, "New": {"filter": new}})

        Args:
            user_id: the user; its stored history is used unless `history` is given.
            rows: by its name, what each row may hold: `exclude`, `filter`, `only`, `include_seen`
                and `max_results`, as in `recommend`.
            history: items that the user interacted with, oldest first.
            allow_repeats: whether an item may be in several rows.
            strategy: how they are made, as in `recommend`; "generate" makes all in one call.
            item_fields: what the answer says of each item: `title`, `attributes`.
            forbid_degraded: whether to fail rather than to answer with less.
            serving_config: as in `recommend`.
            variant: as in `recommend`.
            exact: as in `recommend`.
            timeout: seconds that the call may take, instead of the client's.
            request_id: identifies the call in all logs; the server makes one when it is None.

        Raises:
            Error: the call failed; see `tandem.errors`.
        """
        request = rows_request(user_id, rows, bundle=self._bundle, **arguments)
        return self._call(self._stub.RecommendRows, request, timeout, request_id)

    def similar_items(
        self,
        items: Iterable[str] = (),
        *,
        timeout: float | None = None,
        request_id: str | None = None,
        **arguments: Unpack[SimilarArguments],
    ) -> pb.SimilarItemsResponse:
        """Finds the items most similar to items, to a text, or to a vector: exactly one of them.

        Args:
            items: items to be similar to.
            text: a free text, in the words of the catalog's item texts.
            vector: as many numbers as the space has dimensions.
            space: what to compare: what an item is (`content`, the default) or how it is used
                (`behavior`).
            min_score: the cosine similarity that every item reaches; there may be fewer then.
            diversity: from 0, the most similar items, to 1: how much less an item counts for being
                like one that is listed before it.
            item_fields: what the answer says of each item: `title`, `attributes`.
            max_results: how many items; 0 is the server's default, 10.
            exclude: more items to leave out.
            filter: a condition of `tandem.filters` that every item satisfies.
            only: the items that may come back; all where it is empty.
            include_seen: whether `items` may come back themselves.
            timeout: seconds that the call may take, instead of the client's.
            request_id: identifies the call in all logs; the server makes one when it is None.

        Raises:
            ValueError: not exactly one of `items`, `text` and `vector` is given.
            Error: the call failed; see `tandem.errors`.
        """
        request = similar_request(items, bundle=self._bundle, **arguments)
        return self._call(self._stub.SimilarItems, request, timeout, request_id)

    def batch_recommend(
        self,
        requests: Iterable[pb.BatchRecommendRequest],
        *,
        timeout: float | None = None,
        request_id: str | None = None,
    ) -> Iterator[pb.BatchRecommendResponse]:
        """Streams requests, and yields their answers in the order in which they are ready.

        What fails for one request is its answer's `error`, which `tandem.errors.from_status` reads.
        The server takes requests no faster than it answers them and than answers are taken here;
        another thread iterates `requests`.

        Args:
            requests: each with an `id`, by which its answer is known.
            timeout: seconds that the whole stream may take; None for no limit.
            request_id: identifies the stream in all logs.

        Raises:
            Error: the stream broke; what has no answer yet can be sent again.
        """
        return self._stream(self._stub.BatchRecommend, iter(requests), timeout, request_id)


class AsyncClient(AsyncHistoryCalls, AsyncItemCalls, AsyncRatingCalls, AsyncTextCalls):
    """`Client` for asyncio: the same methods, awaited. It belongs to the loop that makes it."""

    def __init__(
        self,
        target: str = DEFAULT_TARGET,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        credentials: grpc.ChannelCredentials | None = None,
        key: Secret | None = None,
        bundle: str = "",
    ) -> None:
        super().__init__(target, _OPTIONS, timeout, credentials, key)
        self._bundle = bundle
        self._stub = pb_grpc.RecommendationServiceStub(self._keyed)

    async def recommend(
        self,
        user_id: str = "",
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - it is sent with the call
        request_id: str | None = None,
        **arguments: Unpack[RecommendArguments],
    ) -> pb.RecommendResponse:
        """Recommends items to a user, as `Client.recommend` does."""
        request = recommend_request(user_id, bundle=self._bundle, **arguments)
        return await self._call(self._stub.Recommend, request, timeout, request_id)

    async def recommend_rows(
        self,
        user_id: str = "",
        rows: Mapping[str, RowArguments] = MappingProxyType({}),
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - it is sent with the call
        request_id: str | None = None,
        **arguments: Unpack[RowsArguments],
    ) -> pb.RecommendRowsResponse:
        """Recommends several lists to a user, as `Client.recommend_rows` does."""
        request = rows_request(user_id, rows, bundle=self._bundle, **arguments)
        return await self._call(self._stub.RecommendRows, request, timeout, request_id)

    async def similar_items(
        self,
        items: Iterable[str] = (),
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - it is sent with the call
        request_id: str | None = None,
        **arguments: Unpack[SimilarArguments],
    ) -> pb.SimilarItemsResponse:
        """Finds similar items, as `Client.similar_items` does."""
        request = similar_request(items, bundle=self._bundle, **arguments)
        return await self._call(self._stub.SimilarItems, request, timeout, request_id)

    def batch_recommend(
        self,
        requests: Iterable[pb.BatchRecommendRequest] | AsyncIterable[pb.BatchRecommendRequest],
        *,
        timeout: float | None = None,
        request_id: str | None = None,
    ) -> AsyncGenerator[pb.BatchRecommendResponse, None]:
        """Streams requests and yields their answers, as `Client.batch_recommend` does."""
        stream = iter(requests) if isinstance(requests, Iterable) else aiter(requests)
        return self._stream(self._stub.BatchRecommend, stream, timeout, request_id)
