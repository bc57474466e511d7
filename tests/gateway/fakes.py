"""Engine services without engines: every item has a fixed score, so that answers can be foretold.

They keep the contract (filters, excludes, seen items, missing ids), and can be told to wait or to
fail, which is what the gateway's tests are about.
"""

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from core.bundle import Bundle
from core.errors import InvalidArgument, TandemError, Unavailable
from core.filters import evaluate
from serving import validation as edge
from serving.bundles.held import VERSION_KEY
from serving.telemetry.request_id import REQUEST_ID_HEADER
from tandem.v1 import candidate_service_pb2 as candidate_pb
from tandem.v1 import candidate_service_pb2_grpc as candidate_grpc
from tandem.v1 import catalog_service_pb2 as catalog_pb
from tandem.v1 import catalog_service_pb2_grpc as catalog_grpc
from tandem.v1 import common_pb2
from tandem.v1 import generator_service_pb2 as generator_pb
from tests.gateway.fake_texts import FakeWriter

WAIT = "wait"
"""A call whose history has this item waits until it is cancelled."""
GENERATOR_WAITS = "generator waits"
"""The same, of the generator alone."""


def transition_score(item: common_pb2.ScoredItem) -> float:
    """Of an item by its place in the catalog: the later, the better; 0 for one without a place."""
    place = item.item_id.removeprefix("i")
    return float(place) if place.isdecimal() else 0.0


def retrieval_score(position: int) -> float:
    """The first items of the catalog are the best."""
    return -1.0 - 0.1 * position


def generator_score(position: int) -> float:
    """Another order: a permutation of twelve items."""
    return -1.0 - 0.3 * (position * 5 % 12)


class Fake:
    """What both fakes have in common.

    Attributes:
        failure: raised by every call while it is set.
        requests: what was asked, in order.
        request_ids: of those.
        remaining: how much time each of them had.
        waiting: set once a call waits.
        cancelled: set once a waiting call was cancelled.
        version: of the bundle that it says it has.
        sequence: of the last change that it says is in its catalog.
    """

    waits_for = frozenset({WAIT})

    def __init__(self, bundle: Bundle, signal_file: Path | None = None) -> None:
        self.bundle = bundle
        self.version = bundle.version
        self.sequence = 0
        self.failure: TandemError | None = None
        self.requests: list[Any] = []
        self.request_ids: list[str] = []
        self.remaining: list[float] = []
        self.waiting = asyncio.Event()
        self.cancelled = asyncio.Event()
        self._signal_file = signal_file

    async def warm_up(self) -> None: ...

    async def activate(self, previous: object) -> None: ...

    async def close(self) -> None: ...

    async def enter(self, request: Any, history: Iterable[str], context: Any) -> None:
        """What happens at the start of every call."""
        sent = dict(context.invocation_metadata())
        if sent.get(VERSION_KEY, self.version) != self.version:
            raise Unavailable("not that version", reason="VERSION_NOT_HELD")
        self.requests.append(request)
        self.request_ids.append(sent.get(REQUEST_ID_HEADER, ""))
        self.remaining.append(context.time_remaining())
        if self.failure is not None:
            raise self.failure
        if not self.waits_for.isdisjoint(history):
            self.waiting.set()
            if self._signal_file is not None:
                self._signal_file.touch()
            try:
                await asyncio.Event().wait()
            finally:
                self.cancelled.set()

    def allowed(self, request: Any, history: Iterable[str]) -> list[int]:
        """The positions that a request allows."""
        catalog, constraints = self.bundle.catalog, request.constraints
        mask = np.ones(len(catalog), np.bool_)
        if constraints.HasField("filter"):
            mask &= evaluate(edge.item_filter(constraints.filter), catalog)
        if constraints.allowed_item_ids:
            listed = catalog.lookup(constraints.allowed_item_ids)[0]
            mask &= np.isin(np.arange(len(catalog)), listed)
        mask[catalog.lookup(constraints.excluded_item_ids)[0]] = False
        if not constraints.include_seen:
            mask[catalog.lookup(history)[0]] = False
        return [int(position) for position in np.flatnonzero(mask)]

    def scored(self, scores: dict[int, float], count: int) -> list[common_pb2.ScoredItem]:
        """The best items."""
        ids = self.bundle.catalog.ids(range(len(self.bundle.catalog)))
        best = sorted(scores, key=lambda position: -scores[position])[:count]
        return [common_pb2.ScoredItem(item_id=ids[p], score=scores[p]) for p in best]

    def describe(self, request: Any, messages: Iterable[Any]) -> None:
        """What the request's `item_fields` asks for."""
        for message in messages:
            (position,), _ = self.bundle.catalog.lookup([message.item_id])
            item = self.bundle.catalog.items[position]
            if "title" in request.item_fields.paths:
                message.title = item.title
            if "attributes" in request.item_fields.paths:
                for name, values in item.attributes.items():
                    message.attributes[name].values.extend(map(edge.value_message, values))

    def missing(self, item_ids: Iterable[str]) -> list[str]:
        return self.bundle.catalog.lookup(item_ids)[1]


class FakeCandidate(
    Fake, candidate_grpc.CandidateServiceServicer, catalog_grpc.CatalogServiceServicer
):
    # The gateway makes none of these calls.
    UpsertItems: Any = None
    DeleteItems: Any = None
    ListItems: Any = None
    WatchItems: Any = None

    def __init__(self, bundle: Bundle, signal_file: Path | None = None) -> None:
        super().__init__(bundle, signal_file)
        self.live = {
            item.item_id: [str(genre) for genre in item.attributes["genre"]]
            for item in bundle.catalog.items
        }
        """The genres of each item that there is now."""

    async def Search(  # noqa: N802
        self, request: candidate_pb.SearchRequest, context: Any
    ) -> candidate_pb.SearchResponse:
        history = request.history_item_ids
        await self.enter(request, history, context)
        scores = {p: retrieval_score(p) for p in self.allowed(request, history)}
        response = candidate_pb.SearchResponse(
            items=[
                candidate_pb.ShortlistedItem(
                    item_id=item.item_id, score=item.score, transition_score=transition_score(item)
                )
                for item in self.scored(scores, request.max_results)
            ],
            missing_item_ids=self.missing(history),
            bundle_version=self.version,
            catalog_sequence=self.sequence,
            source=candidate_pb.RETRIEVAL_SOURCE_HISTORY,
        )
        self.describe(request, response.items)
        return response

    async def Similar(  # noqa: N802
        self, request: candidate_pb.SimilarRequest, context: Any
    ) -> candidate_pb.SimilarResponse:
        query = request.query
        await self.enter(request, query.items.item_ids, context)
        if query.WhichOneof("target") is None:
            raise InvalidArgument("no query", reason="MISSING_QUERY")
        edge.result_count(query.max_results, default=10, limit=1000)
        response = candidate_pb.SimilarResponse(
            items=[common_pb2.ScoredItem(item_id=self.bundle.catalog.items[7].item_id, score=0.5)],
            missing_item_ids=self.missing(query.items.item_ids),
            bundle_version=self.version,
            catalog_sequence=self.sequence,
        )
        self.describe(query, response.items)
        return response

    def title(self, item_id: str) -> str:
        """The bundle's, or one of its own for an item that came later."""
        positions, _ = self.bundle.catalog.lookup([item_id])
        return self.bundle.catalog.items[int(positions[0])].title if len(positions) else "New"

    async def GetItems(  # noqa: N802
        self, request: catalog_pb.GetItemsRequest, context: Any
    ) -> catalog_pb.GetItemsResponse:
        await self.enter(request, request.item_ids, context)
        response = catalog_pb.GetItemsResponse(
            bundle_version=self.version, catalog_sequence=self.sequence
        )
        for item_id in request.item_ids:
            if (genres := self.live.get(item_id)) is None:
                response.missing_item_ids.append(item_id)
                continue
            item = response.items.add(item_id=item_id, title=self.title(item_id))
            for genre in genres:
                item.attributes["genre"].values.add(text=genre)
        return response

    async def DiagnoseSearch(  # noqa: N802
        self, request: candidate_pb.DiagnoseSearchRequest, context: Any
    ) -> candidate_pb.DiagnoseSearchResponse:
        history = request.history_item_ids
        await self.enter(request, history, context)
        response = candidate_pb.DiagnoseSearchResponse(
            bundle_version=self.version, catalog_sequence=self.sequence
        )
        for position in self.bundle.catalog.lookup(request.item_ids)[0].tolist():
            score = retrieval_score(position)
            item = response.items.add(item_id=f"i{position}", score=score)
            item.sources.add(source="query_encoder", score=score, weight=1.0)
            item.influences.add(item_id=history[-1], contribution=0.5)
        return response


def attach_candidate(fake: FakeCandidate, server: grpc.aio.Server) -> None:
    """Adds both services of the candidate's process to a server."""
    candidate_grpc.add_CandidateServiceServicer_to_server(fake, server)
    catalog_grpc.add_CatalogServiceServicer_to_server(fake, server)


class FakeGenerator(Fake, FakeWriter):
    waits_for = frozenset({WAIT, GENERATOR_WAITS})

    def __init__(self, bundle: Bundle, signal_file: Path | None = None) -> None:
        super().__init__(bundle, signal_file)
        FakeWriter.__init__(self)
        self.unknown: set[str] = set()
        """Items that this service's bundle does not have."""
        self.proof: generator_pb.ListProof | None = None
        """What it says of every list that it generates."""

    async def Rerank(  # noqa: N802
        self, request: generator_pb.RerankRequest, context: Any
    ) -> generator_pb.RerankResponse:
        await self.enter(request, request.context.history_item_ids, context)
        known = [item for item in request.item_ids if item not in self.unknown]
        positions = self.bundle.catalog.lookup(known)[0].tolist()
        return generator_pb.RerankResponse(
            items=self.scored({p: generator_score(p) for p in positions}, len(positions)),
            missing_item_ids=self.missing(request.context.history_item_ids),
            bundle_version=self.version,
            catalog_sequence=self.sequence,
        )

    async def Generate(  # noqa: N802
        self, request: generator_pb.GenerateRequest, context: Any
    ) -> generator_pb.GenerateResponse:
        history = request.context.history_item_ids
        await self.enter(request, history, context)
        scores = {p: generator_score(p) for p in self.allowed(request, history)}
        response = generator_pb.GenerateResponse(
            items=None if request.rows else self.scored(scores, request.max_results),
            rows=self.rows(request),
            missing_item_ids=self.missing(history),
            bundle_version=self.version,
            catalog_sequence=self.sequence,
        )
        self.describe(request, response.items)
        if self.proof is not None and not request.rows:
            response.proof.CopyFrom(self.proof)
        return response

    def rows(self, request: generator_pb.GenerateRequest) -> list[generator_pb.GeneratedRow]:
        shown: set[str] = set()
        rows = []
        for row in request.rows:
            allowed = self.allowed(row, request.context.history_item_ids)
            scores = {p: generator_score(p) for p in allowed if f"i{p}" not in shown}
            items = self.scored(scores, row.max_results)
            self.describe(request, items)
            if not request.allow_repeats:
                shown |= {item.item_id for item in items}
            rows.append(generator_pb.GeneratedRow(name=row.name, items=items, proof=self.proof))
        return rows

    async def Rank(  # noqa: N802
        self, request: generator_pb.RankRequest, context: Any
    ) -> generator_pb.RankResponse:
        history = request.context.history_item_ids
        await self.enter(request, history, context)
        known = self.bundle.catalog.lookup(request.item_ids)[0].tolist()
        generated = {p: generator_score(p) for p in self.allowed(request, history)}
        response = generator_pb.RankResponse(
            generated=self.scored(generated, request.max_results),
            reranked=self.scored({p: generator_score(p) for p in known}, len(known)),
            missing_item_ids=self.missing([*history, *request.item_ids]),
            bundle_version=self.version,
            catalog_sequence=self.sequence,
        )
        self.describe(request, response.generated)
        return response

    async def DiagnoseItems(  # noqa: N802
        self, request: generator_pb.DiagnoseItemsRequest, context: Any
    ) -> generator_pb.DiagnoseItemsResponse:
        await self.enter(request, request.context.history_item_ids, context)
        response = generator_pb.DiagnoseItemsResponse(
            bundle_version=self.version, catalog_sequence=self.sequence
        )
        for position in self.bundle.catalog.lookup(request.item_ids)[0].tolist():
            code = response.items.add(item_id=f"i{position}", text=f"<a_{position}>")
            code.tokens.add(text=code.text, log_probability=generator_score(position))
        return response

    async def PredictRatings(  # noqa: N802
        self, request: generator_pb.PredictRatingsRequest, context: Any
    ) -> generator_pb.PredictRatingsResponse:
        await self.enter(request, request.item_ids, context)
        known = self.bundle.catalog.lookup(request.item_ids)[0].tolist()
        return generator_pb.PredictRatingsResponse(
            ratings=[
                generator_pb.RatedItem(item_id=item_id, rating=position % 5 + 0.5)
                for position, item_id in zip(known, self.bundle.catalog.ids(known), strict=True)
            ],
            missing_item_ids=self.missing(request.item_ids),
            bundle_version=self.version,
            catalog_sequence=self.sequence,
        )
