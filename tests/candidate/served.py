"""The candidate's process as its callers see it: two services at one address."""

from typing import TYPE_CHECKING

import grpc

from services.candidate.main import APIS
from services.candidate.servicer import CandidateServicer
from tandem.v1 import candidate_service_pb2_grpc, catalog_service_pb2_grpc

if TYPE_CHECKING:
    from tandem.v1.candidate_service_pb2_grpc import CandidateServiceAsyncStub
    from tandem.v1.catalog_service_pb2_grpc import CatalogServiceAsyncStub


def attach(servicer: CandidateServicer, server: grpc.aio.Server) -> None:
    """Adds both services to a server."""
    for api in APIS:
        api.attach(api.part(servicer), server)


class Stub:
    """The methods of both services."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        candidate: CandidateServiceAsyncStub = candidate_service_pb2_grpc.CandidateServiceStub(
            channel
        )
        catalog: CatalogServiceAsyncStub = catalog_service_pb2_grpc.CatalogServiceStub(channel)
        self.Search, self.Similar = candidate.Search, candidate.Similar
        self.UpsertItems, self.DeleteItems = catalog.UpsertItems, catalog.DeleteItems
        self.GetItems, self.ListItems = catalog.GetItems, catalog.ListItems
        self.WatchItems = catalog.WatchItems
