"""Asks the server in this container whether it serves: exit code 0 when it does, 1 when not.

The images have no other client that speaks gRPC's health protocol (grpc.health.v1).
"""

import os
import sys
from typing import Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

SECONDS: Final = 3.0
"""Less than the images' HEALTHCHECK allows, so that this says why before it is killed."""


def main() -> None:
    """Checks the server at `TANDEM_PORT`, all of its services together."""
    with grpc.insecure_channel(f"127.0.0.1:{os.environ['TANDEM_PORT']}") as channel:
        health = health_pb2_grpc.HealthStub(channel)
        try:
            answer = health.Check(health_pb2.HealthCheckRequest(), timeout=SECONDS)
        except grpc.RpcError as error:
            sys.exit(f"no answer: {error.code().name}")
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        sys.exit(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


if __name__ == "__main__":
    main()
