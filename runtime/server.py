"""The life of a server: load, warm, serve, drain.

The port is bound before the bundle is loaded, so that health checks answer NOT_SERVING, rather
than being refused, while it loads.
"""

import gc
from collections.abc import Callable

import grpc
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection

from runtime.interceptors import Boundary
from runtime.settings import ServerSettings

log = structlog.get_logger()

Ready = Callable[[int], None]
"""Called with the port once the server answers."""


class ServiceHost:
    """A gRPC server with health, reflection and a graceful end, around one Tandem service."""

    def __init__(self, settings: ServerSettings, service: str) -> None:
        self.settings = settings
        self.service = service
        self.server = grpc.aio.server(
            interceptors=[Boundary()],
            maximum_concurrent_rpcs=settings.max_concurrent_rpcs,
            options=[
                ("grpc.max_receive_message_length", settings.max_message_bytes),
                ("grpc.so_reuseport", 0),  # a second server on the port is a mistake, not a helper
            ],
        )
        self.health = health_aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self.server)
        names = (service, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name)
        reflection.enable_server_reflection((*names, reflection.SERVICE_NAME), self.server)

    async def start(self) -> int:
        """Binds the port and answers health checks with NOT_SERVING. Returns the port."""
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        address = f"{self.settings.host}:{self.settings.port}"
        port = self.server.add_insecure_port(address)
        await self.server.start()
        log.info("listening", host=self.settings.host, port=port)
        return port

    async def ready(self) -> None:
        """Announces that the service is warm."""
        # What was loaded stays: the collector must not walk it during a request (100 ms stalls).
        gc.collect()
        gc.freeze()
        await self._set_health(health_pb2.HealthCheckResponse.SERVING)
        log.info("serving", service=self.service)

    async def drain(self) -> None:
        """Turns new calls away and lets those in flight end."""
        log.info("draining", seconds=self.settings.drain_seconds)
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        await self.server.stop(self.settings.drain_seconds)
        log.info("stopped")

    async def _set_health(self, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        for name in ("", self.service):
            await self.health.set(name, status)
