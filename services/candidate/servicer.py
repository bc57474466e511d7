"""CandidateService: messages in, domain values to the engine on a thread, messages out."""

from typing import Any

import grpc
import numpy as np

from runtime.bundle import Bundle
from runtime.catalog import Catalog
from runtime.errors import NotFound
from runtime.workers import Workers
from services.candidate.engine import CandidateEngine, Shortlist, Source
from services.candidate.explain import Explained, explain
from services.candidate.index import Neighbors
from services.candidate.requests import (
    DEFAULT_SHORTLIST,
    ExplainQuery,
    Restriction,
    SearchQuery,
    SimilarQuery,
    read_explain,
    read_search,
    read_similar,
)
from services.candidate.space import SpaceName
from tandem.v1 import candidate_service_pb2 as pb
from tandem.v1 import candidate_service_pb2_grpc as pb_grpc
from tandem.v1 import common_pb2

RpcContext = grpc.aio.ServicerContext[Any, Any]

_SOURCES = {
    Source.HISTORY: pb.RETRIEVAL_SOURCE_HISTORY,
    Source.CONTENT: pb.RETRIEVAL_SOURCE_CONTENT,
    Source.POPULARITY: pb.RETRIEVAL_SOURCE_POPULARITY,
}


class CandidateServicer(pb_grpc.CandidateServiceServicer):
    """Answers `Search`, `Similar` and `ExplainSearch`.

    Args:
        engine: does the work.
        catalog: translates identifiers, and answers filters.
        version: of the bundle, named in every response.
        workers: the threads that the engine runs on.
    """

    def __init__(
        self, engine: CandidateEngine, catalog: Catalog, version: str, workers: Workers
    ) -> None:
        self._engine = engine
        self._catalog = catalog
        self._version = version
        self._workers = workers

    @classmethod
    def load(cls, bundle: Bundle, *, threads: int) -> "CandidateServicer":
        """Loads a bundle; blocks, and takes seconds.

        Args:
            bundle: a verified bundle.
            threads: how many calls compute at the same time, each on one thread: a call is too
                short to be worth sharing.
        """
        engine = CandidateEngine.load(bundle, threads=1)
        return cls(engine, bundle.catalog, bundle.version, Workers(threads))

    async def warm_up(self) -> None:
        """Makes one call of each kind."""
        if not len(self._catalog):
            return
        item, everything = self._catalog.items[0], Restriction((), None)
        for history in ((item.item_id,), ()):
            search = SearchQuery(history, DEFAULT_SHORTLIST, everything, include_seen=False)
            await self._workers.run(self._search, search)
        for target in ((item.item_id,), item.title):
            similar = SimilarQuery(target, DEFAULT_SHORTLIST, SpaceName.CONTENT, everything)
            await self._workers.run(self._similar, similar)

    async def close(self) -> None:
        """Stops the threads."""
        self._workers.close()

    async def Search(self, request: pb.SearchRequest, _context: RpcContext) -> pb.SearchResponse:
        """Turns a history into a shortlist."""
        shortlist, missing = await self._workers.run(self._search, read_search(request))
        return pb.SearchResponse(
            items=self._scored(shortlist),
            missing_item_ids=missing,
            bundle_version=self._version,
            source=_SOURCES[shortlist.source],
        )

    async def Similar(self, request: pb.SimilarRequest, _context: RpcContext) -> pb.SimilarResponse:
        """Finds similar items."""
        neighbors, missing = await self._workers.run(self._similar, read_similar(request))
        return pb.SimilarResponse(
            items=self._scored(neighbors),
            missing_item_ids=missing,
            bundle_version=self._version,
        )

    async def ExplainSearch(
        self, request: pb.ExplainSearchRequest, _context: RpcContext
    ) -> pb.ExplainSearchResponse:
        """Says what `Search` makes of given items."""
        explained, missing = await self._workers.run(_explain, self._engine, read_explain(request))
        return self._explained(explained, missing)

    def _search(self, query: SearchQuery) -> tuple[Shortlist, list[str]]:
        history, missing = self._catalog.lookup(query.history)
        allowed, excluded = query.restriction.resolve(self._catalog)
        shortlist = self._engine.search(
            history,
            query.count,
            allowed=allowed,
            excluded=excluded,
            include_seen=query.include_seen,
        )
        return shortlist, missing

    def _similar(self, query: SimilarQuery) -> tuple[Neighbors, list[str]]:
        allowed, excluded = query.restriction.resolve(self._catalog)
        match query.target:
            case str(text):
                found = self._engine.similar_to_text(
                    text, query.count, allowed=allowed, excluded=excluded, taste=query.taste
                )
                return found, []
            case np.ndarray() as vector:
                found = self._engine.similar_to_vector(
                    vector,
                    query.count,
                    query.space,
                    allowed=allowed,
                    excluded=excluded,
                    taste=query.taste,
                )
                return found, []
            case item_ids:
                items, missing = self._catalog.lookup(item_ids)
                if not len(items):
                    raise NotFound("the catalog has none of the items", reason="UNKNOWN_ITEMS")
                found = self._engine.similar_to_items(
                    items,
                    query.count,
                    query.space,
                    allowed=allowed,
                    excluded=excluded,
                    taste=query.taste,
                )
                return found, missing

    def _explained(self, explained: Explained, missing: list[str]) -> pb.ExplainSearchResponse:
        ids = self._catalog.ids
        return pb.ExplainSearchResponse(
            items=[
                pb.ExplainedItem(
                    item_id=item_id,
                    score=item.score,
                    sources=[
                        pb.SourceScore(source=name, score=score, weight=weight)
                        for name, score, weight in item.sources
                    ],
                    influences=[
                        pb.Influence(item_id=ids([other])[0], contribution=contribution)
                        for other, contribution in item.influences
                    ],
                )
                for item_id, item in zip(ids(explained.items), explained.of, strict=True)
            ],
            missing_item_ids=missing,
            bundle_version=self._version,
            source=_SOURCES[explained.basis],
        )

    def _scored(self, ranked: Neighbors | Shortlist) -> list[common_pb2.ScoredItem]:
        pairs = zip(self._catalog.ids(ranked.items), ranked.scores.tolist(), strict=True)
        return [common_pb2.ScoredItem(item_id=item_id, score=score) for item_id, score in pairs]


def _explain(engine: CandidateEngine, query: ExplainQuery) -> tuple[Explained, list[str]]:
    history, missing = engine.catalog.lookup(query.history)
    items, unknown = engine.catalog.lookup(query.items)
    return explain(engine, history, items), list(dict.fromkeys([*missing, *unknown]))
