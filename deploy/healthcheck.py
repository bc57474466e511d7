"""Asks the server in this container whether it serves: exit code 0 when it does, 1 when not.

The images have no other client that speaks gRPC's health protocol (grpc.health.v1).
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

SECONDS: Final = 3.0
"""Less than the images' HEALTHCHECK allows, so that this says why before it is killed."""


def main(environment: Mapping[str, str] = os.environ) -> None:
    """Checks the server at `TANDEM_PORT`, all of its services together."""
    try:
        channel = _channel(int(environment["TANDEM_PORT"]), environment)
    except (OSError, ValueError) as error:
        sys.exit(f"no answer: {error}")
    with channel:
        health = health_pb2_grpc.HealthStub(channel)
        try:
            answer = health.Check(health_pb2.HealthCheckRequest(), timeout=SECONDS)
        except grpc.RpcError as error:
            sys.exit(f"no answer: {error.code().name}")
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        sys.exit(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


def _channel(port: int, environment: Mapping[str, str]) -> grpc.Channel:
    address = f"127.0.0.1:{port}"
    certificate, key = (environment.get(f"TANDEM_TLS_{file}") for file in ("CERTIFICATE", "KEY"))
    if not certificate or not key:
        return grpc.insecure_channel(address)
    from serving.security.own import own_credentials  # it takes a while, and is seldom needed

    credentials, options = own_credentials("127.0.0.1", port, Path(certificate), Path(key))
    return grpc.secure_channel(address, credentials, options)


if __name__ == "__main__":
    main()
