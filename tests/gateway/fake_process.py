"""Serves a fake engine service in a process of its own, with the life that all servers have.

python -m tests.gateway.fake_process candidate --bundle PATH --port 0 --port-file FILE
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.bundle import Bundle
from serving.bundles.named import NamedBundle
from serving.server import Api, Service, run
from serving.settings import ServerSettings, load_settings
from tandem.v1 import (
    candidate_service_pb2_grpc,
    catalog_service_pb2_grpc,
    generator_service_pb2_grpc,
)
from tests.gateway.fakes import FakeCandidate, FakeGenerator

SERVICES: dict[str, tuple[Sequence[Api], Any]] = {
    "candidate": (
        [
            Api(
                "tandem.v1.CandidateService",
                candidate_service_pb2_grpc.add_CandidateServiceServicer_to_server,
            ),
            Api(
                "tandem.v1.CatalogService",
                catalog_service_pb2_grpc.add_CatalogServiceServicer_to_server,
            ),
        ],
        FakeCandidate,
    ),
    "generator": (
        [
            Api(
                "tandem.v1.GeneratorService",
                generator_service_pb2_grpc.add_GeneratorServiceServicer_to_server,
            )
        ],
        FakeGenerator,
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("service", choices=SERVICES)
    parser.add_argument("--bundle")
    parser.add_argument("--port")
    parser.add_argument("--port-file")
    parser.add_argument("--drain-seconds")
    parser.add_argument("--channelz")
    for setting in ("host", "keys-file", "tls-certificate", "tls-key", "tls-client-authority"):
        parser.add_argument(f"--{setting}")
    parser.add_argument("--load-gate", type=Path, help="loading ends once this file exists")
    parser.add_argument("--signal-file", type=Path, help="made when a call waits")
    arguments = vars(parser.parse_args())
    service, gate = arguments.pop("service"), arguments.pop("load_gate")
    signal_file = arguments.pop("signal_file")
    apis, fake = SERVICES[service]

    def load(bundle: Bundle) -> Any:
        while gate is not None and not gate.exists():
            time.sleep(0.01)
        return fake(bundle, signal_file)

    settings = load_settings(ServerSettings, **arguments)
    run(Service(service, apis, {"": NamedBundle(settings.bundle, load)}), settings)


if __name__ == "__main__":
    main()
