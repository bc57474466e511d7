"""The generator's RPCs: protobuf to domain and back."""

from typing import Any

import grpc
import numpy as np

from runtime import edge
from runtime.bundle import Bundle
from runtime.catalog import ItemArray, Mask
from runtime.errors import InvalidRequest
from runtime.filters import evaluate
from runtime.workers import Workers
from services.generator.engine import (
    Context,
    GenerateQuery,
    GeneratorEngine,
    Ranked,
    RerankQuery,
)
from services.generator.providers import execution_providers
from services.generator.settings import GeneratorSettings
from tandem.v1 import common_pb2, generator_service_pb2_grpc
from tandem.v1 import generator_service_pb2 as pb

DEFAULT_RESULTS, MAX_RESULTS = 10, 100
MAX_RERANKED = 1_000

RpcContext = grpc.aio.ServicerContext[Any, Any]


class GeneratorServicer(generator_service_pb2_grpc.GeneratorServiceServicer):
    """Answers `Rerank` and `Generate`."""

    def __init__(self, bundle: Bundle, engine: GeneratorEngine, workers: Workers) -> None:
        self._bundle = bundle
        self._catalog = bundle.catalog
        self._users = bundle.histories.user_index
        self._engine = engine
        self._workers = workers

    @classmethod
    def load(cls, bundle: Bundle, settings: GeneratorSettings) -> "GeneratorServicer":
        """Loads the engine; takes seconds."""
        engine = GeneratorEngine.load(
            bundle,
            threads=settings.compute_threads,
            providers=execution_providers(settings.device),
        )
        # One inference at a time has all threads: faster for each, and as fast for all together.
        return cls(bundle, engine, Workers(1))

    async def warm_up(self) -> None:
        """Runs both graphs once."""
        nothing = np.empty(0, dtype=np.int32)
        context = Context(user=None, history=np.zeros(1, dtype=np.int32))
        await self._workers.run(self._engine.generate, [GenerateQuery(context, 1, None, nothing)])
        shortlist = np.arange(min(100, len(self._catalog)), dtype=np.int32)
        await self._workers.run(self._engine.rerank, [RerankQuery(context, shortlist)])

    async def close(self) -> None:
        """Stops the threads."""
        self._workers.close()

    async def Rerank(self, request: pb.RerankRequest, _context: RpcContext) -> pb.RerankResponse:
        """Orders given items by the probability that the model gives each of them."""
        edge.item_ids(request.item_ids, field="item_ids", limit=MAX_RERANKED)
        if not request.item_ids:
            raise InvalidRequest("item_ids is empty; name the items to order", reason="NO_ITEMS")
        context, missing = self._user_context(request.context)
        items, unknown = self._catalog.lookup(dict.fromkeys(request.item_ids))
        ranked = Ranked(items, np.empty(0, dtype=np.float32))
        if len(items):
            (ranked,) = await self._workers.run(self._engine.rerank, [RerankQuery(context, items)])
        return pb.RerankResponse(
            items=self._scored(ranked),
            missing_item_ids=dict.fromkeys([*missing, *unknown]),
            bundle_version=self._bundle.version,
        )

    async def Generate(
        self, request: pb.GenerateRequest, _context: RpcContext
    ) -> pb.GenerateResponse:
        """Generates the best items of the whole catalog by constrained beam search."""
        count = edge.result_count(request.max_results, default=DEFAULT_RESULTS, limit=MAX_RESULTS)
        context, missing = self._user_context(request.context)
        edge.item_ids(request.excluded_item_ids, field="excluded_item_ids", limit=edge.MAX_EXCLUDED)
        denied, _ = self._catalog.lookup(request.excluded_item_ids)
        if not request.include_seen:
            denied = np.concatenate([denied, context.history])
        query = GenerateQuery(context, count, self._allowed(request), denied)
        (ranked,) = await self._workers.run(self._engine.generate, [query])
        return pb.GenerateResponse(
            items=self._scored(ranked),
            missing_item_ids=missing,
            bundle_version=self._bundle.version,
        )

    def _user_context(self, context: pb.UserContext) -> tuple[Context, list[str]]:
        """Translates the context; also the history's unknown items."""
        edge.item_ids(context.history_item_ids, field="history_item_ids", limit=edge.MAX_HISTORY)
        if context.user_id:
            edge.identifier(context.user_id, field="user_id")
        history: ItemArray
        history, missing = self._catalog.lookup(context.history_item_ids)
        return Context(self._users.get(context.user_id), history), missing

    def _allowed(self, request: pb.GenerateRequest) -> Mask | None:
        if not request.HasField("filter"):
            return None
        return evaluate(edge.item_filter(request.filter), self._catalog)

    def _scored(self, ranked: Ranked) -> list[common_pb2.ScoredItem]:
        ids = self._catalog.ids(ranked.items)
        return [
            common_pb2.ScoredItem(item_id=item_id, score=score)
            for item_id, score in zip(ids, ranked.scores.tolist(), strict=True)
        ]
