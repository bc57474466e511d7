"""GeneratorService: messages in, queries to the engine in batches, messages out."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc

from core.bundle import Bundle
from core.catalog import Catalog, ItemArray
from services.generator.batching import Batcher, Limits, Served
from services.generator.catalog.client import CatalogFeed
from services.generator.catalog.follower import Follower
from services.generator.decoding import diagnostics
from services.generator.decoding.engine import (
    DecodingJob,
    GeneratorEngine,
    Ranked,
    RankingAnswer,
    RankingQuery,
    UserContext,
)
from services.generator.decoding.providers import Compute, execution_providers
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
from serving.item_fields import ItemFieldWriter
from serving.timings import stage_timing
from tandem.v1 import common_pb2
from tandem.v1 import generator_service_pb2 as pb
from tandem.v1 import generator_service_pb2_grpc as pb_grpc

RpcContext = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True)
class _Reply:
    """What the three responses have in common, and both lists."""

    missing: list[str]
    sequence: int
    generated: list[common_pb2.ScoredItem] = field(default_factory=list)
    reranked: list[common_pb2.ScoredItem] = field(default_factory=list)
    timings: list[common_pb2.StageTiming] = field(default_factory=list)
    batch_size: int = 0


class GeneratorServicer(pb_grpc.GeneratorServiceServicer):
    """Answers `Rerank`, `Generate`, `Rank` and `DiagnoseItems`.

    Args:
        engine: does the work.
        users: the position of each user in the bundle.
        version: of the bundle, named in every response.
        batcher: runs the engine.
        follower: changes the engine's catalog as another's changes; from `warm_up` to `close`.
    """

    def __init__(
        self,
        engine: GeneratorEngine,
        users: Mapping[str, int],
        version: str,
        batcher: Batcher[DecodingJob, RankingAnswer],
        follower: Follower | None = None,
    ) -> None:
        self.engine = engine
        self._users = users
        self._version = version
        self._batcher = batcher
        self._follower = follower
        self._fields = ItemFieldWriter()

    @classmethod
    def load(cls, bundle: Bundle, settings: GeneratorSettings) -> "GeneratorServicer":
        """Loads the engine; takes seconds."""
        compute = Compute(
            execution_providers(settings.device), settings.compute_threads, settings.spin
        )
        engine = GeneratorEngine.load(bundle, compute, settings.precision)
        limits = Limits(settings.max_batch, settings.max_queue, settings.max_queue_ms / 1e3)
        batcher = Batcher(engine.run, limits)
        follower = None
        if settings.catalog is not None:
            follower = Follower(engine, CatalogFeed(settings.catalog, bundle.version))
        return cls(engine, bundle.histories.user_index, bundle.version, batcher, follower)

    async def warm_up(self) -> None:
        """Runs a full batch, which takes the most memory, and makes one call of each kind.

        Then the catalog begins to follow the candidate's.
        """
        snapshot = self.engine.snapshot
        some = snapshot.catalog.ids(range(min(100, len(snapshot.catalog))))
        wanted = Wanted(DEFAULT_RESULTS)
        history, _ = snapshot.catalog.lookup(some[:1])
        query = RankingQuery(
            UserContext(None, history), wanted.resolve(snapshot.catalog, history), None
        )
        job = await asyncio.to_thread(self.engine.prepare, query, snapshot)
        await asyncio.to_thread(self.engine.run, [job] * self._batcher.limits.batch)
        for shortlist, generation in ((some, None), ((), wanted), (some, wanted)):
            await self._answer(RankingRequest("", some[:1], shortlist, generation))
        if self._follower is not None:
            self._follower.start()

    async def close(self) -> None:
        """Stops following, and the threads."""
        if self._follower is not None:
            await self._follower.close()
        await self._batcher.close()

    async def Rerank(self, request: pb.RerankRequest, _context: RpcContext) -> pb.RerankResponse:
        """Orders given items by the probability that the model gives each of them."""
        reply = await self._answer(read_rerank(request))
        return pb.RerankResponse(
            items=reply.reranked,
            missing_item_ids=reply.missing,
            bundle_version=self._version,
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
            bundle_version=self._version,
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
            bundle_version=self._version,
            timings=reply.timings,
            batch_size=reply.batch_size,
            catalog_sequence=reply.sequence,
        )

    async def DiagnoseItems(
        self, request: pb.DiagnoseItemsRequest, _context: RpcContext
    ) -> pb.DiagnoseItemsResponse:
        """Says what the scores of given items are made of, token by token."""
        asked = read_diagnose(request)
        snapshot = self.engine.snapshot
        history, items, missing = _lookup(snapshot.catalog, asked)
        response = pb.DiagnoseItemsResponse(
            missing_item_ids=missing,
            bundle_version=self._version,
            catalog_sequence=snapshot.sequence,
        )
        if not len(items):
            return response
        context = UserContext(self._users.get(asked.user_id), history)

        def prepare() -> DecodingJob:
            job = self.engine.prepare(RankingQuery(context, shortlist=items), snapshot)
            return diagnostics.by_token(job)

        served = await self._batcher.submit(prepare)
        scores = diagnostics.read_tokens(served.answer, snapshot.codes.shape[1])
        found = diagnostics.codes(self.engine, snapshot, items, scores)
        for item_id, code in zip(snapshot.catalog.ids(items), found, strict=True):
            response.items.append(_code(item_id, code))
        return response

    async def _answer(self, request: RankingRequest) -> _Reply:
        # One version of the catalog from here to the end, whatever becomes of the engine's.
        snapshot = self.engine.snapshot
        catalog = snapshot.catalog
        history, shortlist, missing = _lookup(catalog, request)
        if request.wanted is None and not len(shortlist):
            return _Reply(missing, snapshot.sequence)
        context = UserContext(self._users.get(request.user_id), history)

        def prepare() -> DecodingJob:
            wanted = request.wanted
            generation = None if wanted is None else wanted.resolve(catalog, history)
            query = RankingQuery(context, generation, shortlist if len(shortlist) else None)
            return self.engine.prepare(query, snapshot)

        served = await self._batcher.submit(prepare)
        generated = _scored(served.answer.generated, catalog)
        if request.wanted is not None and served.answer.generated is not None:
            items = [catalog.items[position] for position in served.answer.generated.items]
            self._fields.write(generated, items, request.wanted.fields)
        return _Reply(
            missing=missing,
            sequence=snapshot.sequence,
            generated=generated,
            reranked=_scored(served.answer.reranked, catalog),
            timings=_timings(served),
            batch_size=served.batch,
        )


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


def _timings(served: Served[RankingAnswer]) -> list[common_pb2.StageTiming]:
    return [
        stage_timing("prepare", served.prepared),
        stage_timing("queue", served.queued),
        stage_timing("model", served.ran),
    ]
