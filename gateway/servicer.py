"""RecommendationService: messages in, domain values to the orchestration, messages out."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import replace
from typing import Any, Final

import structlog

from core.bundle import Bundle
from core.errors import TandemError
from gateway.attribution.ids import POPULARITY, SIMILAR, Listed
from gateway.batch import Window, answers
from gateway.deadline import Deadline
from gateway.domain import Answer, Query, Strategy
from gateway.history.servicer import HistoryMethods
from gateway.pages import Page, cut, digest_of, read_page
from gateway.recommend.diagnostics import Diagnosis
from gateway.recommend.recommender import Recommender
from gateway.requests import DEFAULT_RESULTS, MAX_RESULTS, read_query
from gateway.responses import write_answer, write_batch_error
from gateway.rows import recommend_rows
from gateway.rows.requests import as_list, read_rows
from gateway.shared import Shared
from gateway.text.servicer import TextMethods
from gateway.variants.choice import Choice
from serving.boundary.proxy import classify
from serving.bundles.held import HeldBundles
from serving.telemetry.tracing import span
from serving.validation import identifier
from tandem.v1 import catalog_service_pb2 as catalog_pb
from tandem.v1 import generator_service_pb2 as generator_pb
from tandem.v1 import recommendation_service_pb2 as pb

log = structlog.get_logger()

_AWAITED: Final = frozenset(
    {
        "Recommend", "RecommendRows", "SimilarItems", "GetItems", "PredictRatings", "Explain",
        "Summarize",
    }
)  # fmt: skip
"""The methods whose calls take turns."""


class RecommendationServicer(TextMethods, HistoryMethods):
    """The gateway's one service, of one version of the bundle.

    Args:
        bundle: the version.
        shared: what it has in common with the others.
    """

    def __init__(self, bundle: Bundle, shared: Shared) -> None:
        kept = shared.histories(bundle)
        super().__init__(kept.store, kept.rules, shared.attribution, bundle.version)
        self._kept = kept
        self._ids = kept.rules.ids
        self._shared = shared
        self._settings = shared.settings
        self._turns = shared.turns
        self._requests = shared.turns.requests
        # Of the catalog this is all that is kept, beside the most popular items.
        self.attributes: Final = bundle.catalog.attribute_names
        self._some_item = bundle.catalog.items[0].item_id
        self._default_strategy = self._settings.strategy or Strategy(
            bundle.manifest.blend.default_strategy
        )
        self._candidate = candidate = shared.candidate.for_version(bundle.version)
        self._generator = generator = shared.generator.for_version(bundle.version)
        diagnosis = Diagnosis(candidate.diagnose, generator.diagnose)
        self._recommender = Recommender.of(
            bundle, candidate, generator, kept.store, diagnosis, shared.metrics
        )
        self._uncounted = self._recommender.apart(candidate.apart(), generator.apart())

    @property
    def version(self) -> str:
        """The version of the bundle."""
        return self._bundle_version

    @property
    def held(self) -> HeldBundles:
        """The versions that there are, this one among them."""
        return self._shared.held

    def held_of(self, bundle: str) -> HeldBundles | None:
        """The versions of the gateway's bundle of a name; see `Shared.held_of`."""
        return self._shared.held_of(bundle)

    async def warm_up(self) -> None:
        """Fills the histories, connects, and makes calls that need both services.

        Where another version serves already, the services load this one first. At the start the
        gateway serves even when they cannot be reached: they may come later, and it finds them by
        itself.

        Raises:
            TandemError: another version serves, and the services cannot have this one.
        """
        await self._kept.start()
        if self._shared.serving not in {None, self}:
            await self._shared.bundles.load(self.version)
        seconds = self._settings.warm_up_seconds
        if not seconds:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._candidate.ready()
                await self._generator.ready()
                deadline = Deadline.of_caller(None, default=seconds, limit=seconds)
                # Whatever the weights, one of them calls the generator.
                for strategy in (Strategy.FUSE, Strategy.GENERATE):
                    query = Query(
                        "", (self._some_item,), max_results=DEFAULT_RESULTS, strategy=strategy
                    )
                    await self._recommender.recommend(query, deadline)
        except (TandemError, TimeoutError) as error:
            log.warning(
                "serving without having reached the services", error=str(error) or "timeout"
            )

    async def activate(self, previous: object) -> None:
        """Has the services serve this version, and answers what names no version.

        Raises:
            TandemError: a service cannot; all have been asked to serve what they served.
        """
        if isinstance(previous, RecommendationServicer):
            await self._shared.bundles.activate(self.version, previous.version)
        for caller in (self._candidate, self._generator):
            self._shared.services.follow(caller)

    async def close(self) -> None:
        """Holds nothing of its own; `Common.close` closes what there is."""

    def retry_after(self, method: str) -> float | None:
        """Whether a call of somebody who waits for it would wait too long; see `Backpressure`."""
        return self._turns.requests.retry_after() if method in _AWAITED else None

    async def Recommend(self, request: pb.RecommendRequest, context: Any) -> pb.RecommendResponse:
        """Recommends items to a user."""
        deadline = self._deadline(context)
        with self._shared.variants.chosen(request, self, context) as chosen:
            choice = self._shared.shadow.followed(chosen, request, self, context)
            return await choice.servicer.answer(choice, self._turns.call, lambda: deadline)

    async def BatchRecommend(
        self, requests: AsyncIterator[pb.BatchRecommendRequest], context: Any
    ) -> AsyncIterator[pb.BatchRecommendResponse]:
        """Recommends to many users."""

        async def answer(item: pb.BatchRecommendRequest) -> pb.BatchRecommendResponse:
            try:
                # A stream may outlive a version, so that each of its requests is answered by the
                # one that serves when it comes, of the bundle that it names.
                servicer = self._shared.answering(item.request.bundle)
                with span("request"):
                    return await servicer._answer(item, context)
            except Exception as error:  # noqa: BLE001 - it is the item's, and the stream goes on
                return write_batch_error(item.id, classify(error, "BatchRecommend"))

        window = Window(self._settings.batch_window, self._settings.batch_window_bytes)
        size = pb.BatchRecommendRequest.ByteSize
        async with aclosing(answers(requests, answer, window, size)) as responses:
            async for response in responses:
                yield response

    async def _answer(
        self, item: pb.BatchRecommendRequest, context: Any
    ) -> pb.BatchRecommendResponse:
        if item.id:
            identifier(item.id, field="id")
        limit = self._settings.default_timeout
        with self._shared.variants.chosen(item.request, self, context) as choice:
            response = await choice.servicer.answer(
                choice, self._turns.bulk, lambda: self._deadline(context, limit)
            )
        return pb.BatchRecommendResponse(id=item.id, response=response)

    async def answer(
        self,
        choice: Choice,
        turn: Callable[..., AbstractAsyncContextManager[None]],
        deadline: Callable[[], Deadline],
    ) -> pb.RecommendResponse:
        """Answers a request as it was chosen to be.

        Args:
            choice: the request, of which this servicer's version answers all.
            turn: of `Turns`, among which it waits.
            deadline: asked for when it has its turn.

        Raises:
            TandemError: the request is wrong, or it cannot be answered.
        """
        query, page = self._read(choice.request), read_page(choice.request)
        async with turn(diagnostics=query.diagnostics):
            until = deadline()
            making = self._recommender.recommend(query, until)
            answer = await choice.observed(making, until)
        return self._write(query, page, answer, choice.variant)

    async def answer_again(
        self, request: pb.RecommendRequest, history: tuple[str, ...], deadline: Deadline
    ) -> Answer:
        """What would be answered to a request from a given history; it is not counted.

        Raises:
            TandemError: the request is wrong, or a stage failed.
        """
        query = replace(self._read(request), history=history, forbid_degraded=True)
        return await self._uncounted.recommend(query, deadline)

    async def RecommendRows(
        self, request: pb.RecommendRowsRequest, context: Any
    ) -> pb.RecommendRowsResponse:
        """Recommends several lists to a user."""
        deadline = self._deadline(context)
        with self._shared.variants.chosen(as_list(request), self, context) as choice:
            return await choice.servicer.answer_rows(choice, request, deadline)

    async def answer_rows(
        self, choice: Choice, request: pb.RecommendRowsRequest, deadline: Deadline
    ) -> pb.RecommendRowsResponse:
        """Answers a request for rows as it was chosen to be.

        Raises:
            TandemError: the request is wrong, or it cannot be answered.
        """
        rows = read_rows(request, choice.request, self._read(choice.request))
        async with self._turns.requests.call():
            making = recommend_rows(
                self._recommender, self._generator.generate_rows, rows, deadline
            )
            page = await choice.counted(making, deadline)
        return pb.RecommendRowsResponse(
            rows=[
                pb.RecommendedRow(
                    name=row.name, response=self._write(query, Page(), answer, choice.variant)
                )
                for row, query, answer in zip(request.rows, rows.queries, page.rows, strict=True)
            ]
        )

    async def SimilarItems(
        self, request: pb.SimilarItemsRequest, context: Any
    ) -> pb.SimilarItemsResponse:
        """Finds similar items: the candidate service's `Similar`, behind the gateway."""
        deadline = self._deadline(context)
        async with self._turns.requests.call():
            found = await self._candidate.similar(request.query, deadline)
        return pb.SimilarItemsResponse(
            items=found.items,
            missing_item_ids=found.missing_item_ids,
            bundle_version=found.bundle_version,
            catalog_sequence=found.catalog_sequence,
            recommendation_id=self._ids.make(
                [Listed(item.item_id, item.score) for item in found.items[:MAX_RESULTS]],
                SIMILAR,
                found.bundle_version,
            ),
        )

    async def GetItems(
        self, request: catalog_pb.GetItemsRequest, context: Any
    ) -> catalog_pb.GetItemsResponse:
        """Looks items up: the candidate service's `GetItems`, behind the gateway."""
        request.ClearField("bundle")  # the candidate has one, and knows no name
        deadline = self._deadline(context)
        async with self._turns.requests.call():
            return await self._candidate.get_items(request, deadline)

    async def PredictRatings(
        self, request: generator_pb.PredictRatingsRequest, context: Any
    ) -> generator_pb.PredictRatingsResponse:
        """Predicts ratings: the generator service's `PredictRatings`, behind the gateway."""
        request.ClearField("bundle")  # the generator has one, and knows no name
        deadline = self._deadline(context)
        async with self._turns.requests.call():
            return await self._generator.predict_ratings(request, deadline)

    def _read(self, request: pb.RecommendRequest) -> Query:
        return read_query(
            request, default_strategy=self._default_strategy, attributes=self.attributes
        )

    def _write(
        self, query: Query, page: Page, answer: Answer, variant: str
    ) -> pb.RecommendResponse:
        following = ""
        if not page.whole:
            versions = (self.version, self._candidate.version, self._generator.version)
            # Pages are of one variant; those of none are as they were before there were any.
            made = (*versions, variant) if variant else versions
            answer, following = cut(answer, page, digest_of(query, answer, *made))
        recommendation_id = self._ids.make(
            [Listed(item.item_id, item.score) for item in answer.items],
            answer.strategy or POPULARITY,
            self.version,
            start=page.start,
            variant=variant,
        )
        return write_answer(answer, self.version, following, recommendation_id, variant)

    def _deadline(self, context: Any, limit: float = math.inf) -> Deadline:
        return Deadline.of_caller(
            context.time_remaining(),
            default=self._settings.default_timeout,
            limit=min(limit, self._settings.max_timeout),
        )
