"""GeneratorService: messages in, queries to the engine in batches, messages out."""

import asyncio
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import grpc

from core.bundle import Bundle, Histories
from core.catalog import Catalog, ItemArray
from core.errors import ResourceExhausted, Unavailable
from services.generator.batching import BatchJob, Limits, Served, model_queue
from services.generator.catalog.client import CatalogFeed
from services.generator.catalog.follower import Follower
from services.generator.decoding import diagnostics
from services.generator.decoding.engine import (
    DecodingJob,
    GeneratorEngine,
    RankingAnswer,
    RankingQuery,
    UserContext,
)
from services.generator.decoding.providers import Compute, execution_providers
from services.generator.decoding.rater import answer
from services.generator.decoding.searching import MOST_BEAMS
from services.generator.metrics import GeneratorMetrics
from services.generator.rating_methods import RatingMethods
from services.generator.requests import (
    DEFAULT_RESULTS,
    RankingRequest,
    Wanted,
    read_diagnose,
    read_generate,
    read_rank,
    read_rerank,
)
from services.generator.responses import ListWriter, Reply, scored, timings, write_code
from services.generator.settings import GeneratorSettings
from services.generator.text.queue import TextLimits
from services.generator.text.servicer import TextMethods
from services.generator.turns import ModelTurns
from serving.deadline import time_left
from serving.security.setup import link_of
from serving.telemetry.tracing import note_spans
from serving.workers import Workers
from tandem.v1 import generator_service_pb2 as pb

RpcContext = grpc.aio.ServicerContext[Any, Any]

CATCH_UP_SECONDS: Final = 10.0
"""How long a version that is about to serve may take to make all changes of the catalog."""
PREPARERS: Final = 2
"""Threads that prepare: a slow job, such as a filter over a large catalog, holds up no other."""


class GeneratorServicer(RatingMethods, TextMethods):
    """Answers `Rerank`, `Generate`, `Rank`, `DiagnoseItems` and `PredictRatings`, and writes text.

    Args:
        follower: has the engine, and from `warm_up` to `close` changes its catalog as another's
            changes. A call takes the engine that is current when it starts.
        users: the position of each user in the bundle.
        version: of the bundle, named in every response.
        limits: of batching.
        metrics: what is counted.
        text_limits: of the texts that are written.
        histories: what users did in the data of the bundle, and how they rated it.
    """

    def __init__(
        self,
        follower: Follower,
        users: Mapping[str, int],
        version: str,
        limits: Limits | None = None,
        metrics: GeneratorMetrics | None = None,
        text_limits: TextLimits | None = None,
        histories: Histories | None = None,
    ) -> None:
        self._limits, texts = limits or Limits(), text_limits or TextLimits()
        self._metrics = metrics or GeneratorMetrics()
        turns, preparers = ModelTurns(), Workers(PREPARERS)
        TextMethods.__init__(
            self, follower, users, version, preparers, turns, texts, self._metrics.text
        )
        self.histories = histories
        run = turns.taken(self._metrics.watched(partial(answer, follower.engine)))
        self.queue = model_queue(run, self._limits)
        """Jobs that wait for the model, which all versions of the engine share."""
        self._writer = ListWriter()

    @classmethod
    def load(
        cls,
        bundle: Bundle,
        settings: GeneratorSettings,
        metrics: GeneratorMetrics | None = None,
    ) -> "GeneratorServicer":
        """Loads the engine; takes seconds."""
        compute = Compute(
            execution_providers(settings.device), settings.compute_threads, settings.spin
        )
        engine = GeneratorEngine.load(bundle, compute, settings.precision)
        limits = Limits(settings.max_batch, settings.max_queue, settings.max_queue_ms / 1e3)
        texts = TextLimits(
            settings.max_texts, settings.max_text_queue, settings.max_text_queue_ms / 1e3
        )
        feed = None
        if settings.catalog is not None:
            feed = CatalogFeed(settings.catalog, bundle.version, link=link_of(settings))
        histories = bundle.histories
        return cls(
            Follower(engine, feed),
            histories.user_index,
            bundle.version,
            limits,
            metrics,
            texts,
            histories,
        )

    async def warm_up(self) -> None:
        """Runs a full batch, which takes the most memory, and makes one call of each kind."""
        engine = self.follower.engine
        catalog = engine.snapshot.catalog
        some = catalog.ids(range(min(100, len(catalog))))
        wanted = Wanted(DEFAULT_RESULTS)
        history, _ = catalog.lookup(some[:1])
        query = RankingQuery(UserContext(None, history), wanted.resolve(catalog, history), None)
        job = await asyncio.to_thread(engine.prepare, query)
        await asyncio.to_thread(engine.run, [job] * self._limits.batch)
        for shortlist, generation in ((some, None), ((), wanted), (some, wanted)):
            await self._answer(RankingRequest("", some[:1], shortlist, generation))
        await self._warm_up_texts()

    async def activate(self, previous: object) -> None:
        """Begins to follow the candidate's catalog.

        At the start nothing waits for that, since the bundle's own items can be served meanwhile.
        What takes another version's place has all changes first, as that one had.

        Raises:
            Unavailable: reason CATALOG_NOT_FOLLOWED: the candidate service cannot be reached, or
                serves another version of the bundle.
        """
        self.follower.start()
        if isinstance(previous, GeneratorServicer):
            await self._take_over(previous)
        self._metrics.follow(lambda: self.queue.waiting)
        self._follow_texts()
        self._metrics.catalog.follow(
            lambda: self.follower.engine.snapshot.sequence,
            lambda: self.follower.engine.snapshot.catalog.live_count,
        )

    async def _take_over(self, previous: "GeneratorServicer") -> None:
        try:
            async with asyncio.timeout(CATCH_UP_SECONDS):
                await self.follower.caught_up()
        except TimeoutError as error:
            await self.follower.pause()
            raise Unavailable(
                f"the catalog of {self.version} could not be followed within "
                f"{CATCH_UP_SECONDS:g} s; activate that version in the candidate service first",
                reason="CATALOG_NOT_FOLLOWED",
            ) from error
        await previous.follower.pause()

    async def close(self) -> None:
        """Stops following, and the threads."""
        await self.follower.close()
        await self.queue.close()
        await self._close_texts()
        self._preparers.close()

    async def Rerank(self, request: pb.RerankRequest, _context: RpcContext) -> pb.RerankResponse:
        """Orders given items by the probability that the model gives each of them."""
        reply = await self._answer(read_rerank(request))
        return pb.RerankResponse(
            items=reply.reranked,
            missing_item_ids=reply.missing,
            bundle_version=self.version,
            timings=reply.timings,
            batch_size=reply.batch_size,
            catalog_sequence=reply.sequence,
        )

    async def Generate(
        self, request: pb.GenerateRequest, _context: RpcContext
    ) -> pb.GenerateResponse:
        """Generates the best items of the whole catalog by constrained beam search."""
        reply = await self._answer(read_generate(request))
        for row, found in zip(request.rows, reply.generated, strict=False):
            found.name = row.name
        alone = reply.generated[0]
        return pb.GenerateResponse(
            items=None if request.rows else alone.items,
            proof=alone.proof if not request.rows and alone.HasField("proof") else None,
            rows=reply.generated if request.rows else None,
            missing_item_ids=reply.missing,
            bundle_version=self.version,
            timings=reply.timings,
            batch_size=reply.batch_size,
            catalog_sequence=reply.sequence,
        )

    async def Rank(self, request: pb.RankRequest, _context: RpcContext) -> pb.RankResponse:
        """Orders given items and generates the best ones of the whole catalog."""
        reply = await self._answer(read_rank(request))
        (alone,) = reply.generated
        return pb.RankResponse(
            generated=alone.items,
            proof=alone.proof if alone.HasField("proof") else None,
            reranked=reply.reranked,
            missing_item_ids=reply.missing,
            bundle_version=self.version,
            timings=reply.timings,
            batch_size=reply.batch_size,
            catalog_sequence=reply.sequence,
        )

    async def DiagnoseItems(
        self, request: pb.DiagnoseItemsRequest, _context: RpcContext
    ) -> pb.DiagnoseItemsResponse:
        """Says what the scores of given items are made of, token by token."""
        asked = read_diagnose(request)
        engine = self.follower.engine
        snapshot = engine.snapshot
        history, items, missing = _lookup(snapshot.catalog, asked)
        response = pb.DiagnoseItemsResponse(
            missing_item_ids=missing,
            bundle_version=self.version,
            catalog_sequence=snapshot.sequence,
        )
        if not len(items):
            return response
        context = UserContext(self._users.get(asked.user_id), history)

        def prepare() -> DecodingJob:
            return diagnostics.by_token(engine.prepare(RankingQuery(context, shortlist=items)))

        served = await self.served(prepare)
        scores = diagnostics.read_tokens(served.answer, snapshot.codes.shape[1])
        found = diagnostics.codes(engine, items, scores)
        for item_id, code in zip(snapshot.catalog.ids(items), found, strict=True):
            response.items.append(write_code(item_id, code))
        return response

    async def _answer(self, request: RankingRequest) -> Reply:
        engine = self.follower.engine  # one version of the catalog from here to the end
        catalog, sequence = engine.snapshot.catalog, engine.snapshot.sequence
        history, shortlist, missing = _lookup(catalog, request)
        if not request.lists and not len(shortlist):
            return Reply(missing, sequence)
        context = UserContext(self._users.get(request.user_id), history)

        def prepare(beams: int = 0) -> DecodingJob:
            scored = shortlist if len(shortlist) else None
            rows = tuple(row.resolve(catalog, history) for row in request.rows)
            wanted = None if not request.wanted else request.wanted.resolve(catalog, history)
            query = RankingQuery(context, wanted, scored, rows, request.apart, beams)
            return engine.prepare(query)

        served = await self.served(prepare)
        if request.exact:
            most = max(wanted.count for wanted in request.lists)
            served = await self._proved(served, engine.beams(most), prepare)
        return Reply(
            missing=missing,
            sequence=sequence,
            generated=[
                self._writer.generated(ranked, catalog, wanted.fields)
                for ranked, wanted in zip(served.answer.lists, request.lists, strict=True)
            ],
            reranked=scored(served.answer.reranked, catalog),
            timings=timings(served),
            batch_size=served.batch,
        )

    async def _proved(
        self,
        served: Served[RankingAnswer],
        beams: int,
        prepare: Callable[[int], DecodingJob],
    ) -> Served[RankingAnswer]:
        """Searches with twice as many beams until all lists are proved, there is no time for that,
        or they would be more than a search may have."""
        while any(ranked.missed is not None and not ranked.exact for ranked in served.answer.lists):
            beams *= 2
            # Twice the beams take twice the time, at most, and it should not be short of it.
            if beams > MOST_BEAMS or time_left() < 3 * (served.queued + served.ran):
                break
            try:
                served = (await self.served(partial(prepare, beams))).after(served)
            except ResourceExhausted:
                break  # others wait: they come first
        return served

    async def served(self, prepare: Callable[[], BatchJob]) -> Served[Any]:
        """Makes a job on a thread, and has the model answer it; its place in the queue is taken
        before anything is done."""
        began = time.time_ns()
        with self.queue.place() as place:
            place.put(await self._preparers.run(prepare))
            served = await place.answer()
        self._metrics.served(served.prepared, served.queued)
        stages = ("prepare", served.prepared), ("queue", served.queued), ("model", served.ran)
        note_spans(began, *stages, **{"tandem.batch": served.batch})
        return served


def _lookup(catalog: Catalog, request: RankingRequest) -> tuple[ItemArray, ItemArray, list[str]]:
    """The positions of history and shortlist, and what of both the catalog has not."""
    history, missing = catalog.lookup(request.history)
    shortlist, unknown = catalog.lookup(request.shortlist)
    return history, shortlist, list(dict.fromkeys([*missing, *unknown]))
