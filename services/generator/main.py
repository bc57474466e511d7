"""The generator process."""

from services.generator.servicer import GeneratorServicer
from services.generator.settings import GeneratorSettings
from serving.server import Service, run
from tandem.v1 import generator_service_pb2_grpc


def main(settings: GeneratorSettings) -> None:
    """Serves the generator of a bundle until it is told to stop."""
    run(
        Service(
            process="generator",
            name="tandem.v1.GeneratorService",
            attach=generator_service_pb2_grpc.add_GeneratorServiceServicer_to_server,
            load=lambda bundle: GeneratorServicer.load(bundle, settings),
        ),
        settings,
    )
