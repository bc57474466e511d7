"""The gateway's process."""

from prometheus_client import CollectorRegistry

from gateway.metrics import GatewayMetrics
from gateway.quotas import quotas_of
from gateway.servicer import RecommendationServicer
from gateway.settings import GatewaySettings
from gateway.shared import Common, Shared
from serving.bundles.named import NamedBundle
from serving.server import Api, Service, run
from tandem.v1 import recommendation_service_pb2_grpc


def main(settings: GatewaySettings) -> None:
    """Serves until SIGTERM."""
    run(service(settings), settings)


def service(settings: GatewaySettings) -> Service:
    """What the process serves."""
    registry = CollectorRegistry()
    named = settings.of_bundles
    common = Common(settings, GatewayMetrics(registry, named))
    return Service(
        process="gateway",
        apis=[
            Api(
                "tandem.v1.RecommendationService",
                recommendation_service_pb2_grpc.add_RecommendationServiceServicer_to_server,
            )
        ],
        bundles={name: _bundle(Shared(own, common, name)) for name, own in named.items()},
        close=common.close,
        registry=registry,
        quotas=quotas_of(settings),
    )


def _bundle(shared: Shared) -> NamedBundle:
    return NamedBundle(
        shared.settings.bundle, lambda bundle: RecommendationServicer(bundle, shared), shared.held
    )
