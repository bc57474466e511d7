"""GeneratorService: messages in, queries to the engine in batches, messages out."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import grpc

from core.bundle import Bundle, Histories
from core.catalog import Catalog, ItemArray
from core.errors import Unavailable
from services.generator.batching import BatchJob, Limits, Served, model_queue
from services.generator.catalog.client import CatalogFeed
from services.generator.catalog.follower import Follower
from services.generator.decoding import diagnostics
from services.generator.decoding.engine import (
    DecodingJob,
    GeneratorEngine,
    Ranked,
    RankingQuery,
    UserContext,
)
from services.generator.decoding.providers import Compute, execution_providers
from services.generator.decoding.rater import answer
from services.generator.metrics import GeneratorMetrics
from services.generator.rating_methods import RatingMethods, timings_of
from services.generator.requests import (
    DEFAULT_RESULTS,
    RankingRequest,
    Wanted,
    read_diagnose,
    read_generate,
    read_rank,
    read_rerank,
)
from services.generator.settings import GeneratorSettings
from services.generator.text.queue import TextLimits
from services.generator.text.servicer import TextMethods
from services.generator.turns import ModelTurns
from serving.item_fields import ItemFieldWriter
from serving.security.setup import link_of
from serving.telemetry.tracing import note_spans
from serving.workers import Workers
from tandem.v1 import common_pb2
from tandem.v1 import generator_service_pb2 as pb

RpcContext = grpc.aio.ServicerContext[Any, Any]

CATCH_UP_SECONDS: Final = 10.0
"""How long a version that is about to serve may take to make all changes of the catalog."""
PREPARERS: Final = 2
"""Threads that prepare: a slow job, such as a filter over a large catalog, holds up no other."""


@dataclass(frozen=True)
class _Reply:
    """What the three responses have in common, and both lists."""

    missing: list[str]
    sequence: int
    generated: list[common_pb2.ScoredItem] = field(default_factory=list)
    reranked: list[common_pb2.ScoredItem] = field(default_factory=list)
    timings: list[common_pb2.StageTiming] = field(default_factory=list)
    batch_size: int = 0


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
        self.version, self.histories = version, histories
        run = turns.taken(self._metrics.watched(partial(answer, follower.engine)))
        self.queue = model_queue(run, self._limits)
        """Jobs that wait for the model, which all versions of the engine share."""
        self._fields = ItemFieldWriter()

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
            settings.text_limits,
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
        return pb.GenerateResponse(
            items=reply.generated,
            missing_item_ids=reply.missing,
            bundle_version=self.version,
            timings=reply.timings,
            batch_size=reply.batch_size,
            catalog_sequence=reply.sequence,
        )

    async def Rank(self, request: pb.RankRequest, _context: RpcContext) -> pb.RankResponse:
        """Orders given items and generates the best ones of the whole catalog."""
        reply = await self._answer(read_rank(request))
        return pb.RankResponse(
            generated=reply.generated,
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
            response.items.append(_code(item_id, code))
        return response

    async def _answer(self, request: RankingRequest) -> _Reply:
        engine = self.follower.engine  # one version of the catalog from here to the end
        catalog, sequence = engine.snapshot.catalog, engine.snapshot.sequence
        history, shortlist, missing = _lookup(catalog, request)
        if request.wanted is None and not len(shortlist):
            return _Reply(missing, sequence)
        context = UserContext(self._users.get(request.user_id), history)

        def prepare() -> DecodingJob:
            wanted = request.wanted
            generation = None if wanted is None else wanted.resolve(catalog, history)
            query = RankingQuery(context, generation, shortlist if len(shortlist) else None)
            return engine.prepare(query)

        served = await self.served(prepare)
        generated = _scored(served.answer.generated, catalog)
        if request.wanted is not None and served.answer.generated is not None:
            items = [catalog.items[position] for position in served.answer.generated.items]
            self._fields.write(generated, items, request.wanted.fields)
        return _Reply(
            missing=missing,
            sequence=sequence,
            generated=generated,
            reranked=_scored(served.answer.reranked, catalog),
            timings=timings_of(served),
            batch_size=served.batch,
        )

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


def _code(item_id: str, code: diagnostics.Code) -> pb.ItemCode:
    return pb.ItemCode(
        item_id=item_id,
        text=code.text,
        tokens=[
            pb.CodeToken(text=token.text, log_probability=token.log_probability)
            for token in code.tokens
        ],
    )


def _scored(ranked: Ranked | None, catalog: Catalog) -> list[common_pb2.ScoredItem]:
    if ranked is None:
        return []
    pairs = zip(catalog.ids(ranked.items), ranked.scores.tolist(), strict=True)
    return [common_pb2.ScoredItem(item_id=item_id, score=score) for item_id, score in pairs]
