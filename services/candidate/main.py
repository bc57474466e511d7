"""The candidate process."""

from typing import Final

from prometheus_client import CollectorRegistry

from core.bundle import Bundle
from services.candidate.metrics import CandidateMetrics
from services.candidate.servicer import CandidateServicer
from services.candidate.settings import CandidateSettings
from serving.bundles.named import NamedBundle
from serving.server import Api, Service, run
from tandem.v1 import candidate_service_pb2_grpc, catalog_service_pb2_grpc

APIS: Final = (
    Api(
        "tandem.v1.CandidateService",
        candidate_service_pb2_grpc.add_CandidateServiceServicer_to_server,
    ),
    Api(
        "tandem.v1.CatalogService",
        catalog_service_pb2_grpc.add_CatalogServiceServicer_to_server,
        lambda servicer: servicer.catalog,
    ),
)


def main(settings: CandidateSettings) -> None:
    """Serves the candidates of a bundle until it is told to stop."""
    run(service(settings), settings)


def service(settings: CandidateSettings) -> Service:
    """What the process serves."""
    registry = CollectorRegistry()
    load = Loader(settings, CandidateMetrics(registry))
    bundles = {"": NamedBundle(settings.bundle, load)}
    return Service(process="candidate", apis=APIS, bundles=bundles, registry=registry)


class Loader:
    """Loads one version of the bundle after another; only the first opens the store, which the
    others take over from it."""

    def __init__(self, settings: CandidateSettings, metrics: CandidateMetrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._opened = False

    def __call__(self, bundle: Bundle) -> CandidateServicer:
        """See `CandidateServicer.load`."""
        settings = self._settings
        store, self._opened = None if self._opened else settings.store, True
        return CandidateServicer.load(
            bundle,
            threads=settings.compute_threads,
            store=store,
            rebase=settings.rebase_store,
            index_uri=settings.index_uri,
            metrics=self._metrics,
        )
