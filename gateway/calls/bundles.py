"""Versions of the bundle in the processes behind the gateway: all of them load, then all change."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import grpc
import structlog

from core.errors import TandemError
from gateway.calls.caller import Caller
from gateway.calls.failures import translate, unknown
from serving.telemetry.request_id import REQUEST_ID_HEADER, request_id
from tandem import errors
from tandem.v1 import bundle_service_pb2 as pb
from tandem.v1 import bundle_service_pb2_grpc as pb_grpc

log = structlog.get_logger()

SECONDS: Final = 600.0
"""How long a process may take to verify, load and warm a version, or to activate one: a minute for
a million changes of the catalog."""


class ServiceBundles:
    """Has every address of each service load or activate a version.

    Args:
        services: in the order in which versions are activated: the generator follows the catalog of
            the candidate, which therefore comes first.
    """

    def __init__(self, *services: Caller[Any]) -> None:
        self._services = services

    async def load(self, version: str) -> None:
        """Has all of them load a version.

        Raises:
            TandemError: one cannot; those that can have it.
        """
        request = pb.LoadBundleRequest(bundle_version=version)
        await asyncio.gather(*(_ask(service, "LoadBundle", request) for service in self._services))

    async def activate(self, version: str, before: str) -> None:
        """Has all of them serve a version that they have loaded.

        Raises:
            TandemError: one cannot. All have been asked to serve the one before again.
        """
        try:
            for service in self._services:
                await _activate(service, version)
        except TandemError:
            undone = [_activate(service, before) for service in self._services]
            for outcome in await asyncio.gather(*undone, return_exceptions=True):
                if isinstance(outcome, BaseException):
                    log.warning("bundle not activated again", bundle=before, error=str(outcome))
            raise


async def _activate(service: Caller[Any], version: str) -> None:
    await _ask(service, "ActivateBundle", pb.ActivateBundleRequest(bundle_version=version))


async def _ask(service: Caller[Any], rpc: str, request: object) -> None:
    """Makes a call of `BundleService` at every address of a service.

    Raises:
        TandemError: one of them failed, or no address is known.
    """
    channels = await service.targets.channels()
    if not channels:
        raise unknown(service.service)
    metadata = ((REQUEST_ID_HEADER, request_id.get()),)
    calls: Sequence[Any] = [getattr(pb_grpc.BundleServiceStub(each), rpc) for each in channels]
    try:
        await asyncio.gather(*(call(request, timeout=SECONDS, metadata=metadata) for call in calls))
    except grpc.aio.AioRpcError as error:
        raise translate(errors.from_rpc(error), service.service) from error
