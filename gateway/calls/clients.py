"""Clients of the two services: domain values in and out, and errors of the gateway's own tree."""

from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Protocol, TypeVar

import grpc
from google.protobuf.message import Message

from core.errors import Unavailable
from gateway.calls.attempts import Versioned
from gateway.calls.caller import Caller
from gateway.calls.streams import beginning
from gateway.deadline import Deadline
from gateway.domain import (
    Answered,
    CodeToken,
    Influence,
    ItemCode,
    Origin,
    Proof,
    Query,
    Ranked,
    ResolvedQuery,
    Retrieval,
    Scored,
    SourceScore,
)
from serving.item_fields import ScoredMessage, encode_message, field_mask
from serving.validation import constraints_message
from tandem.v1 import candidate_service_pb2 as candidate_pb
from tandem.v1 import candidate_service_pb2_grpc as candidate_grpc
from tandem.v1 import catalog_service_pb2 as catalog_pb
from tandem.v1 import catalog_service_pb2_grpc as catalog_grpc
from tandem.v1 import common_pb2
from tandem.v1 import generator_service_pb2 as generator_pb
from tandem.v1 import generator_service_pb2_grpc as generator_grpc

T = TypeVar("T")


class _Generated(Versioned, Protocol):
    """Every list of the generator names what its catalog does not have."""

    @property
    def missing_item_ids(self) -> Iterable[str]: ...


class CandidateStubs:
    """The stubs of the candidate's process, on one channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.candidate: candidate_grpc.CandidateServiceAsyncStub
        self.candidate = candidate_grpc.CandidateServiceStub(channel)
        self.catalog: catalog_grpc.CatalogServiceAsyncStub
        self.catalog = catalog_grpc.CatalogServiceStub(channel)


class CandidateClient(Caller[CandidateStubs]):
    """Calls the candidate's process: the candidate service, and the catalog beside it."""

    service = "candidate"
    protobuf_service = "tandem.v1.CandidateService"

    def stub(self, channel: grpc.aio.Channel) -> CandidateStubs:
        """Of both protobuf services."""
        return CandidateStubs(channel)

    async def search(
        self, request: ResolvedQuery, count: int, deadline: Deadline
    ) -> Answered[Ranked]:
        """Shortlists `count` items."""
        message = candidate_pb.SearchRequest(
            history_item_ids=request.history,
            max_results=count,
            constraints=constraints_message(request.query.constraints),
            item_fields=field_mask(request.query.needed_fields),
        )
        response = await self.call(lambda stub: stub.candidate.Search, message, deadline)
        found = Ranked(
            tuple(map(_shortlisted, response.items)),
            tuple(response.missing_item_ids),
            _EncodedFields(response.items),
        )
        return _answered(found, response)

    async def similar(
        self, query: common_pb2.SimilarityQuery, deadline: Deadline
    ) -> candidate_pb.SimilarResponse:
        """Passes a similarity query on."""
        message = candidate_pb.SimilarRequest(query=query)
        return await self.call(lambda stub: stub.candidate.Similar, message, deadline)

    async def get_items(
        self, message: catalog_pb.GetItemsRequest, deadline: Deadline
    ) -> catalog_pb.GetItemsResponse:
        """Passes a look-up of items on."""
        return await self.call(lambda stub: stub.catalog.GetItems, message, deadline)

    async def items(
        self, item_ids: Sequence[str], deadline: Deadline
    ) -> Answered[Mapping[str, bytes]]:
        """What given items are, as `serving.item_fields` encodes it; of those that exist."""
        response = await self.get_items(catalog_pb.GetItemsRequest(item_ids=item_ids), deadline)
        return _answered(_EncodedFields(response.items), response)

    async def diagnose(
        self, request: ResolvedQuery, items: Sequence[str], deadline: Deadline
    ) -> Answered[Mapping[str, Retrieval]]:
        """What retrieval makes of given items; of those that are known."""
        message = candidate_pb.DiagnoseSearchRequest(
            history_item_ids=request.history, item_ids=items
        )
        response = await self.call(lambda stub: stub.candidate.DiagnoseSearch, message, deadline)
        found = {
            item.item_id: Retrieval(
                tuple(SourceScore(each.source, each.score, each.weight) for each in item.sources),
                tuple(Influence(each.item_id, each.contribution) for each in item.influences),
            )
            for item in response.items
        }
        return _answered(found, response)


class GeneratorClient(Caller["generator_grpc.GeneratorServiceAsyncStub"]):
    """Calls the generator service."""

    service = "generator"
    protobuf_service = "tandem.v1.GeneratorService"

    def stub(self, channel: grpc.aio.Channel) -> "generator_grpc.GeneratorServiceAsyncStub":
        """The generated one."""
        return generator_grpc.GeneratorServiceStub(channel)

    async def rerank(
        self, request: ResolvedQuery, items: Sequence[str], deadline: Deadline
    ) -> Answered[Ranked]:
        """Scores given items."""
        message = generator_pb.RerankRequest(context=_context(request), item_ids=items)
        response = await self.call(lambda stub: stub.Rerank, message, deadline)
        return _answered(_ranked(response.items, response), response)

    async def generate(
        self, request: ResolvedQuery, count: int, deadline: Deadline
    ) -> Answered[Ranked]:
        """Generates `count` items."""
        message = generator_pb.GenerateRequest(
            context=_context(request),
            max_results=count,
            constraints=constraints_message(request.query.constraints),
            item_fields=field_mask(request.query.needed_fields),
            exact=request.query.exact,
        )
        response = await self.call(lambda stub: stub.Generate, message, deadline)
        found = replace(_ranked(response.items, response), proof=_proof(response))
        return _answered(found, response)

    async def generate_rows(
        self, requests: Sequence[ResolvedQuery], deadline: Deadline, *, apart: bool
    ) -> Answered[tuple[Ranked, ...]]:
        """Generates a list for each of several requests of one user and history."""
        message = generator_pb.GenerateRequest(
            context=_context(requests[0]),
            rows=(_row(str(place), request.query) for place, request in enumerate(requests)),
            allow_repeats=not apart,
            item_fields=field_mask(requests[0].query.needed_fields),
            exact=requests[0].query.exact,
        )
        response = await self.call(lambda stub: stub.Generate, message, deadline)
        if len(response.rows) != len(requests):
            raise Unavailable(
                "the generator service is of before there were rows", reason="ROWS_NOT_SERVED"
            )
        rows = (replace(_ranked(row.items, response), proof=_proof(row)) for row in response.rows)
        return _answered(tuple(rows), response)

    async def rank(
        self, request: ResolvedQuery, items: Sequence[str], count: int, deadline: Deadline
    ) -> Answered[tuple[Ranked, Ranked]]:
        """Generates `count` items, and scores given ones."""
        message = generator_pb.RankRequest(
            context=_context(request),
            item_ids=items,
            max_results=count,
            constraints=constraints_message(request.query.constraints),
            item_fields=field_mask(request.query.needed_fields),
        )
        response = await self.call(lambda stub: stub.Rank, message, deadline)
        both = _ranked(response.generated, response), _ranked(response.reranked, response)
        return _answered(both, response)

    async def diagnose(
        self, request: ResolvedQuery, items: Sequence[str], deadline: Deadline
    ) -> Answered[Mapping[str, ItemCode]]:
        """The codes of given items, token by token; of those that are known."""
        message = generator_pb.DiagnoseItemsRequest(context=_context(request), item_ids=items)
        response = await self.call(lambda stub: stub.DiagnoseItems, message, deadline)
        found = {
            code.item_id: ItemCode(
                code.text,
                tuple(CodeToken(token.text, token.log_probability) for token in code.tokens),
            )
            for code in response.items
        }
        return _answered(found, response)

    def explain(
        self, message: generator_pb.ExplainRequest, deadline: Deadline
    ) -> AsyncGenerator[generator_pb.ExplainResponse, None]:
        """Passes on an explanation as it is written."""
        return self._passed_on(lambda stub: stub.Explain, message, deadline)

    def summarize(
        self, message: generator_pb.SummarizeRequest, deadline: Deadline
    ) -> AsyncGenerator[generator_pb.SummarizeResponse, None]:
        """Passes on a summary as it is written."""
        return self._passed_on(lambda stub: stub.Summarize, message, deadline)

    async def _passed_on(
        self, method: Callable[[Any], Any], message: Message, deadline: Deadline
    ) -> AsyncGenerator[Any, None]:
        begun = await self.unhedged().call(beginning(method), message, deadline)
        async with aclosing(begun.messages(self.service)) as messages:
            async for each in messages:
                yield each

    async def predict_ratings(
        self, message: generator_pb.PredictRatingsRequest, deadline: Deadline
    ) -> generator_pb.PredictRatingsResponse:
        """Passes a question for ratings on."""
        return await self.call(lambda stub: stub.PredictRatings, message, deadline)


def _answered(value: T, response: Versioned) -> Answered[T]:
    return Answered(value, Origin(response.bundle_version, response.catalog_sequence))


def _context(request: ResolvedQuery) -> generator_pb.UserContext:
    return generator_pb.UserContext(user_id=request.query.user_id, history_item_ids=request.history)


def _row(name: str, query: Query) -> common_pb2.RowRequest:
    constraints = constraints_message(query.constraints)
    return common_pb2.RowRequest(name=name, max_results=query.max_results, constraints=constraints)


def _proof(of: generator_pb.GenerateResponse | generator_pb.GeneratedRow) -> Proof | None:
    if not of.HasField("proof"):
        return None
    return Proof(of.proof.exact, of.proof.exact_places, of.proof.gap)


def _shortlisted(item: candidate_pb.ShortlistedItem) -> Scored:
    transitions = item.transition_score if item.HasField("transition_score") else None
    return Scored(item.item_id, item.score, transitions)


def _ranked(items: Iterable[common_pb2.ScoredItem], response: _Generated) -> Ranked:
    messages = tuple(items)
    return Ranked(
        items=tuple(Scored(item.item_id, item.score) for item in messages),
        missing=tuple(response.missing_item_ids),
        fields=_EncodedFields(messages),
        sequence=response.catalog_sequence,
    )


class _EncodedFields(Mapping[str, bytes]):
    """What the items of a response are, each encoded only for who looks at it: most of a shortlist
    is never shown."""

    def __init__(self, messages: Iterable[ScoredMessage | common_pb2.Item]) -> None:
        self._messages = {message.item_id: message for message in messages}

    def __getitem__(self, item_id: str) -> bytes:
        return encode_message(self._messages[item_id])

    def __contains__(self, item_id: object) -> bool:
        return item_id in self._messages  # without encoding it

    def __iter__(self) -> Iterator[str]:
        return iter(self._messages)

    def __len__(self) -> int:
        return len(self._messages)
