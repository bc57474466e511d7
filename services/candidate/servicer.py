"""CandidateService: messages in, domain values to the engine on a thread, messages out."""

import asyncio
from pathlib import Path
from typing import Any, TypedDict

import grpc
import numpy as np

from core.bundle import Bundle
from core.catalog import Catalog, ItemArray, Mask
from core.errors import NotFound
from services.candidate.catalog.live import LiveCatalog
from services.candidate.catalog.opening import open_catalog
from services.candidate.catalog.rebase import Rebase
from services.candidate.catalog.servicer import CatalogServicer
from services.candidate.index.flat import Neighbors
from services.candidate.metrics import CandidateMetrics
from services.candidate.requests import (
    DEFAULT_SHORTLIST,
    DiagnoseQuery,
    SearchQuery,
    SimilarQuery,
    read_diagnose,
    read_search,
    read_similar,
)
from services.candidate.retrieval.diagnostics import Diagnosed, diagnose
from services.candidate.retrieval.engine import CandidateEngine
from services.candidate.retrieval.shortlist import Basis, Shortlist
from services.candidate.retrieval.similarity import SimilarityOptions
from serving.deadline import check_deadline
from serving.item_fields import Fields, ItemFieldWriter
from serving.telemetry.tracing import span
from serving.workers import Workers
from tandem.v1 import candidate_service_pb2 as pb
from tandem.v1 import candidate_service_pb2_grpc as pb_grpc

RpcContext = grpc.aio.ServicerContext[Any, Any]

_SOURCES = {
    Basis.HISTORY: pb.RETRIEVAL_SOURCE_HISTORY,
    Basis.CONTENT: pb.RETRIEVAL_SOURCE_CONTENT,
    Basis.POPULARITY: pb.RETRIEVAL_SOURCE_POPULARITY,
}


class _Limits(TypedDict):
    """What the engine is told of any similarity query."""

    allowed: Mask | None
    excluded: ItemArray
    options: SimilarityOptions


class CandidateServicer(pb_grpc.CandidateServiceServicer):
    """Answers `Search`, `Similar` and `DiagnoseSearch`.

    Args:
        live: the catalog. A call takes the version that is current when it starts.
        version: of the bundle, named in every response.
        workers: the threads that calls compute on.
        loaded: the bundle, and the engine of it without any change, which changes are made on when
            a store is taken over; None where it never is.
        metrics: what is counted.
    """

    def __init__(
        self,
        live: LiveCatalog,
        version: str,
        workers: Workers,
        loaded: tuple[Bundle, CandidateEngine] | None = None,
        metrics: CandidateMetrics | None = None,
    ) -> None:
        self._live = live
        self._loaded = loaded
        self._version = version
        self._workers = workers
        self._fields = ItemFieldWriter()
        self.catalog = CatalogServicer(live, version, workers)
        """Answers `CatalogService`, in the same process."""
        self._metrics = metrics or CandidateMetrics()

    @classmethod
    def load(
        cls,
        bundle: Bundle,
        *,
        threads: int,
        store: Path | None = None,
        rebase: bool = False,
        index_uri: str | None = None,
        metrics: CandidateMetrics | None = None,
    ) -> "CandidateServicer":
        """Loads a bundle, and the changes on top of it; blocks, and takes seconds.

        Args:
            bundle: a verified bundle.
            threads: how many calls compute at the same time, each on one thread: a call is too
                short to be worth sharing.
            store: see `open_catalog`.
            rebase: see `open_catalog`.
            index_uri: see `CandidateEngine.load`.
            metrics: what is counted.
        """
        engine = CandidateEngine.load(bundle, threads=1, index_uri=index_uri)
        live = open_catalog(bundle, engine, store, rebase=rebase)
        return cls(live, bundle.version, Workers(threads), (bundle, engine), metrics)

    async def warm_up(self) -> None:
        """Makes one call of each kind."""
        engine = self._live.engine
        live = np.flatnonzero(engine.catalog.live)
        if not len(live):
            return
        item = engine.catalog.items[int(live[0])]
        for history in ((item.item_id,), ()):
            search = SearchQuery(history, DEFAULT_SHORTLIST)
            await self._workers.run(_search, engine, search)
        for target in ((item.item_id,), item.title):
            similar = SimilarQuery(target, DEFAULT_SHORTLIST)
            await self._workers.run(_similar, engine, similar)

    async def activate(self, previous: object) -> None:
        """Takes the store over from another version of the bundle, where there is one.

        Most of its changes are made anew while that version goes on writing.

        Raises:
            ResourceExhausted, Unavailable: the store cannot be written to; the other keeps it.
        """
        if isinstance(previous, CandidateServicer):
            await self._take_over(previous)
        self._metrics.follow(lambda: self._workers.waiting, lambda: self._live.waiting)
        self._metrics.catalog.follow(
            lambda: self._live.engine.sequence, lambda: self._live.engine.catalog.live_count
        )

    async def _take_over(self, previous: "CandidateServicer") -> None:
        store = previous._live.store
        if store is None or self._loaded is None:
            previous._live.follow_no_more()
            self._live.follow_no_more(retired=False)
            return
        rebase = await asyncio.to_thread(Rebase, store, *self._loaded)
        await asyncio.to_thread(rebase.catch_up)
        before = self._live
        self._live = self.catalog.live = await previous._live.hand_over(rebase)
        await before.close()

    async def close(self) -> None:
        """Stops the threads, and closes the store."""
        await self._live.close()
        self._workers.close()

    async def Search(self, request: pb.SearchRequest, _context: RpcContext) -> pb.SearchResponse:
        """Turns a history into a shortlist."""
        engine, query = self._live.engine, read_search(request)
        shortlist, missing = await self._workers.run(_search, engine, query)
        self._metrics.searched(shortlist.basis)
        response = pb.SearchResponse(
            missing_item_ids=missing,
            bundle_version=self._version,
            source=_SOURCES[shortlist.basis],
            catalog_sequence=engine.sequence,
        )
        self._add_items(response, engine.catalog, shortlist, query.fields)
        if shortlist.transitions is not None:
            for item, score in zip(response.items, shortlist.transitions.tolist(), strict=True):
                item.transition_score = score
        return response

    async def Similar(self, request: pb.SimilarRequest, _context: RpcContext) -> pb.SimilarResponse:
        """Finds similar items."""
        engine, query = self._live.engine, read_similar(request)
        if query.is_plain and engine.space(query.space).is_quick:
            neighbors, missing = _similar(engine, query)
        else:
            neighbors, missing = await self._workers.run(_similar, engine, query)
        response = pb.SimilarResponse(
            missing_item_ids=missing,
            bundle_version=self._version,
            catalog_sequence=engine.sequence,
        )
        self._add_items(response, engine.catalog, neighbors, query.fields)
        return response

    async def DiagnoseSearch(
        self, request: pb.DiagnoseSearchRequest, _context: RpcContext
    ) -> pb.DiagnoseSearchResponse:
        """Says what `Search` makes of given items."""
        engine = self._live.engine
        diagnosed, missing = await self._workers.run(_diagnose, engine, read_diagnose(request))
        return pb.DiagnoseSearchResponse(
            items=_diagnosed(engine.catalog, diagnosed),
            missing_item_ids=missing,
            bundle_version=self._version,
            source=_SOURCES[diagnosed.basis],
            catalog_sequence=engine.sequence,
        )

    def _add_items(
        self,
        response: pb.SearchResponse | pb.SimilarResponse,
        catalog: Catalog,
        ranked: Neighbors | Shortlist,
        fields: Fields,
    ) -> None:
        # Items that are made in place are not copied: that takes half the time.
        add = response.items.add
        items = [catalog.items[position] for position in ranked.items.tolist()]
        for item, score in zip(items, ranked.scores.tolist(), strict=True):
            add(item_id=item.item_id, score=score)
        self._fields.write(response.items, items, fields)


def _search(engine: CandidateEngine, query: SearchQuery) -> tuple[Shortlist, list[str]]:
    catalog = engine.catalog
    history, missing = catalog.lookup(query.history)
    with span("search"):
        shortlist = engine.search(
            history,
            query.count,
            allowed=query.constraints.mask(catalog, check_deadline),
            excluded=catalog.lookup(query.constraints.excluded)[0],
            include_seen=query.constraints.include_seen,
        )
    return shortlist, missing


def _similar(engine: CandidateEngine, query: SimilarQuery) -> tuple[Neighbors, list[str]]:
    catalog, constraints = engine.catalog, query.constraints
    limits = _Limits(
        allowed=constraints.mask(catalog, check_deadline),
        excluded=catalog.lookup(constraints.excluded)[0],
        options=query.options,
    )
    match query.target:
        case str(text):
            return engine.similar_to_text(text, query.count, **limits), []
        case np.ndarray() as vector:
            return engine.similar_to_vector(vector, query.count, query.space, **limits), []
        case item_ids:
            items, missing = catalog.lookup(item_ids)
            if not len(items):
                raise NotFound("the catalog has none of the items", reason="UNKNOWN_ITEMS")
            found = engine.similar_to_items(
                items, query.count, query.space, include_seen=constraints.include_seen, **limits
            )
            return found, missing


def _diagnose(engine: CandidateEngine, query: DiagnoseQuery) -> tuple[Diagnosed, list[str]]:
    history, missing = engine.catalog.lookup(query.history)
    items, unknown = engine.catalog.lookup(query.items)
    return diagnose(engine, history, items), list(dict.fromkeys([*missing, *unknown]))


def _diagnosed(catalog: Catalog, diagnosed: Diagnosed) -> list[pb.DiagnosedItem]:
    ids = catalog.ids
    return [
        pb.DiagnosedItem(
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
        for item_id, item in zip(ids(diagnosed.items), diagnosed.of, strict=True)
    ]
