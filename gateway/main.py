"""The gateway's process."""

from prometheus_client import CollectorRegistry

from gateway.metrics import GatewayMetrics
from gateway.quotas import quotas_of
from gateway.servicer import RecommendationServicer
from gateway.settings import GatewaySettings
from gateway.shared import Shared
from serving.bundles.held import HeldBundles
from serving.server import Api, Service, run
from tandem.v1 import recommendation_service_pb2_grpc


def main(settings: GatewaySettings) -> None:
    """Serves until SIGTERM."""
    run(service(settings), settings)


def service(settings: GatewaySettings) -> Service:
    """What the process serves."""
    registry = CollectorRegistry()
    held = HeldBundles()
    shared = Shared(settings, GatewayMetrics(registry), held)
    return Service(
        process="gateway",
        apis=[
            Api(
                "tandem.v1.RecommendationService",
                recommendation_service_pb2_grpc.add_RecommendationServiceServicer_to_server,
            )
        ],
        load=lambda bundle: RecommendationServicer(bundle, shared),
        close=shared.close,
        registry=registry,
        quotas=quotas_of(settings),
        held=held,
    )
