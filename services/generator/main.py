"""The generator process."""

from functools import partial

from prometheus_client import CollectorRegistry

from services.generator.metrics import GeneratorMetrics
from services.generator.servicer import GeneratorServicer
from services.generator.settings import GeneratorSettings
from serving.bundles.named import NamedBundle
from serving.server import Api, Service, run
from tandem.v1 import generator_service_pb2_grpc


def main(settings: GeneratorSettings) -> None:
    """Serves the generator of a bundle until it is told to stop."""
    run(service(settings), settings)


def service(settings: GeneratorSettings) -> Service:
    """What the process serves."""
    registry = CollectorRegistry()
    metrics = GeneratorMetrics(registry)
    load = partial(GeneratorServicer.load, settings=settings, metrics=metrics)
    return Service(
        process="generator",
        apis=[
            Api(
                "tandem.v1.GeneratorService",
                generator_service_pb2_grpc.add_GeneratorServiceServicer_to_server,
            )
        ],
        bundles={"": NamedBundle(settings.bundle, load)},
        registry=registry,
    )
