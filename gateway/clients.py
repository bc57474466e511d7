"""Clients of the two services: domain values in and out, and errors of the gateway's own tree."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Final, Protocol, TypeVar

import grpc
import structlog

from gateway.deadline import Deadline
from gateway.domain import Ranked, Request, Scored
from runtime.edge import filter_message
from runtime.errors import (
    DeadlineExceeded,
    InvalidRequest,
    NotFound,
    Overloaded,
    PreconditionFailed,
    ServiceFailed,
    TandemError,
    Unavailable,
)
from runtime.telemetry import REQUEST_ID_HEADER, request_id
from tandem import errors
from tandem.channel import channel_options
from tandem.v1 import candidate_service_pb2 as candidate_pb
from tandem.v1 import candidate_service_pb2_grpc as candidate_grpc
from tandem.v1 import common_pb2
from tandem.v1 import generator_service_pb2 as generator_pb
from tandem.v1 import generator_service_pb2_grpc as generator_grpc

log = structlog.get_logger()


class _Versioned(Protocol):
    """Every response names the bundle that answered."""

    @property
    def bundle_version(self) -> str: ...


Q = TypeVar("Q")
R = TypeVar("R", bound=_Versioned)


class ServiceClient:
    """What calls of both services have in common.

    Args:
        name: of the service, as errors and logs call it.
        protobuf_service: the full name of its protobuf service.
        target: its address.
        bundle_version: of the gateway's own bundle, which the service should have too.
    """

    def __init__(self, name: str, protobuf_service: str, target: str, bundle_version: str) -> None:
        self.name = name
        self._protobuf_service = protobuf_service
        self._target = target
        self._bundle_version = bundle_version
        self._noticed = {bundle_version}

    @cached_property
    def channel(self) -> grpc.aio.Channel:
        """Made when first used: it belongs to the event loop, and clients are made on a thread."""
        return grpc.aio.insecure_channel(self._target, channel_options([self._protobuf_service]))

    async def close(self) -> None:
        """Closes the connection."""
        await self.channel.close()

    async def call(
        self, method: grpc.aio.UnaryUnaryMultiCallable[Q, R], request: Q, deadline: Deadline
    ) -> R:
        """Makes a call within the deadline, under the request id of the call being served.

        Raises:
            TandemError: it failed; see `translate`.
        """
        try:
            response = await method(
                request,
                timeout=deadline.remaining(),
                metadata=((REQUEST_ID_HEADER, request_id.get()),),
            )
        except grpc.aio.AioRpcError as error:
            failure = errors.from_rpc(error)
            if failure.code not in _CALLERS_MISTAKES:
                log.warning("service call failed", service=self.name, error=str(failure))
            raise translate(failure, self.name) from error
        self._compare(response.bundle_version)
        return response

    def _compare(self, version: str) -> None:
        if version not in self._noticed:
            self._noticed.add(version)
            log.warning(
                "service has another bundle",
                service=self.name,
                theirs=version,
                ours=self._bundle_version,
            )


class CandidateClient(ServiceClient):
    """Calls the candidate service."""

    def __init__(self, target: str, bundle_version: str) -> None:
        super().__init__("candidate", "tandem.v1.CandidateService", target, bundle_version)

    @cached_property
    def _stub(self) -> "candidate_grpc.CandidateServiceAsyncStub":
        return candidate_grpc.CandidateServiceStub(self.channel)

    async def search(self, request: Request, count: int, deadline: Deadline) -> Ranked:
        """Shortlists `count` items."""
        query = request.query
        message = candidate_pb.SearchRequest(
            history_item_ids=request.history,
            max_results=count,
            excluded_item_ids=query.excluded,
            filter=filter_message(query.filter) if query.filter else None,
            include_seen=query.include_seen,
        )
        response = await self.call(self._stub.Search, message, deadline)
        return _ranked(response.items, response.missing_item_ids)

    async def similar(
        self, message: candidate_pb.SimilarRequest, deadline: Deadline
    ) -> candidate_pb.SimilarResponse:
        """Passes a similarity query on."""
        return await self.call(self._stub.Similar, message, deadline)


class GeneratorClient(ServiceClient):
    """Calls the generator service."""

    def __init__(self, target: str, bundle_version: str) -> None:
        super().__init__("generator", "tandem.v1.GeneratorService", target, bundle_version)

    @cached_property
    def _stub(self) -> "generator_grpc.GeneratorServiceAsyncStub":
        return generator_grpc.GeneratorServiceStub(self.channel)

    async def rerank(self, request: Request, items: Sequence[str], deadline: Deadline) -> Ranked:
        """Scores given items."""
        message = generator_pb.RerankRequest(context=_context(request), item_ids=items)
        response = await self.call(self._stub.Rerank, message, deadline)
        return _ranked(response.items, response.missing_item_ids)

    async def generate(self, request: Request, count: int, deadline: Deadline) -> Ranked:
        """Generates `count` items."""
        query = request.query
        message = generator_pb.GenerateRequest(
            context=_context(request),
            max_results=count,
            excluded_item_ids=query.excluded,
            filter=filter_message(query.filter) if query.filter else None,
            include_seen=query.include_seen,
        )
        response = await self.call(self._stub.Generate, message, deadline)
        return _ranked(response.items, response.missing_item_ids)


def translate(failure: errors.Error, service: str) -> TandemError:
    """What a service's failure is to the gateway's caller.

    A mistake in the request is the caller's, reason and all. Trouble of the service names it, but
    not its address or the text of its error.
    """
    code = failure.code
    if mistake := _CALLERS_MISTAKES.get(code):
        error = mistake(failure.message, reason=failure.reason or code.name)
        error.metadata = failure.metadata
        return error
    match code:
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return Overloaded(
                f"the {service} service is overloaded",
                reason=failure.reason or code.name,
                retry_after=failure.retry_after or 0.1,
                service=service,
            )
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineExceeded(
                f"the {service} service did not answer within the caller's deadline",
                reason=code.name,
                service=service,
            )
        case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.CANCELLED:
            return Unavailable(
                f"the {service} service cannot be reached",
                reason=failure.reason or "SERVICE_UNAVAILABLE",
                service=service,
            )
        case _:
            return ServiceFailed(
                f"the {service} service failed; its log has this request id",
                reason="SERVICE_FAILED",
                service=service,
            )


_CALLERS_MISTAKES: Final[Mapping[grpc.StatusCode, type[TandemError]]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.FAILED_PRECONDITION: PreconditionFailed,
}


def _context(request: Request) -> generator_pb.UserContext:
    return generator_pb.UserContext(user_id=request.query.user_id, history_item_ids=request.history)


def _ranked(items: Iterable[common_pb2.ScoredItem], missing: Iterable[str]) -> Ranked:
    return Ranked(
        items=tuple(Scored(item.item_id, item.score) for item in items), missing=tuple(missing)
    )
